"""What holds at a moment of the trial: the Context that an adapter sees, with the trace's scripted columns in force.

The loop asks once an inference. Scripted columns (battery_pct, deadline_ms, deadline_x, accuracy_floor) override what
is sensed or ordered; the trace itself never reaches the adapter. Time in the trace only goes forward, so each column
is a cursor, not a search. Gives what LoadTrace.at gives.
"""
import bisect
from typing import Any, Dict, List, Optional, Tuple

from device_agents.wire import Context, LoadTrace, Order

_FIELDS = frozenset(Context._fields)


class Column:
    """One column of a trace, read at times that never go back."""

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

    def at(self, t_s: float) -> Optional[float]:
        while self._next < len(self._steps) and self._steps[self._next][0] <= t_s:
            self._value = self._steps[self._next][1]
            self._next += 1
        return self._value


class Conditions:
    """Contexts of one window that starts at `t0_ns`."""

    def __init__(self, order: Order, t0_ns: int) -> None:
        trial = order.trial
        self._order, self._t0_ns = order, t0_ns
        self._battery_pct = Column(trial.trace, "battery_pct")
        self._deadline_ms = Column(trial.trace, "deadline_ms")
        self._deadline_x = Column(trial.trace, "deadline_x")
        self._floor = Column(trial.trace, "accuracy_floor")
        self._idle_ms = sorted(cost.latency_ms for cost in order.costs)

    def context(self, now_ns: int, due_ns: int, sensed: Dict[str, Any], queue_len: int,
                latency_ms: Optional[float]) -> Context:
        """`sensed` = newest sensor values by Context field; other names are ignored."""
        t_s = (now_ns - self._t0_ns) / 1e9
        values = {name: sensed[name] for name in sensed if name in _FIELDS}
        battery_pct, floor = self._battery_pct.at(t_s), self._floor.at(t_s)
        if battery_pct is not None:
            values["battery_pct"] = battery_pct
        values["accuracy_floor"] = self._order.trial.accuracy_floor if floor is None else floor
        values["deadline_ms"] = self._deadline(t_s)
        values["queue_len"], values["queue_ms"] = queue_len, (now_ns - due_ns) / 1e6
        values["latency_ms"] = latency_ms
        return Context(now_ns, **values)

    def feasible(self, deadline_ms: Optional[float]) -> int:
        """How many branches' idle cost fits the deadline; all of them without one."""
        return len(self._idle_ms) if deadline_ms is None else bisect.bisect_right(self._idle_ms, deadline_ms)

    def _deadline(self, t_s: float) -> Optional[float]:
        deadline_ms, factor = self._deadline_ms.at(t_s), self._deadline_x.at(t_s)
        if deadline_ms is None:
            deadline_ms = self._order.deadline_ms
        if deadline_ms is None or factor is None:
            return deadline_ms
        return deadline_ms * factor
