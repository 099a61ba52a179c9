"""The largest branch whose last latency met the deadline: the hand-made baseline (no paper) that has no model.

Largest = most multiply-accumulates. Each branch is remembered by the latency of its last inference; before its first
one by its idle cost, or, where none is known, as if it were in time. A branch that was too slow would so never be
tried again, hence one rule more: after `patience` inferences in time, running and on one branch, the next larger one
is remembered by what it should take now (this branch's latency x the ratio of their idle costs, or of their
multiply-accumulates) and a share `headroom` on top.
It looks at nothing but latency and the deadline in force: not at waiting, load, memory, battery or an accuracy floor.
It refuses (UserError) unknown settings.
"""
from typing import Any, Dict, Optional

from device_agents.seams import Adapter
from device_agents.settings import check_within, with_defaults
from device_agents.wire import AdapterView, Context, Decision, Outcome

_DEFAULTS: Dict[str, Any] = {"patience": 10, "headroom": 0.1}


class Greedy(Adapter):
    @staticmethod
    def checked(settings: Dict[str, Any]) -> Dict[str, Any]:
        settings = with_defaults("greedy", settings, _DEFAULTS)
        check_within("greedy", settings, (("patience", 1, 10 ** 6), ("headroom", 0.0, 10.0)))
        return settings

    def start(self, view: AdapterView, learned: Optional[bytes]) -> Decision:  # noqa: ARG002
        settings = self.checked(view.settings)
        self._patience, self._headroom = settings["patience"], settings["headroom"]
        sizes = {branch.id: float(branch.macs) for branch in view.branches}
        self._order = sorted(sizes, key=lambda name: -sizes[name])
        idle_ms = {name: view.costs[name].latency_ms for name in sizes if name in view.costs}
        self._scale = idle_ms if len(idle_ms) == len(sizes) else sizes
        self._last_ms = {name: idle_ms.get(name, 0.0) for name in sizes}
        self._in_time = 0
        self._current = self._order[0]
        return self._choose(view.deadline_ms)

    def decide(self, context: Context, last: Optional[Outcome]) -> Decision:
        if last is not None and last.decision.branch in self._last_ms:
            self._remember(last.decision.branch, last.latency_ms, context.deadline_ms)
        return self._choose(context.deadline_ms)

    def _remember(self, branch: str, latency_ms: float, deadline_ms: Optional[float]) -> None:
        self._last_ms[branch] = latency_ms
        met = deadline_ms is None or latency_ms <= deadline_ms
        self._in_time = self._in_time + 1 if met and branch == self._current else 0
        place = self._order.index(branch)
        if place and self._in_time >= self._patience:
            larger = self._order[place - 1]
            ratio = self._scale[larger] / self._scale[branch] if self._scale[branch] else 1.0
            self._last_ms[larger] = latency_ms * ratio * (1.0 + self._headroom)

    def _choose(self, deadline_ms: Optional[float]) -> Decision:
        chosen, reason = self._order[-1], "none met the deadline: the smallest"
        for name in self._order:
            if deadline_ms is None or self._last_ms[name] <= deadline_ms:
                chosen, reason = name, "largest that met the deadline"
                break
        if chosen != self._current:
            self._current, self._in_time = chosen, 0
        return Decision(chosen, {}, reason, tuple((name, self._last_ms[name] or None) for name in self._order))
