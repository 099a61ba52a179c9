"""One lab for all tests of this folder: two boards and two phones, mended after each test. Skips, with the reason,
without root; builds adbd once (see lab_kit.CACHE)."""
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.fleet import DeviceSpec
from harness.lab import adbd_build, faults
from harness.lab.lab import Lab
from harness.transports.adb import AdbTransport
from harness.transports.ssh import SshTransport
from tests import lab_kit

BOARD, OTHER_BOARD, PHONE, OTHER_PHONE = "lab-nano-a", "lab-orin-a", "lab-phone-a", "lab-phone-b"
PLUGINS = Path(__file__).parents[1] / "plugins"
CAMPAIGN = """
name = "lab"
seed = 3
repeats = {repeats}
fleet = "{fleet}"
plugins = "{plugins}"
[matrix]
device = {devices}
task = ["digits"]
model = ["tiny"]
method = ["fixed-full"]
trace = ["idle"]
[methods.fixed-full]
adapter = "fixed"
branch = "full"
[trial]
engine = "onnxruntime_cpu"
arrival = {{ kind = "periodic", rate = {{ hz = 50 }} }}
duration_s = {duration_s}
warmup_s = 0.1
[training]
epochs = 1
"""

BINFMT = Path("/proc/sys/fs/binfmt_misc")
EMULATOR = "edgefleet-test-aarch64"
MAGIC = (r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
         r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff")


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """All of this folder is `lab`, but for what takes minutes of emulation and is run on demand."""
    for item in items:
        if "/lab/" in str(item.path) and item.get_closest_marker("arm64") is None:
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def adbd_built() -> None:
    """Skips where phones cannot be had."""
    if lab_kit.no_namespaces():
        pytest.skip(lab_kit.no_namespaces())
    try:
        adbd_build.adbd(lab_kit.CACHE, print)
    except ConfigError as error:                # no compiler, no Debian: the tests of boards go on
        print(error)


@pytest.fixture(scope="session")
def whole_lab(adbd_built: None, tmp_path_factory: Any) -> Iterator[tuple[Lab, dict[str, DeviceSpec]]]:
    with lab_kit.running(tmp_path_factory.mktemp("lab") / "lab", 2, 0 if lab_kit.no_phone() else 2) as made:
        yield made


@pytest.fixture
def lab(whole_lab: Any) -> Iterator[Lab]:
    made = whole_lab[0]
    yield made
    for member in made.members:
        faults.inject(made, member.name, "restore")
    made.write_known_hosts()


@pytest.fixture
def devices(whole_lab: Any) -> dict[str, DeviceSpec]:
    return dict(whole_lab[1])


@pytest.fixture(params=[BOARD, PHONE])
def name(request: Any, lab: Lab) -> str:
    """A device behind each kind of cable."""
    if request.param not in [member.name for member in lab.members]:
        pytest.skip(lab_kit.no_phone())
    return str(request.param)


@pytest.fixture
def transport(name: str, devices: Any, tmp_path: Any) -> Iterator[Any]:
    """Its transport, connected and proven."""
    made = (AdbTransport if name == PHONE else SshTransport)(devices[name], tmp_path)
    assert made.run(["true"], 20.0).rc == 0
    yield made
    made.close()


@pytest.fixture
def campaign(lab: Lab, tmp_path: Path, monkeypatch: Any) -> Any:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the controller and three devices share two cores

    def write(*devices: str, duration_s: float = 3.0, repeats: int = 1) -> Path:
        path = tmp_path / "lab.toml"
        path.write_text(CAMPAIGN.format(repeats=repeats, fleet=lab.fleet, plugins=PLUGINS,
                                        devices=json.dumps(devices), duration_s=duration_s))
        return path

    return write


@pytest.fixture
def clean_devices(lab: Lab) -> Any:
    """No test finds another's trials: agents are ended and their folders go."""
    yield
    for member in lab.members:
        faults.inject(lab, member.name, "restore")
        box = lab.box(member.name)
        for process in box.processes(".pyz"):
            process.kill()
        box.enter("rm", "-rf", "/home/device/.edgefleet-agent", "/data/local/tmp/edgefleet")


@contextmanager
def with_python(lab: Lab, name: str, tmp_path: Path, before: str = "", sitecustomize: str = "") -> Iterator[Path]:
    """A fleet file in which the device's Python alone is another: a line of shell goes before it, or a module comes
    with it that Python imports at its start."""
    box, there = lab.box(name), "/var/tmp/other-python"
    head, mine, rest = lab.fleet.read_text().partition(f"[devices.{name}]\n")
    stated = re.search(r'^python = "(.*)"$', rest, re.M)
    assert stated is not None
    for file, text in (("sitecustomize.py", sitecustomize),
                       ("python3", f'#!/bin/sh\n{before}\nPYTHONPATH={there} exec {stated[1]} "$@"\n')):
        wrote = box.enter("/bin/sh", "-c", f"mkdir -p {there} && cat > {there}/{file} && chmod -R 755 {there}",
                          stdin=text.encode())
        assert wrote.returncode == 0, wrote.stderr
    fleet = tmp_path / "other-python.toml"
    fleet.write_text(head + mine + rest.replace(stated[0], f'python = "{there}/python3"', 1))
    try:
        yield fleet
    finally:
        box.enter("rm", "-rf", there)


@pytest.fixture(scope="session")
def arm_programs_run() -> Iterator[None]:
    """The kernel starts ARM programs while these tests last."""
    qemu = shutil.which("qemu-aarch64-static")
    if qemu is None:
        pytest.skip("qemu-user-static is not installed")
    if any(path.name.startswith("qemu-aarch64") for path in BINFMT.glob("*")):
        yield
        return
    mount = ["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT]
    if not (BINFMT / "register").exists() and subprocess.run(mount, check=False).returncode:
        pytest.skip("this kernel has no binfmt_misc")
    mine = f"{EMULATOR}-{os.getpid()}"          # of several workers each has its own
    (BINFMT / "register").write_text(f":{mine}:M::{MAGIC[0]}:{MAGIC[1]}:{qemu}:POF")
    yield
    (BINFMT / mine).write_text("-1")            # the mount stays: another worker may use it
