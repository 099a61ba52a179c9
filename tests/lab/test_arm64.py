"""A whole 64-bit ARM Debian under qemu-user as a device: the agent, `device provision` with aarch64 wheels, and parity.

`make lab-arm64`, on demand: the root file system is made by mmdebstrap (minutes; kept beside adbd) and lies behind a
native sshd with ChrootDirectory, so that every command over there is an ARM program. It shows that what is computed is
the same, and nothing about speed. Needs root, network, mmdebstrap and qemu-user-static; skips with the reason.
"""
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import apt
from harness.lab.lab import Lab
from tests import lab_kit
from tests.e2e.spine import edgefleet, query
from tests.lab.conftest import CAMPAIGN, PLUGINS
from tests.lab.test_provision import MIN_SAMPLES, predictions

pytestmark = pytest.mark.arm64
JAIL = Path("/run/edgefleet-arm64")             # sshd wants a path that nobody but root may write to
MAKE_S = 1200.0
SUBSYSTEMS = ("proc", "dev")


@pytest.fixture(scope="module")
def root_file_system(arm_programs_run: None) -> Path:
    """Debian for arm64 with a Python, made once."""
    folder = lab_kit.CACHE / f"arm64-{apt.SUITE}"
    if folder.is_dir():
        return folder
    missing = [name for name in ("mmdebstrap", "arch-test") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    part = folder.with_name(folder.name + ".part.tar")
    lab_kit.CACHE.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mmdebstrap", "--arch=arm64", "--variant=minbase",
                           "--include=python3-minimal,libpython3-stdlib",
                           apt.SUITE, part, apt.mirror(Path("/etc/apt"))], capture_output=True, text=True,
                          timeout=MAKE_S, check=False)
    if done.returncode:
        pytest.skip(f"mmdebstrap: {done.stderr.strip().splitlines()[-1]}")
    unpacked = folder.with_name(folder.name + ".part")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    subprocess.run(["tar", "xf", part, "-C", unpacked], check=True)
    part.unlink()
    unpacked.rename(folder)
    return folder


@pytest.fixture
def jail(root_file_system: Path) -> Iterator[Path]:
    """The same, where sshd accepts it, with /proc and /dev; not /sys, whose x86 cores would mislead ARM libraries."""
    JAIL.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", root_file_system, JAIL], check=True)
    for name in SUBSYSTEMS:
        subprocess.run(["mount", "--rbind", f"/{name}", JAIL / name], check=True)
        subprocess.run(["mount", "--make-rslave", JAIL / name], check=True)     # or what ends here would end there
    yield JAIL
    for name in SUBSYSTEMS:
        subprocess.run(["umount", "--lazy", "--recursive", JAIL / name], check=False)
    shutil.rmtree(JAIL / "var/tmp/edgefleet", ignore_errors=True)
    subprocess.run(["umount", "--lazy", JAIL], check=True)
    JAIL.rmdir()


def imprison(lab: Lab, jail: Path) -> None:
    """The lab's one sshd puts whoever logs in into the jail."""
    folder = lab.folder / "devices" / lab.members[0].name
    with (folder / "sshd_config").open("a") as config:
        config.write(f"ChrootDirectory {jail}\n")
    os.kill(int((folder / "sshd.pid").read_text()), signal.SIGHUP)


def test_the_same_answers_on_arm(jail: Path, tiny_home: Path, tmp_path: Path) -> None:
    with lab_kit.running(tmp_path / "lab", 1, 0, loopback=True) as (lab, devices):
        imprison(lab, jail)
        [spec] = devices.values()
        fleet = tmp_path / "fleet.toml"
        fleet.write_text(f'[devices.arm]\ntransport = "ssh"\nhost = "{spec.host}"\nport = {spec.port}\n'
                         f'ssh_config = "{spec.ssh_config}"\nhome = "/var/tmp/edgefleet"\n[devices.host]\n')
        done = edgefleet("device", "provision", "arm", "--fleet", fleet, home=tiny_home, timeout_s=600.0)
        assert done.returncode == 0 and "wheels" in done.stdout, done.stdout + done.stderr
        path = tmp_path / "arm.toml"
        path.write_text(CAMPAIGN.format(repeats=1, fleet=fleet, plugins=PLUGINS, devices='["arm", "host"]',
                                        duration_s=4.0)
                        .replace("hz = 50", "hz = 5").replace("warmup_s", 'late = "serve"\nwarmup_s'))
        ran = edgefleet("run", path, "--scheduler", "inline", home=tiny_home, timeout_s=600.0)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert query(tiny_home, "select json_extract(facts, '$.machine') from device where name = 'arm'") == [("aarch64",)]
    here, there = predictions(tiny_home, "host"), predictions(tiny_home, "arm")
    both = here.keys() & there.keys()
    assert len(both) >= MIN_SAMPLES and {one: here[one] for one in both} == {one: there[one] for one in both}
