"""`device provision` over both cables onto devices without a usable Python, and a trial with what it brought.

The devices' shells say aarch64 and the kernel runs ARM programs through qemu-user (binfmt_misc, registered for these
tests alone), so a real ARM Python, numpy and onnxruntime answer. It shows that the runtime is complete and that the
journey works, not that a phone's kernel and SELinux rules let it start. Needs network, root and qemu-user-static.
"""
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.lab import faults
from harness.lab.lab import Lab
from harness.runtimes import aarch64_bundle
from tests import lab_kit
from tests.e2e.spine import edgefleet, query
from tests.lab.conftest import CAMPAIGN, PLUGINS

MIN_SAMPLES = 5


@pytest.fixture(scope="module")
def archive() -> Path:
    """Kept beside adbd: it is 50 MB of download."""
    try:
        return aarch64_bundle.archive(lab_kit.CACHE / "runtimes", print)
    except ConfigError as error:
        pytest.skip(str(error))


def pretends_to_be_arm(lab: Lab, name: str) -> None:
    lab.box(name).enter("/bin/sh", "-c", "printf '#!/bin/sh\\necho aarch64\\n' > /usr/local/bin/uname; "
                                         "chmod 755 /usr/local/bin/uname")


@pytest.fixture
def fleet(lab: Lab, name: str, archive: Path, arm_programs_run: None, tiny_home: Path,
          tmp_path: Path) -> Iterator[Path]:
    """The lab's fleet file, in which the device has no Python that starts."""
    pretends_to_be_arm(lab, name)
    (tiny_home / "cache/runtimes").mkdir(parents=True)
    (tiny_home / "cache/runtimes" / archive.name).hardlink_to(archive)
    path = tmp_path / "fleet.toml"
    head, mine, rest = lab.fleet.read_text().partition(f"[devices.{name}]\n")
    path.write_text(head + mine + re.sub(r'^python = .*$', 'python = "/no/python3"', rest, count=1, flags=re.M))
    yield path
    lab.box(name).enter("rm", "-rf", "/usr/local/bin/uname", "/home/device/.edgefleet-agent",
                        "/data/local/tmp/edgefleet")


def test_a_device_without_python_gets_one_and_runs_a_trial(
        lab: Lab, name: str, fleet: Path, tiny_home: Path, tmp_path: Path) -> None:
    without = edgefleet("doctor", name, "--fleet", fleet, home=tiny_home)
    assert without.returncode == 3
    assert f"edgefleet device provision {name}" in without.stdout
    done = edgefleet("device", "provision", name, "--fleet", fleet, home=tiny_home, timeout_s=300.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bundle" in done.stdout
    again = edgefleet("device", "provision", name, "--fleet", fleet, home=tiny_home, timeout_s=300.0)
    assert again.returncode == 0 and " 0.0\n" in again.stdout, again.stdout + again.stderr
    path = tmp_path / "arm.toml"
    path.write_text(CAMPAIGN.format(repeats=1, fleet=fleet, plugins=PLUGINS, devices=f'["{name}", "host"]',
                                    duration_s=2.0)
                    .replace("hz = 50", "hz = 10").replace("warmup_s", 'late = "serve"\nwarmup_s'))
    fleet.write_text(fleet.read_text() + "\n[devices.host]\n")
    ran = edgefleet("run", path, "--scheduler", "inline", home=tiny_home, timeout_s=280.0)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    here, there = predictions(tiny_home, "host"), predictions(tiny_home, name)
    both = here.keys() & there.keys()
    assert len(both) >= MIN_SAMPLES and {one: here[one] for one in both} == {one: there[one] for one in both}


def predictions(home: Path, device: str) -> dict[int, int]:
    """sample -> predicted class, of what was served"""
    rows = query(home, "select i.sample, i.label from inference i join trial t on t.id = i.trial "
                       f"where t.device = '{device}' and i.status = 'ok' and i.branch = 'full'")
    return {row[0]: row[1] for row in rows}


def test_a_full_disk_leaves_nothing_torn(lab: Lab, name: str, fleet: Path, tiny_home: Path) -> None:
    faults.inject(lab, name, "disk-full")
    done = edgefleet("device", "provision", name, "--fleet", fleet, home=tiny_home, timeout_s=120.0)
    assert done.returncode == 3 and "its disk is full" in done.stdout, done.stdout + done.stderr
    faults.inject(lab, name, "restore")
    left = lab.box(name).enter("find", "/home/device", "/data/local/tmp", "-name", "*.part")
    assert left.stdout == b""
