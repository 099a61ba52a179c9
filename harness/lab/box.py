"""One lab device as a machine: its root file system, namespaces, control group and first process.

Used by lab.py and faults.py; needs root. The root is an overlay: below it this machine's own files, above it a tmpfs of
limited size that only this device writes to, so that /home, /data and /usr/bin are its own and its disk can fill up.
It has its own /proc, /sys (fixtures), hostname, boot id and process numbers; killing its first process ends all of it.
"""
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from harness.errors import ConfigError
from harness.lab.cgroup import Cgroup

START_S = 20.0
END_S = 10.0
ENTER_S = 60.0
_ITS_OWN = ("/tmp", "/run")  # tmpfs on every device

_INIT = """\
set -e
root={folder}/root
hostname {name}
mount -t overlay -o lowerdir=/,upperdir={folder}/disk/upper,workdir={folder}/disk/work overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind {folder}/sys "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
{binds}mount --bind {folder}/boot_id "$root/proc/sys/kernel/random/boot_id"
mkdir -p "$root/run/sshd"
touch {folder}/ready
exec chroot "$root" /bin/sh -c {services}
"""

# A service that dies is started again, as an init system does; `wait` buries what others left.
_KEEP = "while :; do {command}; sleep 0.2; done"


class Box:
    """`folder` holds all that the device is made of. `files` maps paths on the device to text; a leading #! makes a
    program of it. `sys_files` is its /sys. `services` are shell commands that stay in the foreground."""

    def __init__(self, name: str, folder: Path, namespace: str, tag: str) -> None:
        self.name, self.folder, self.namespace = name, folder, namespace
        self.cgroup = Cgroup(f"{tag}/{name}")

    def create(self, files: Mapping[str, str], sys_files: Mapping[str, str], disk_mb: int,
               services: Sequence[str]) -> None:
        for name in ("disk", "root", "sys"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={disk_mb}m,mode=755", "tmpfs", str(self.folder / "disk"))
        for name in ("upper", "work"):
            (self.folder / "disk" / name).mkdir()
        write_tree(self.folder / "disk" / "upper", files)
        write_tree(self.folder / "sys", {**_cpu_list(), **sys_files})
        keep = "\n".join(f"({_KEEP.format(command=command)}) &" for command in services)
        script = _INIT.format(folder=shlex.quote(str(self.folder)), name=self.name, binds=_binds(),
                              services=shlex.quote(f"{keep}\nwhile :; do wait; done"))
        (self.folder / "init.sh").write_text(script)
        self.new_boot_id()
        self.cgroup.create()

    def start(self) -> int:
        """Boot it; returns when its services are being started. The number of the process that holds it all."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        inside = ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "--uts", "--pid", "--ipc", "--fork",
                  "--kill-child", "/bin/sh", str(self.folder / "init.sh")]
        with (self.folder / "console.log").open("ab") as console:
            process = subprocess.Popen(["/bin/sh", "-c", f"{self.cgroup.enter_command()}; exec {shlex.join(inside)}"],
                                       stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd="/",
                                       start_new_session=True)
        give_up = time.monotonic() + START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > give_up:
                tail = (self.folder / "console.log").read_text(errors="replace").strip().splitlines()[-3:]
                raise ConfigError(f"lab device {self.name} does not start: {' / '.join(tail) or 'no message'}")
            time.sleep(0.01)
        return process.pid

    def stop(self) -> None:
        """Everything that runs in it ends at once, as when the power goes."""
        self.cgroup.freeze(False)
        give_up = time.monotonic() + END_S
        while pids := self.cgroup.pids():
            for pid in pids:
                _kill(pid)
            if time.monotonic() > give_up:
                raise ConfigError(f"lab device {self.name}: processes {pids} do not end; try again")
            time.sleep(0.01)

    def destroy(self) -> None:
        self.stop()
        while subprocess.run(["umount", str(self.folder / "disk")], capture_output=True, check=False).returncode == 0:
            pass                                # once for each time that it was mounted
        self.cgroup.remove()

    def enter(self, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command inside, as its own root would. Raises ConfigError when it does not end."""
        inside = ["nsenter", "--target", str(self._first_pid()), "--mount", "--uts", "--net", "--pid", "--ipc",
                  "--root", "--wd", *argv]
        process = subprocess.Popen(["/bin/sh", "-c", f"{self.cgroup.enter_command()}; exec {shlex.join(inside)}"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        try:
            out, err = process.communicate(stdin, timeout=ENTER_S)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # nsenter's child, too: it is what runs inside
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise ConfigError(f"lab device {self.name}: {argv[0]} does not end within {ENTER_S:g} s; "
                              f"type: edgefleet lab fault {self.name} restore") from None
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def processes(self, word: str) -> list[psutil.Process]:
        """Processes inside whose command line has `word`, as this machine sees them; the oldest first."""
        found = []
        for pid in self.cgroup.pids():
            try:
                process = psutil.Process(pid)
                if any(word in part for part in process.cmdline()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return sorted(found, key=lambda one: one.create_time())

    def new_boot_id(self) -> None:
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")

    def _first_pid(self) -> int:
        """The device's own process 1: the child of unshare."""
        for process in self.processes("unshare"):
            children = process.children()
            if children:
                return int(children[0].pid)
        raise ConfigError(f"lab device {self.name} does not run; type: edgefleet lab down, then up")


def write_tree(root: Path, files: Mapping[str, str]) -> None:
    """Files in place, never by rename: a reader may hold them open, and a mount may show this very inode."""
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)


def _cpu_list() -> dict[str, str]:
    """What libraries read to count cores."""
    folder = Path("/sys/devices/system/cpu")
    names = ("online", "possible", "present", "kernel_max")
    return {f"devices/system/cpu/{name}": (folder / name).read_text() for name in names if (folder / name).is_file()}


def _binds() -> str:
    """The interpreter's folders that a device would not see: on another file system, which an overlay of / does not
    show, or below a folder that the device has for itself."""
    prefixes = {Path(sys.prefix), Path(sys.base_prefix)}
    wanted = prefixes | {Path(folder) for folder in sys.path if folder and Path(folder).is_dir()}
    apart = sorted({path for path in wanted if os.stat(path).st_dev != os.stat("/").st_dev}  # noqa: PTH116
                   | {path for path in prefixes if any(path.is_relative_to(folder) for folder in _ITS_OWN)})
    return "".join(f'mkdir -p "$root"{shlex.quote(str(path))}; mount --rbind {shlex.quote(str(path))} '
                   f'"$root"{shlex.quote(str(path))}\n' for path in apart)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"the lab cannot {shlex.join(argv)}: {done.stderr.strip()}")
