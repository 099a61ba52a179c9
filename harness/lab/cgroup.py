"""The control group of one lab device: memory limit, CPU quota, freezer. Versions 1 and 2 of the kernel's interface.

Used by box.py and faults.py; needs root. A quota is a stall, not a slow processor: it shows contention and throttling,
never another board's speed. Where the kernel offers no controller its limit is left out: whoever relies on that of
memory reads it back (`memory_limit_mb`).
"""
import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
CONTROLLERS = ("cpu", "memory", "freezer", "pids")
CONTROLLERS_V2 = ("cpu", "memory", "pids")      # its freezer is part of every group


class Cgroup:
    """`name` is a path below each hierarchy, such as "ef1a2b/nano". Nothing exists before `create`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._v2 = (ROOT / "cgroup.controllers").is_file()
        self._memory_limit = "memory.max" if self._v2 else "memory.limit_in_bytes"

    def create(self) -> None:
        for folder in self._folders():
            folder.mkdir(parents=True, exist_ok=True)
        if self._v2:
            for level in (ROOT, self._folder("").parent):
                for controller in CONTROLLERS_V2:       # one by one: a line with one that is missing is refused whole
                    with contextlib.suppress(OSError):
                        (level / "cgroup.subtree_control").write_text(f"+{controller}")

    def enter_command(self) -> str:
        """A line of shell that moves the shell itself, and so its children, into the group."""
        return "; ".join(f"echo $$ > '{folder}/cgroup.procs'" for folder in self._folders())

    def pids(self) -> list[int]:
        """Processes of the device, as this machine numbers them."""
        for folder in self._folders():
            with contextlib.suppress(OSError):
                return [int(line) for line in (folder / "cgroup.procs").read_text().split()]
        return []

    def limit_memory(self, mem_mb: int | None) -> None:
        """Nor is what exceeds the limit swapped out."""
        text = str(mem_mb << 20) if mem_mb else ("max" if self._v2 else "-1")
        self._write("memory", "memory.swap.max" if self._v2 else "memory.swappiness", "0")
        self._write("memory", self._memory_limit, text)

    def memory_limit_mb(self) -> float | None:
        """As the kernel has it; None where it knows of none."""
        try:
            return int((self._folder("memory") / self._memory_limit).read_text()) / 2**20
        except (OSError, ValueError):           # no such controller, or "max"
            return None

    def limit_cpu(self, cores: float | None) -> None:
        """At most so many cores' worth of time in every 100 ms."""
        quota = str(round(cores * PERIOD_US)) if cores else ("max" if self._v2 else "-1")
        if self._v2:
            self._write("cpu", "cpu.max", f"{quota} {PERIOD_US}")
        else:
            self._write("cpu", "cpu.cfs_period_us", str(PERIOD_US))
            self._write("cpu", "cpu.cfs_quota_us", quota)

    def memory_mb(self) -> float:
        """In use now; 0 where the kernel does not count it."""
        name = "memory.current" if self._v2 else "memory.usage_in_bytes"
        try:
            return int((self._folder("memory") / name).read_text()) / 2**20
        except OSError:
            return 0.0

    def freeze(self, frozen: bool) -> None:
        if self._v2:
            self._write("", "cgroup.freeze", "1" if frozen else "0")
        else:
            self._write("freezer", "freezer.state", "FROZEN" if frozen else "THAWED")

    def remove(self) -> None:
        """Only empty groups can go: end the processes first."""
        for folder in self._folders():
            for one in (folder, folder.parent):
                with contextlib.suppress(OSError):
                    os.rmdir(one)               # noqa: PTH106  rmdir alone works on a cgroup, and only when it is empty

    def _folders(self) -> list[Path]:
        if self._v2:
            return [ROOT / self.name]
        return [ROOT / controller / self.name for controller in CONTROLLERS if (ROOT / controller).is_dir()]

    def _folder(self, controller: str) -> Path:
        return ROOT / self.name if self._v2 else ROOT / controller / self.name

    def _write(self, controller: str, name: str, text: str) -> None:
        with contextlib.suppress(OSError):      # a kernel without this controller
            (self._folder(controller) / name).write_text(text)
