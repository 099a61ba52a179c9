"""One lab for all tests of this folder: two boards and a phone, mended after each test. Skips, with the reason, without
root; builds adbd once (see lab_kit.CACHE)."""
import shutil
import subprocess
from collections.abc import Iterator
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

BOARD, OTHER_BOARD, PHONE = "lab-nano-a", "lab-orin-a", "lab-phone-a"

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
    with lab_kit.running(tmp_path_factory.mktemp("lab") / "lab", 2, 0 if lab_kit.no_phone() else 1) as made:
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


@pytest.fixture(scope="session")
def arm_programs_run() -> Iterator[None]:
    """The kernel starts ARM programs while these tests last."""
    qemu = shutil.which("qemu-aarch64-static")
    if qemu is None:
        pytest.skip("qemu-user-static is not installed")
    if any(path.name.startswith("qemu-aarch64") for path in BINFMT.glob("*")):
        yield
        return
    mounts = not (BINFMT / "register").exists()
    if mounts and subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=False).returncode:
        pytest.skip("this kernel has no binfmt_misc")
    (BINFMT / "register").write_text(f":{EMULATOR}:M::{MAGIC[0]}:{MAGIC[1]}:{qemu}:POF")
    yield
    (BINFMT / EMULATOR).write_text("-1")
    if mounts:
        subprocess.run(["umount", BINFMT], check=False)
