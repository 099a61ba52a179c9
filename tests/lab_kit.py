"""A lab for tests: what this machine can have of one, and where adbd is kept between runs."""
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.fleet import DeviceSpec, load_fleet
from harness.lab import adbd_build, lab
from harness.lab.sshd import PLACES

#: outside every temporary folder: building adbd takes a minute
CACHE = Path(os.environ.get("EDGEFLEET_LAB_CACHE") or Path(__file__).parents[1] / "build" / "lab")


def no_sshd() -> str:
    """Why there can be no loopback device, or ''."""
    return "" if shutil.which("sshd", path=PLACES) and shutil.which("ssh-keygen") else "OpenSSH is not installed"


def no_namespaces() -> str:
    """Why there can be no device in a namespace, or ''."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    missing = [name for name in ("ip", "unshare", "nsenter", "mount") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else no_sshd()


def no_phone() -> str:
    """Why there can be no phone without building its adbd first, or ''."""
    if no_namespaces():
        return no_namespaces()
    if shutil.which("adb") is None:
        return "adb is not installed"
    return "" if (CACHE / f"adbd-{adbd_build.VERSION}" / "adbd").is_file() else "adbd is not built; make lab builds it"


@contextmanager
def running(folder: Path, ssh: int, adb: int,
            loopback: bool = False) -> Iterator[tuple[lab.Lab, dict[str, DeviceSpec]]]:
    """A lab and the devices of its fleet.toml; down when the block ends, whatever happened in it."""
    made = lab.up(folder, ssh, adb, CACHE, print, unprivileged=loopback)
    try:
        yield made, load_fleet(made.fleet).devices
    finally:
        lab.down(folder)
