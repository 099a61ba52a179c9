"""Who holds a device, and how many measured windows run at once.

`DeviceLock` keeps a second controller with the same home away: a lock of the kernel, gone with its holder's death, and
a fencing token that only grows, with the clock, which the device remembers. `Windows` is the limit of a fleet's
groups inside one site. Used by run.py and the scheduler. Refuses to expire anything by time: a lock ends when its
process does.
"""
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from harness.errors import DeviceNotReady
from harness.fleet import DeviceSpec, GroupSpec


class DeviceLock:
    """The right to run trials on one device. Use as a context manager; `token` is valid inside."""

    def __init__(self, folder: Path, device: str) -> None:
        self._path, self._device = folder / f"{device}.lock", device
        self._file = -1
        self.token = 0

    def __enter__(self) -> "DeviceLock":
        """Raises DeviceNotReady, naming the holder, when another controller has the device."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = self._read().get("pid", "unknown")
            os.close(self._file)
            raise DeviceNotReady(f"{self._device}: in use by another `edgefleet run` (process {holder}). Wait for it "
                                 "to end, or stop it and run again.") from None
        # Milliseconds, so that a home that is new, or another machine's, does not start below what the device has seen.
        self.token = max(int(self._read().get("token", 0)) + 1, time.time_ns() // 10**6)
        text = json.dumps({"token": self.token, "pid": os.getpid()}).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def _read(self) -> dict[str, int]:
        with suppress(ValueError, OSError):
            value = json.loads(os.pread(self._file, 4096, 0))
            if isinstance(value, dict):
                return value
        return {}


@contextmanager
def lock_devices(folder: Path, devices: Sequence[str]) -> Iterator[dict[str, int]]:
    """All or none, in sorted order; yields the token of each device."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(DeviceLock(folder, name)).token for name in sorted(devices)}


class Windows:
    """At most `limit` measured windows at once in each group, first come, first served. One object a site.

    A plain semaphore would let the device that just ended take the next turn, too: blocks would not be interleaved.
    """

    def __init__(self, groups: Mapping[str, GroupSpec]) -> None:
        self._free = {name: group.limit for name, group in groups.items()}
        self._waiting: list[_Turn] = []
        self._changed = threading.Condition()

    @contextmanager
    def measured(self, *devices: DeviceSpec) -> Iterator[None]:
        """Wait until all of `devices` (a device and its peers) are free, with room in all of their groups: all at once,
        behind whoever waits for one of them already."""
        wanted = frozenset(group for device in devices for group in device.groups)
        wanted |= {f"device {device.name}" for device in devices}       # no name of a group has a space
        turn = _Turn(wanted)
        with self._changed:
            for device in devices:
                self._free.setdefault(f"device {device.name}", 1)
            self._waiting.append(turn)
            self._changed.wait_for(lambda: self._may(turn))
            self._waiting.remove(turn)
            for group in wanted:
                self._free[group] -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                for group in wanted:
                    self._free[group] += 1
                self._changed.notify_all()

    def _may(self, turn: "_Turn") -> bool:
        earlier = self._waiting[:self._waiting.index(turn)]
        return all(self._free[group] for group in turn.groups) and not any(one.groups & turn.groups for one in earlier)


class _Turn:
    """One who waits; equal to nobody else."""

    def __init__(self, groups: frozenset[str]) -> None:
        self.groups = groups
