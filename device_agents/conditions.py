"""What holds at a moment of the trial: the Context that an adapter sees, with the trace's scripted columns in force.

The loop asks once an inference, so this is a hot path: sensed values are put in place once a sampler's tick, scripted
ones (battery_pct, deadline_ms, deadline_x, accuracy_floor, which override what is sensed or ordered) when they change.
A scripted battery is on no charger: what it drives must not depend on whether the device is plugged in.
Time in the trace only goes forward. Gives what LoadTrace.at gives; the trace itself never reaches the adapter.
"""
import bisect
from typing import Any, Dict, List, Optional, Tuple

from device_agents.seams import Clock
from device_agents.wire import Context, LoadTrace, Order

_NEVER_S = float("inf")
_FIRST, _LAST = Context._fields.index("t_ns") + 1, Context._fields.index("queue_len")
_SENSED = Context._fields[_FIRST:_LAST]         # the fields that sensors fill


class Column:
    """One column of a trace, read at times that never go back. `next_s` = when its value may change."""

    def __init__(self, trace: LoadTrace, name: str) -> None:
        self._steps: List[Tuple[float, Optional[float]]] = []
        if name in trace.columns:
            index = trace.columns.index(name)
            for row in trace.rows:
                if row[0] is None:
                    break
                self._steps.append((row[0], row[index]))
        self._next = 0
        self._value: Optional[float] = None
        self.next_s = self._steps[0][0] if self._steps else _NEVER_S

    def at(self, t_s: float) -> Optional[float]:
        while self.next_s <= t_s:
            self._value = self._steps[self._next][1]
            self._next += 1
            self.next_s = self._steps[self._next][0] if self._next < len(self._steps) else _NEVER_S
        return self._value


def scripted_battery(battery_pct: Optional[float]) -> Dict[str, Any]:
    """Fields of a Context that a battery at this charge overrides; none where it is not scripted now."""
    return {} if battery_pct is None else {"battery_pct": battery_pct, "charging": False}


class Script:
    """What the trace scripts now, for others than the adapter's contexts: the link's shaper. Any thread may ask."""

    def __init__(self, trace: LoadTrace, clock: Clock) -> None:
        self._trace, self._clock = trace, clock
        self._t0_ns: Optional[int] = None

    def begin(self, t0_ns: int) -> None:
        self._t0_ns = t0_ns

    def now(self, column: str) -> Optional[float]:
        """None before the window and for a column that the trace lacks."""
        if self._t0_ns is None or column not in self._trace.columns:
            return None
        return self._trace.at((self._clock.now_ns() - self._t0_ns) / 1e9, column)


class Conditions:
    """Contexts of one window that starts at `t0_ns`."""

    def __init__(self, order: Order, t0_ns: int) -> None:
        trace = order.trial.trace
        self._order, self._t0_ns = order, t0_ns
        self._columns = {name: Column(trace, name)
                         for name in ("battery_pct", "deadline_ms", "deadline_x", "accuracy_floor")}
        self._idle_ms = sorted(cost.latency_ms for cost in order.costs)
        self._sensed: Dict[str, Any] = {}
        self._advance(-_NEVER_S)

    def context(self, now_ns: int, due_ns: int, sensed: Dict[str, Any], queue_len: int,
                latency_ms: Optional[float]) -> Context:
        """`sensed` = newest sensor values by Context field, a new dict when they change; other names are ignored."""
        if now_ns >= self._next_ns:
            self._advance((now_ns - self._t0_ns) / 1e9)
        if sensed is not self._sensed:
            self._sense(sensed)
        return Context._make((now_ns, *self._middle, queue_len, latency_ms, self._deadline_ms, self._floor,
                              (now_ns - due_ns) / 1e6))

    def feasible(self, deadline_ms: Optional[float]) -> int:
        """How many branches' idle cost fits the deadline; all of them without one."""
        return len(self._idle_ms) if deadline_ms is None else bisect.bisect_right(self._idle_ms, deadline_ms)

    def _sense(self, sensed: Dict[str, Any]) -> None:
        self._sensed = sensed
        values = dict(sensed, **scripted_battery(self._battery_pct))
        self._middle = tuple(values.get(name) for name in _SENSED)

    def _advance(self, t_s: float) -> None:
        """Put the scripted values of `t_s` in force, until the next of them changes."""
        values = {name: column.at(t_s) for name, column in self._columns.items()}
        next_s = min(column.next_s for column in self._columns.values())
        self._next_ns = _NEVER_S if next_s == _NEVER_S else self._t0_ns + next_s * 1e9
        floor, deadline_ms, factor = values["accuracy_floor"], values["deadline_ms"], values["deadline_x"]
        self._floor = self._order.trial.accuracy_floor if floor is None else floor
        self._deadline_ms = self._order.deadline_ms if deadline_ms is None else deadline_ms
        if self._deadline_ms is not None and factor is not None:
            self._deadline_ms *= factor
        self._battery_pct = values["battery_pct"]
        self._sense(self._sensed)
