"""Device time: nanoseconds since boot, suspended time included (CLOCK_BOOTTIME), and its virtual twin.

The loop, the sampler and the load player all take one Clock, so that a trial and its simulation run the same code.
Neither clock knows the wall time: the journal's first line pairs the two, once.
"""
import functools
import time

from device_agents.seams import Clock

_BOOTTIME = 7                                   # CLOCK_BOOTTIME on every Linux; Python names it from 3.7 on
_gettime_ns = getattr(time, "clock_gettime_ns", None)


class BootClock(Clock):
    """The device's own clock. Sleeps with the kernel's timer: a wake-up is late by its slack, ~0.1 ms, never early."""

    def __init__(self) -> None:
        if _gettime_ns is not None:             # the loop reads the clock six times an inference
            self.now_ns = functools.partial(_gettime_ns, _BOOTTIME)  # type: ignore[method-assign]

    def now_ns(self) -> int:
        return int(time.clock_gettime(_BOOTTIME) * 1e9)

    def sleep_until(self, t_ns: int) -> None:
        while True:
            left_ns = t_ns - self.now_ns()
            if left_ns <= 0:
                return
            time.sleep(left_ns / 1e9)


class VirtualClock(Clock):
    """Starts at 0 and moves only when somebody sleeps. Deterministic; for one thread."""

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until(self, t_ns: int) -> None:
        self._now_ns = max(self._now_ns, t_ns)
