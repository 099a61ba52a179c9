"""What a load player's child does after the fork: burn CPU for a share of each 20 ms, hold memory, or send to a peer.

Called by load.py alone. A child shares the agent's memory image and nothing else: it closes every descriptor (an
inherited lock file would keep `agent wait` waiting), writes no journal, and leaves by os._exit. It corrects itself by
its own CPU time, so that being kept from the core for a moment is made up for, but a debt of more than one period is
forgiven: on a core that others fill, the load is what the scheduler grants. It refuses to outlive its parent.
"""
import fcntl
import gc
import mmap
import os
import signal
import socket
import struct
import termios
import time
from typing import Any, Callable, List, Optional

from device_agents.frames import Refused
from device_agents.seams import Clock
from device_agents.sysfs import Files

PERIOD_NS = 20000000                            # of the duty cycle
CHUNK_MB = 4
_MOST_DEBT_S = PERIOD_NS / 1e9
_LEAST_RESERVE_MB, _RESERVE_SHARE = 64.0, 0.05
_NAP_PERIODS = 5
_LOOK_NS, _TOUCH_NS = 50000000, 1000000000
_PR_SET_PDEATHSIG = 1
_AGAIN_NS = 1000000000                          # before a sink that was lost is asked for again
_MOST_LAG_S = 0.1                               # of traffic that the link did not take: what is older is forgiven
_BLOCK_B, _UNSENT_B = 1 << 16, 1 << 16
_TCP_NOTSENT_LOWAT = 25                         # Python knows it from 3.7 on
COUNT = struct.Struct("=Q")


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


def send(mbps_at: Callable[[float], float], t0_ns: int, clock: Clock, connect: Callable[[], socket.socket],
         arrived: mmap.mmap, orphan: Callable[[], bool]) -> None:
    """Sends mbps_at(seconds since t0) Mbit/s of noise into connect(), as far as the link takes it.

    `arrived` = how many bytes the other end has acknowledged since t0, for the agent to read.
    """
    filling, link, before_b, written_b, owed_b, again_ns = os.urandom(_BLOCK_B), _sink(connect), 0, 0, 0.0, 0
    _wait_until(t0_ns, clock, orphan)
    turn_ns = clock.now_ns()
    while not orphan():
        now_ns = clock.now_ns()
        if link is None and now_ns >= again_ns:
            link, again_ns = _sink(connect), now_ns + _AGAIN_NS
        rate_b_s = mbps_at((now_ns - t0_ns) / 1e9) * 125000.0
        owed_b = min(owed_b + rate_b_s * (now_ns - turn_ns) / 1e9, rate_b_s * _MOST_LAG_S)
        turn_ns = now_ns
        if link is not None:
            try:
                while owed_b >= 1:
                    sent_b = link.send(filling[:int(min(owed_b, _BLOCK_B))])
                    written_b, owed_b = written_b + sent_b, owed_b - sent_b
            except socket.timeout:
                pass
            except OSError:
                before_b, written_b = COUNT.unpack_from(arrived)[0], 0
                link.close()
                link = None
        if link is not None:
            COUNT.pack_into(arrived, 0, before_b + written_b - _underway_b(link))
        clock.sleep_until(now_ns + PERIOD_NS)


def reserve_mb(files: Files, root: str) -> float:
    """What a balloon leaves free: 5 % of the memory, 64 MiB at least."""
    return max(_LEAST_RESERVE_MB, _RESERVE_SHARE * _meminfo_mb(files, root, "MemTotal:"))


def room_mb(files: Files, root: str) -> float:
    """How much more may be taken now; 0 where the kernel does not say what is available."""
    return max(0.0, _meminfo_mb(files, root, "MemAvailable:") - reserve_mb(files, root))


def _sink(connect: Callable[[], socket.socket]) -> Optional[socket.socket]:
    try:
        link = connect()
    except (OSError, Refused):                  # whoever measures the link says so
        return None
    link.settimeout(PERIOD_NS / 1e9)
    link.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_B)      # what waits here is not on the link
    return link


def _underway_b(link: socket.socket) -> int:
    """Bytes that were written and not acknowledged yet."""
    size_b: int = struct.unpack("i", fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]
    return size_b


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
