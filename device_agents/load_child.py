"""What a load player's child does after the fork: burn CPU for a share of each 20 ms, or hold memory.

Called by load.py alone. A child shares the agent's memory image and nothing else: it closes every descriptor (an
inherited lock file would keep `agent wait` waiting), writes no journal, and leaves by os._exit. It corrects itself by
its own CPU time, so that being kept from the core for a moment is made up for, but a debt of more than one period is
forgiven: on a core that others fill, the load is what the scheduler grants. It refuses to outlive its parent.
"""
import gc
import mmap
import os
import signal
import time
from typing import Any, Callable, List

from device_agents.seams import Clock
from device_agents.sysfs import Files

PERIOD_NS = 20000000                            # of the duty cycle
CHUNK_MB = 4
_MOST_DEBT_S = PERIOD_NS / 1e9
_LEAST_RESERVE_MB, _RESERVE_SHARE = 64.0, 0.05
_NAP_PERIODS = 5
_LOOK_NS, _TOUCH_NS = 50000000, 1000000000
_PR_SET_PDEATHSIG = 1


def find_prctl() -> Any:
    """The C library's prctl, looked up before the fork; None where there is no ctypes."""
    try:
        import ctypes
        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None


def run(work: Callable[[Callable[[], bool]], None], parent: int, prctl: Any) -> None:
    """The child's whole life: work(orphan), where orphan() says that the agent is gone. Does not return."""
    try:
        gc.disable()                            # nothing of the agent's may be finalised here
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        _close_everything()
        _volunteer_for_oom()
        work(lambda: os.getppid() != parent)
    except BaseException:
        os._exit(1)
    os._exit(0)


def burn(cpu_pct_at: Callable[[float], float], t0_ns: int, core: int, clock: Clock,
         orphan: Callable[[], bool]) -> None:
    """Keeps one core busy for cpu_pct_at(seconds since t0) % of the time, until the agent is gone."""
    try:
        os.sched_setaffinity(0, {core})
    except OSError:                             # a core that is off, or not ours to use
        pass
    _wait_until(t0_ns, clock, orphan)
    cpu_s, end_ns, owed_s = time.process_time, t0_ns, time.process_time()
    while not orphan():
        passed = max(1, (clock.now_ns() - end_ns) // PERIOD_NS)     # more than 1: kept away for whole periods
        begin_s = (end_ns - t0_ns) / 1e9
        if not cpu_pct_at(begin_s) and not cpu_pct_at(begin_s + _NAP_PERIODS * PERIOD_NS / 1e9):
            passed = max(passed, _NAP_PERIODS)                      # waking up for nothing is load, too
        end_ns += passed * PERIOD_NS
        share = cpu_pct_at(begin_s) / 100.0
        owed_s = min(owed_s + share * passed * PERIOD_NS / 1e9, cpu_s() + _MOST_DEBT_S)
        while cpu_s() < owed_s and clock.now_ns() < end_ns:
            for _ in range(200):
                pass
        clock.sleep_until(end_ns)
        owed_s = max(owed_s, cpu_s() - PERIOD_NS / 1e9)             # idle: the child's own overhead is not a credit


def hold(mem_mb_at: Callable[[float], float], t0_ns: int, clock: Clock, root: str,
         orphan: Callable[[], bool]) -> None:
    """Holds mem_mb_at(seconds since t0) MiB of touched, incompressible memory, as far as there is room."""
    _wait_until(max(t0_ns, clock.now_ns() + _LOOK_NS), clock, orphan)
    files, held_b, touched_ns = Files(), 0, clock.now_ns()
    chunks: List[mmap.mmap] = []
    filling = os.urandom(16 * mmap.PAGESIZE)    # not zeros: compressed swap would make nothing of them
    while not orphan():
        now_ns = clock.now_ns()
        wanted_b = int(mem_mb_at((now_ns - t0_ns) / 1e9) * 1048576) // mmap.PAGESIZE * mmap.PAGESIZE
        while held_b > wanted_b:
            chunk = chunks.pop()
            held_b -= len(chunk)
            chunk.close()
        while held_b < wanted_b and room_mb(files, root) > CHUNK_MB and not orphan():
            size_b = min(CHUNK_MB << 20, wanted_b - held_b)
            chunk = mmap.mmap(-1, size_b, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            for place in range(0, size_b, len(filling)):
                chunk[place:place + len(filling)] = filling[:size_b - place]
            chunks.append(chunk)
            held_b += size_b
        if now_ns - touched_ns >= _TOUCH_NS:    # so that it stays resident instead of being swapped out
            touched_ns = now_ns
            for chunk in chunks:
                pages = len(chunk) // mmap.PAGESIZE
                chunk[::mmap.PAGESIZE] = bytes(pages)
        clock.sleep_until(now_ns + _LOOK_NS)


def reserve_mb(files: Files, root: str) -> float:
    """What a balloon leaves free: 5 % of the memory, 64 MiB at least."""
    return max(_LEAST_RESERVE_MB, _RESERVE_SHARE * _meminfo_mb(files, root, "MemTotal:"))


def room_mb(files: Files, root: str) -> float:
    """How much more may be taken now; 0 where the kernel does not say what is available."""
    return max(0.0, _meminfo_mb(files, root, "MemAvailable:") - reserve_mb(files, root))


def _meminfo_mb(files: Files, root: str, name: str) -> float:
    for line in (files.text(root + "/proc/meminfo", 1024) or "").splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1]) / 1024.0
    return 0.0


def _wait_until(t_ns: int, clock: Clock, orphan: Callable[[], bool]) -> None:
    while clock.now_ns() < t_ns and not orphan():
        clock.sleep_until(min(t_ns, clock.now_ns() + 2 * _LOOK_NS))


def _close_everything() -> None:
    for name in os.listdir("/proc/self/fd"):
        try:
            os.close(int(name))
        except OSError:
            pass
    for expected in (0, 1, 2):
        if os.open("/dev/null", os.O_RDWR) != expected:
            return


def _volunteer_for_oom() -> None:
    """When memory runs out, this child is to be killed, not the agent that measures."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass
