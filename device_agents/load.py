"""Plays a LoadTrace: one child process a core that is busy for the asked share of the time, one that holds memory, and
one that sends to the trial's first peer.

Used by the loop: start(t0_ns) before the window, stop() after it. Once a second and at the end a `loadgen` line says
what was asked and what was achieved, by the kernel's count of the children, and of the bytes that were acknowledged.
They are forked, not executed, because the agent may be a zip file run by a loader, and they die with it, also when it
is killed. The balloon leaves a reserve free and a note says so when it may not grow. It refuses to touch scripted
columns (deadlines, battery): the loop's affair.
"""
import functools
import mmap
import os
import signal
import socket
import threading
import warnings
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Union

from device_agents import load_child
from device_agents.seams import Clock, UserError
from device_agents.sysfs import Files
from device_agents.wire import LoadTrace

_REPORT_NS = 1000000000
_LOOK_NS = 100000000
_SHORTEST_SPAN_NS = 50000000                    # less says nothing at the counters' resolution
_TICK_NS = 1000000000 // os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1048576.0


class Child(NamedTuple):
    pid: int
    what: str                                   # burn | hold | send
    start_mb: float                             # memory that it shares with the agent since the fork


class LoadPlayer:
    """`cores` = how many cores the device has, or their numbers; a trace's cpu_pct is of all of them. A trace that
    asks for nothing starts no children. `root` holds /proc/meminfo, which limits the balloon. `sink()` = a connection
    that takes the trace's traffic; None: there is none, and a trace that asks for traffic is refused (UserError)."""

    def __init__(self, trace: LoadTrace, cores: Union[int, Sequence[int]], journal: Any, clock: Clock,
                 root: str = "", sink: Optional[Callable[[], socket.socket]] = None) -> None:
        self._cores = _first(cores) if isinstance(cores, int) else list(cores)
        self._journal, self._clock, self._root = journal, clock, root
        self._cpu, self._mem = Steps.of(trace, "cpu_pct", 100.0), Steps.of(trace, "mem_mb", 1e9)
        self._traffic, self._sink = Steps.of(trace, "traffic_mbps", 1e6), sink
        if self._traffic.highest() > 0 and sink is None:
            raise UserError("trace %s asks for traffic_mbps, and the trial has no peer to send it to" % trace.name)
        self._arrived = mmap.mmap(-1, mmap.PAGESIZE)                    # shared with the child that sends
        self._files = Files()
        self._every_cpu = os.sched_getaffinity(0)
        self._children: List[Child] = []
        self._stopping = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._refused_mb = -1.0
        self._t0_ns = 0

    def start(self, t0_ns: int) -> None:
        """Forks the children, which wait for t0. Call it from the thread that lives as long as the agent: the kernel
        kills a child when the thread that forked it ends."""
        self._t0_ns = t0_ns
        own_cpus = os.sched_getaffinity(0)      # of an engine that is kept to some; a load is not
        os.sched_setaffinity(0, self._every_cpu)
        try:
            self._begin(t0_ns, load_child.find_prctl())
        finally:
            os.sched_setaffinity(0, own_cpus)

    def _begin(self, t0_ns: int, prctl: Any) -> None:
        if self._cpu.highest() > 0:
            shift_ns = load_child.PERIOD_NS // max(1, len(self._cores))
            for place, core in enumerate(self._cores):
                self._fork("burn", prctl, functools.partial(
                    load_child.burn, self._cpu.at, t0_ns + place * shift_ns, core, self._clock))
        if self._mem.highest() > 0:
            self._fork("hold", prctl, functools.partial(
                load_child.hold, self._mem.at, t0_ns, self._clock, self._root))
        if self._sink is not None and self._traffic.highest() > 0:
            self._fork("send", prctl, functools.partial(
                load_child.send, self._traffic.at, t0_ns, self._clock, self._sink, self._arrived))
        if self._children:
            self._thread = threading.Thread(target=self._journal.watch, args=(self._report,), name="loadgen",
                                            daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Writes the last `loadgen` line and ends the children. Harmless when nothing was started."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        children, self._children = self._children, []
        for child in children:
            _signal(child.pid, signal.SIGKILL)
        for child in children:
            try:
                os.waitpid(child.pid, 0)
            except ChildProcessError:           # somebody else has reaped it
                pass

    def pids(self) -> List[int]:
        """Process ids of the children: they are co-running load, not the trial."""
        return [child.pid for child in self._children]

    def _fork(self, what: str, prctl: Any, work: Callable[[Callable[[], bool]], None]) -> None:
        parent = os.getpid()
        with warnings.catch_warnings():         # Python 3.12 warns of threads; the child calls no runtime of theirs
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            load_child.run(work, parent, prctl)
        self._children.append(Child(pid, what, self._resident_mb(pid)))

    def _report(self) -> None:
        """The reporting thread: a line a second from t0 on, and one for the rest."""
        ended = self._wait_until(self._t0_ns)
        begin_ns, before_ns, before_b = self._clock.now_ns(), self._burnt_ns(), self._arrived_b()
        while not ended:
            held_mb, due_ns = [], begin_ns + _REPORT_NS
            while not ended and self._clock.now_ns() < due_ns:
                look_ns = self._clock.now_ns() + _LOOK_NS if self._mem.highest() > 0 else due_ns
                ended = self._wait_until(min(due_ns, look_ns))
                held_mb.append(self._held_mb())
            end_ns, after_ns, after_b = self._clock.now_ns(), self._burnt_ns(), self._arrived_b()
            if end_ns - begin_ns < _SHORTEST_SPAN_NS:
                continue
            held_mb = held_mb or [self._held_mb()]      # kept from its core, or asleep, for the whole second
            self._line(begin_ns, end_ns, after_ns - before_ns, sum(held_mb) / len(held_mb), after_b - before_b)
            begin_ns, before_ns, before_b = end_ns, after_ns, after_b

    def _wait_until(self, t_ns: int) -> bool:
        """True when the player was stopped before."""
        return self._stopping.wait(max(0.0, (t_ns - self._clock.now_ns()) / 1e9))

    def _line(self, begin_ns: int, end_ns: int, burnt_ns: int, held_mb: float, arrived_b: int) -> None:
        """Asked and achieved are means over the span."""
        span = (begin_ns - self._t0_ns, end_ns - self._t0_ns)
        asked_pct = achieved_pct = asked_mb = achieved_mb = None
        if self._cpu.highest() > 0:
            asked_pct = round(self._cpu.mean(*span), 2)
            achieved_pct = round(100.0 * burnt_ns / ((end_ns - begin_ns) * len(self._cores)), 2)
        if self._mem.highest() > 0:
            asked_mb, achieved_mb = round(self._mem.mean(*span), 1), round(held_mb, 1)
            self._note_refusal(self._mem.at(span[1] / 1e9))
        traffic = {}
        if self._traffic.highest() > 0:
            traffic = {"asked_traffic_mbps": round(self._traffic.mean(*span), 3),
                       "achieved_traffic_mbps": round(arrived_b * 8e3 / (end_ns - begin_ns), 3)}
        self._journal.write("loadgen", asked_cpu_pct=asked_pct, achieved_cpu_pct=achieved_pct, asked_mem_mb=asked_mb,
                            achieved_mem_mb=achieved_mb, span_s=round((end_ns - begin_ns) / 1e9, 3), **traffic)
        self._note_dead()

    def _note_refusal(self, asked_mb: float) -> None:
        """One note for each size that was asked for and does not fit."""
        achieved_mb, room_mb = self._held_mb(), load_child.room_mb(self._files, self._root)
        if achieved_mb < 0.98 * asked_mb and room_mb <= load_child.CHUNK_MB and self._refused_mb != asked_mb:
            self._refused_mb = asked_mb
            self._journal.write("note", text="memory balloon holds %.0f of %.0f MB asked: more would leave less than "
                                "the reserve of %.0f MB" % (achieved_mb, asked_mb,
                                                            load_child.reserve_mb(self._files, self._root)))

    def _note_dead(self) -> None:
        for child in self._children:
            try:
                ended = os.waitpid(child.pid, os.WNOHANG)[0] != 0
            except ChildProcessError:
                ended = True
            if ended:
                self._children = [other for other in self._children if other.pid != child.pid]
                self._journal.write("note", text="load player %d (%s) died: less load than asked" % child[:2])

    def _held_mb(self) -> float:
        """What the balloon holds now, without what it shares with the agent."""
        return sum(max(0.0, self._resident_mb(child.pid) - child.start_mb)
                   for child in self._children if child.what == "hold")

    def _arrived_b(self) -> int:
        """Bytes that the sink's end has acknowledged."""
        count: int = load_child.COUNT.unpack_from(self._arrived)[0]
        return count

    def _burnt_ns(self) -> int:
        """CPU time of the children that make CPU load."""
        return sum(self._cpu_ns(child.pid) for child in self._children if child.what == "burn")

    def _cpu_ns(self, pid: int) -> int:
        """schedstat counts ns; where a kernel lacks it, stat counts ticks of 10 ms."""
        fields = (self._files.text("/proc/%d/schedstat" % pid) or "").split()
        if fields and fields[0].isdigit() and fields[0] != "0":
            return int(fields[0])
        fields = (self._files.text("/proc/%d/stat" % pid) or "").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_NS if len(fields) > 12 else 0

    def _resident_mb(self, pid: int) -> float:
        fields = (self._files.text("/proc/%d/statm" % pid) or "").split()
        return (int(fields[1]) - int(fields[2])) * _PAGE_MB if len(fields) > 2 else 0.0


class Steps:
    """One column of a trace as a function of time: constant from each row on, 0 before the first and where empty."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self._rows = list(rows)                 # (t_s, value)

    @classmethod
    def of(cls, trace: LoadTrace, column: str, most: float) -> "Steps":
        if column not in trace.columns:
            return cls([])
        index = trace.columns.index(column)
        return cls([(row[0], min(most, max(0.0, row[index] or 0.0))) for row in trace.rows if row[0] is not None])

    def at(self, t_s: float) -> float:
        value = 0.0
        for start_s, wanted in self._rows:
            if start_s > t_s:
                break
            value = wanted
        return value

    def highest(self) -> float:
        return max((value for _, value in self._rows), default=0.0)

    def mean(self, begin_ns: int, end_ns: int) -> float:
        """Mean over a span of the window, times in ns since t0."""
        begin_s, end_s = begin_ns / 1e9, end_ns / 1e9
        edges = [begin_s] + [start_s for start_s, _ in self._rows if begin_s < start_s < end_s] + [end_s]
        area = sum(self.at(edges[place]) * (edges[place + 1] - edges[place]) for place in range(len(edges) - 1))
        return area / (end_s - begin_s)


def _first(count: int) -> List[int]:
    """Numbers of `count` cores, of those that this process may use when they are enough."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[:count] if len(allowed) >= count else list(range(count))


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
