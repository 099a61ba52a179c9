"""CPU: who uses the cores, split into the trial itself and everybody else.

Read by the sampler from /proc/stat and /proc/PID/stat. own = the trial's processes without its load players; co =
everything else, load players and the hypervisor's steal included, because a method must react to what is around it
and never to itself. Counters tick every 10 ms, so a reading is the mean over the last half second. Waiting for I/O is
idle. Refuses to split when it is not told the trial's processes.
"""
import collections
import os
from typing import Callable, Deque, Dict, List, Optional, Tuple

from device_agents.seams import Sensor
from device_agents.sysfs import Files

_WINDOW_TICKS = 50                              # of each core: half a second at the usual 100 a second


class Cpu(Sensor):
    """co_cpu_pct, own_cpu_pct, steal_pct: % of all cores together, 0..100. None until two readings lie apart."""

    metrics = ("co_cpu_pct", "own_cpu_pct", "steal_pct")
    source = "/proc/stat and /proc/PID/stat"

    def __init__(self) -> None:
        #: Set by the sampler: (the trial's process ids without load players, the load players').
        self.own_pids: Callable[[], Tuple[List[int], List[int]]] = lambda: ([os.getpid()], [])
        self._files = Files()
        self._own_ticks = 0
        self._last_of: Dict[int, int] = {}
        self._history: Deque[Tuple[int, int, int, int]] = collections.deque()

    def read(self, root: str) -> Dict[str, Optional[float]]:
        nothing: Dict[str, Optional[float]] = dict.fromkeys(self.metrics)
        counters = _stat(self._files.text(root + "/proc/stat", 256))
        if counters is None:
            return nothing
        total, busy, steal = counters
        self._count_own(root)
        history = self._history
        if history and total < history[-1][0]:
            history.clear()                     # counters went back: another boot, or a core was unplugged
        history.append((total, busy, steal, self._own_ticks))
        window = _WINDOW_TICKS * (os.cpu_count() or 1)
        while len(history) > 2 and total - history[1][0] >= window:
            history.popleft()
        first = history[0]
        span = total - first[0]
        if span <= 0:
            return nothing
        own = min(100.0, 100.0 * (self._own_ticks - first[3]) / span)
        used = min(100.0, max(0.0, 100.0 * (busy - first[1]) / span))
        return {"co_cpu_pct": max(0.0, used - own), "own_cpu_pct": own,
                "steal_pct": max(0.0, 100.0 * (steal - first[2]) / span)}

    def _count_own(self, root: str) -> None:
        """Adds what each of the trial's processes used since the last call; one that is new starts at 0."""
        pids = self.own_pids()[0]
        for pid in pids:
            path = "%s/proc/%d/stat" % (root, pid)
            ticks = _process_ticks(self._files.text(path, 1024))
            if ticks is None:
                self._last_of.pop(pid, None)
                continue
            self._own_ticks += max(0, ticks - self._last_of.get(pid, ticks))
            self._last_of[pid] = ticks
        for pid in [pid for pid in self._last_of if pid not in pids]:
            del self._last_of[pid]
            self._files.forget("%s/proc/%d/stat" % (root, pid))


def _stat(text: Optional[str]) -> Optional[Tuple[int, int, int]]:
    """(total, busy, steal) ticks of the `cpu` line. guest is part of user; iowait is idle; old kernels lack steal."""
    fields = (text or "").partition("\n")[0].split()
    if len(fields) < 5 or fields[0] != "cpu":
        return None
    try:
        ticks = [int(field) for field in fields[1:9]]
    except ValueError:
        return None
    ticks += [0] * (8 - len(ticks))
    total = sum(ticks)
    return total, total - ticks[3] - ticks[4], ticks[7]


def _process_ticks(text: Optional[str]) -> Optional[int]:
    """utime + stime. The name in parentheses may hold anything, blanks and parentheses too."""
    fields = (text or "").rpartition(")")[2].split()
    try:
        return int(fields[11]) + int(fields[12])
    except (IndexError, ValueError):
        return None
