"""When requests arrive: closed (the next starts when the last ends) or open (periodic, poisson, trace), one FIFO queue.

The loop takes one arrival after the other; an open one is due at its own time whether or not the server is free.
`trace` is periodic with its rate multiplied by the trace's rate_x. Seeded: the same trial has the same due times.
It refuses (UserError) unknown kinds and an open arrival without a period.
"""
import collections
import itertools
import random
from typing import Any, Deque, Dict, Iterator, Optional

from device_agents.seams import Clock, UserError
from device_agents.wire import LoadTrace

_SLACK_S = 1e-9                                 # of rounding: an arrival at a step's very end belongs to it
KINDS = ("closed", "periodic", "poisson", "trace")


class Arrivals:
    """The arrivals of one window [t0_ns, t_end_ns), an iterator over due times that waits for each.

    It ends when the window is over; what was due by then and not taken is left in rest().
    """

    def __init__(self, due_times: Optional[Iterator[int]], t_end_ns: int, clock: Clock) -> None:
        self._due_times = due_times             # None: closed loop
        self._queue: Deque[int] = collections.deque()
        self._t_end_ns = t_end_ns
        self._clock = clock

    def __iter__(self) -> "Arrivals":
        return self

    def __next__(self) -> int:
        now_ns = self._clock.now_ns()
        if now_ns >= self._t_end_ns:
            raise StopIteration
        if self._due_times is None:
            return now_ns
        self._pull(now_ns)
        if not self._queue:
            raise StopIteration                 # no more in this window
        self._clock.sleep_until(self._queue[0])
        return self._queue.popleft()

    def waiting(self, now_ns: int) -> int:
        """How many arrivals are due and not taken."""
        if self._due_times is None:
            return 0
        self._pull(now_ns)
        return len(self._queue) - (self._queue[-1] > now_ns if self._queue else 0)

    def rest(self) -> Iterator[int]:
        """Due times that nobody took before the window closed."""
        if self._due_times is not None:
            for due_ns in itertools.chain(self._queue, self._due_times):
                yield due_ns

    def _pull(self, now_ns: int) -> None:
        """Queue every arrival that is due, and the first one that is not."""
        if self._due_times is None or (self._queue and self._queue[-1] > now_ns):
            return
        for due_ns in self._due_times:
            self._queue.append(due_ns)
            if due_ns > now_ns:
                return


def open_arrivals(arrival: Dict[str, Any], period_ms: Optional[float], trace: LoadTrace, seed: str, t0_ns: int,
                  t_end_ns: int, clock: Clock) -> Arrivals:
    """Arrivals as the trial asks. `period_ms` is the mean distance; None only in a closed loop."""
    kind = arrival.get("kind")
    if kind not in KINDS:
        raise UserError("arrival kind %r is unknown; there is: %s" % (kind, ", ".join(KINDS)))
    if kind == "closed":
        return Arrivals(None, t_end_ns, clock)
    if not period_ms or period_ms <= 0:
        raise UserError("%s arrivals need a rate; this order has period_ms = %r" % (kind, period_ms))
    offsets = {"periodic": _periodic, "poisson": _poisson, "trace": _follow}[kind](period_ms / 1e3, seed, trace)
    due_times = (t0_ns + round(offset_s * 1e9) for offset_s in offsets)
    return Arrivals(itertools.takewhile(lambda due_ns: due_ns < t_end_ns, due_times), t_end_ns, clock)


def _periodic(period_s: float, _seed: str, _trace: LoadTrace) -> Iterator[float]:
    return (index * period_s for index in itertools.count())


def _poisson(period_s: float, seed: str, _trace: LoadTrace) -> Iterator[float]:
    rng = random.Random(seed)
    offset_s = 0.0
    while True:
        offset_s += rng.expovariate(1.0 / period_s)
        yield offset_s


def _follow(period_s: float, _seed: str, trace: LoadTrace) -> Iterator[float]:
    """One arrival whenever the integral of rate_x / period reaches a whole number; ends when the rate stays 0."""
    if "rate_x" not in trace.columns:
        raise UserError("trace arrivals need a rate_x column; trace %r has: %s"
                        % (trace.name, ", ".join(trace.columns)))
    column = trace.columns.index("rate_x")
    steps = [(row[0], row[column]) for row in trace.rows if row[0] is not None]
    if not steps or steps[0][0] > 0:
        steps.insert(0, (0.0, 1.0))             # before the first row the rate is the nominal one
    ends = [step[0] for step in steps[1:]] + [float("inf")]
    owed = 1.0                                  # the first arrival comes at once
    for (start_s, factor), end_s in zip(steps, ends):
        rate_hz = (1.0 if factor is None else max(factor, 0.0)) / period_s
        at_s = start_s
        while rate_hz > 0.0 and at_s + (1.0 - owed) / rate_hz <= end_s + _SLACK_S:
            at_s += (1.0 - owed) / rate_hz
            owed = 0.0
            yield at_s
        if end_s != float("inf"):
            owed = max(0.0, owed + (end_s - at_s) * rate_hz)
