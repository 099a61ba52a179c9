"""Memory: what is left, and how much of what is used is the trial's own.

Read by the sampler from /proc/meminfo and /proc/PID/statm. "Free" is MemAvailable: what the kernel could hand out
without swapping. Own memory counts anonymous pages only, because file pages (the runtime's library, the model file)
are already in MemAvailable. Load balloons are co-running. Refuses to see a cgroup's limit: the device's memory it is.
"""
import os
from typing import Callable, Dict, List, Optional, Set, Tuple

from device_agents.seams import Sensor
from device_agents.sysfs import Files

_PAGE_B = os.sysconf("SC_PAGE_SIZE")


class Memory(Sensor):
    """mem_free_mb, own_mem_mb, swap_used_mb in MiB; co_mem_pct in % of all memory, used by everybody but the trial."""

    metrics = ("mem_free_mb", "co_mem_pct", "own_mem_mb", "swap_used_mb")
    source = "/proc/meminfo and /proc/PID/statm"
    period_s = 0.2

    def __init__(self) -> None:
        #: Set by the sampler: (the trial's process ids without load players, the load players').
        self.own_pids: Callable[[], Tuple[List[int], List[int]]] = lambda: ([os.getpid()], [])
        self._files = Files()
        self._seen: Set[int] = set()

    def read(self, root: str) -> Dict[str, Optional[float]]:
        reading: Dict[str, Optional[float]] = dict.fromkeys(self.metrics)
        kib = _meminfo(self._files.text(root + "/proc/meminfo", 2048) or "")
        own_mb = reading["own_mem_mb"] = self._own_mb(root)
        total, free = kib.get("MemTotal"), kib.get("MemAvailable")
        if free is None and "MemFree" in kib:   # before kernel 3.14
            free = kib["MemFree"] + kib.get("Buffers", 0) + kib.get("Cached", 0)
        if "SwapTotal" in kib and "SwapFree" in kib:
            reading["swap_used_mb"] = (kib["SwapTotal"] - kib["SwapFree"]) / 1024.0
        if free is None:
            return reading
        reading["mem_free_mb"] = free / 1024.0
        if total and own_mb is not None:
            co_mb = (total - free) / 1024.0 - own_mb
            reading["co_mem_pct"] = min(100.0, max(0.0, 100.0 * co_mb * 1024.0 / total))
        return reading

    def _own_mb(self, root: str) -> Optional[float]:
        pids, pages, found = set(self.own_pids()[0]), 0, False
        for pid in pids:
            fields = (self._files.text("%s/proc/%d/statm" % (root, pid), 128) or "").split()
            try:
                pages += int(fields[1]) - int(fields[2])
                found = True
            except (IndexError, ValueError):
                continue
        for pid in self._seen - pids:
            self._files.forget("%s/proc/%d/statm" % (root, pid))
        self._seen = pids
        return pages * _PAGE_B / 1048576.0 if found else None


def _meminfo(text: str) -> Dict[str, int]:
    """KiB by name; a line of another form is left out."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].endswith(":") and words[1].isdigit():
            found[words[0][:-1]] = int(words[1])
    return found
