"""AdaSpring, online half: Liu et al., "AdaSpring", arXiv 2101.11800 (IMWUT/UbiComp 5(1), 2021).

Published: a retraining-free network holds many compression configurations; a search at run time finds the best one
quickly and evolves structure and weights. A contributor's public workflow adds the order of things: on a change of
context the best operators are searched, the network is re-configured, accuracy, latency and energy are measured, and
two importance coefficients, of accuracy and of energy efficiency, follow the context. This is our re-implementation of
that; the paper's search, objective, constraints, metric of energy efficiency, weights and triggers were not available.

Deviations and choices, all ours:
1. The same decisions in two forms, which differ in the offline half and the engine; `form` is only checked here.
   Evolving: engine onnxruntime_evolve derives a branch's weights on the device, from the parent's, when it is loaded.
   Selecting: branches were exported beforehand, a switch is no evolution, and rows are called adaspring-select.
2. Search: all branches. Constraints: memory (a branch's peak beyond the present one's fits into what is free above a
   reserve), the accuracy floor in force, and latency (profiled idle latency x factor within the deadline, less a margin
   and the time already waited, and within the arrivals' period). What is left is cut to its Pareto front over accuracy
   and energy, and the least `weight_a * loss + weight_e * energy` wins, both scaled to 0..1 over the whole bundle.
   When nothing fits, in this order: the fastest within memory and floor, the most accurate within memory and deadline,
   the fastest within memory, the one with the least memory.
3. Weights: weight_e goes from `energy_weight_full` to `energy_weight_empty` as the battery falls (full when it charges
   or cannot be read), x (1 - demand); demand is where the accuracy floor lies between the least and the most accurate
   branch. weight_a = 1 - weight_e. A deadline is demand, too, and acts as a constraint.
4. Energy of a branch: profiled where it is for all branches; otherwise in proportion to idle latency (constant power).
5. Latency factor: one for all branches, observed/idle, smoothed exponentially.
6. Context change: a new floor; the present branch no longer keeps time or memory; battery by `battery_step_pct`; the
   charger; time or memory for a branch that had been ruled out, with a share `up_margin` to spare. Only then is there
   a search. The first two act at once; the others wait until `hold` decisions after a change of branch, doubled each
   time that a change is soon undone.
It refuses (UserError) unknown settings and a device without profiled costs.
"""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from device_agents.seams import Adapter, UserError
from device_agents.settings import check_within, with_defaults
from device_agents.wire import AdapterView, Branch, Context, Cost, Decision, Outcome

_DEFAULTS: Dict[str, Any] = {
    "form": "select",                           # for the offline half: select | evolve
    "branches": None,                           # to choose from; None: all
    "energy_weight_full": 0.0, "energy_weight_empty": 1.0,
    "smoothing": 0.3,                           # weight of a new observation of the factor
    "margin": 0.1,                              # share of the deadline that stays free
    "battery_step_pct": 5.0,
    "up_margin": 0.1,
    "hold": 5,                                  # decisions
    "mem_reserve_mb": 32.0,
}
_LONGEST_HOLD = 32                              # times `hold`
_LEAST_FACTOR = 0.5
_NO_LIMIT = 1e18                                # finite, so that a share of it is less
_NEVER = float("inf")


class Seen(NamedTuple):
    """What a search depends on. `room_ms` = idle latency that would just fit now."""
    battery_pct: float
    on_battery: bool
    floor: Optional[float]
    room_ms: float
    mem_free_mb: float


class Adaspring(Adapter):
    @staticmethod
    def checked(settings: Dict[str, Any]) -> Dict[str, Any]:
        settings = with_defaults("adaspring", settings, _DEFAULTS)
        if settings["form"] not in ("select", "evolve"):
            raise UserError("adaspring: form must be select or evolve, is %r" % (settings["form"],))
        check_within("adaspring", settings, (
            ("energy_weight_full", 0.0, 1.0), ("energy_weight_empty", 0.0, 1.0), ("smoothing", 0.01, 1.0),
            ("margin", 0.0, 0.9), ("battery_step_pct", 0.1, 100.0), ("up_margin", 0.0, 0.9), ("hold", 1, 10 ** 6),
            ("mem_reserve_mb", 0.0, 1e9)))
        return settings

    def start(self, view: AdapterView, learned: Optional[bytes]) -> Decision:  # noqa: ARG002
        self._settings = self.checked(view.settings)
        self._branches = _candidates(view, self._settings["branches"])
        self._costs: Dict[str, Cost] = {branch.id: view.costs[branch.id] for branch in self._branches}
        self._period_ms = _NO_LIMIT if view.period_ms is None else view.period_ms
        self._accuracy: Dict[str, float] = {branch.id: branch.accuracy for branch in self._branches}
        self._loss = _scaled({branch.id: -branch.accuracy for branch in self._branches})
        self._energy = _energies(self._costs)
        self._factor = 1.0
        self._current = max(self._branches, key=lambda branch: branch.accuracy).id
        self._left, self._since_change, self._hold = "", 0, int(self._settings["hold"])
        self._search(self._see(Context(0, deadline_ms=view.deadline_ms, accuracy_floor=view.accuracy_floor)), "start")
        self._left, self._since_change = "", self._hold     # nothing was changed yet: the first context may act at once
        return self._decision

    def decide(self, context: Context, last: Optional[Outcome]) -> Decision:
        if last is not None and last.decision.branch in self._costs:
            observed = last.latency_ms / self._costs[last.decision.branch].latency_ms
            self._factor = max(_LEAST_FACTOR, self._factor + self._settings["smoothing"] * (observed - self._factor))
        self._since_change += 1
        if self._since_change > 2 * self._hold:
            self._hold = self._settings["hold"]     # it has held: trust changes again
        seen = self._see(context)
        changed = self._changed(seen)
        if changed:
            self._search(seen, changed)
        return self._decision

    def _see(self, context: Context) -> Seen:
        budget_ms = self._period_ms
        if context.deadline_ms is not None:
            left_ms = context.deadline_ms * (1.0 - self._settings["margin"]) - (context.queue_ms or 0.0)
            budget_ms = min(budget_ms, max(0.0, left_ms))
        return Seen(100.0 if context.battery_pct is None else context.battery_pct,
                    context.battery_pct is not None and not context.charging, context.accuracy_floor,
                    budget_ms / self._factor, _NO_LIMIT if context.mem_free_mb is None else context.mem_free_mb)

    def _changed(self, seen: Seen) -> str:
        """What has changed since the last search, enough to search again; '' when nothing has."""
        before = self._searched
        if seen.floor != before.floor:
            return "accuracy floor changed"
        if ((self._kept_time and not self._in_time(self._current, seen))
                or (self._kept_memory and not self._memory(self._current, seen))):
            return "the present branch stopped fitting"
        if self._since_change < self._hold:
            return ""
        if seen.on_battery != before.on_battery:
            return "charger changed"
        if abs(seen.battery_pct - before.battery_pct) >= self._settings["battery_step_pct"]:
            return "battery changed"
        share = 1.0 - self._settings["up_margin"]
        if seen.room_ms * share >= self._out_of_time_ms:
            return "time for a slower branch"
        return "memory for a larger branch" if seen.mem_free_mb * share >= self._out_of_memory_mb else ""

    def _search(self, seen: Seen, why: str) -> None:
        """Decide anew, on the front of what fits."""
        weight = self._energy_weight(seen)
        fitting = [name for name in self._costs if self._fits(name, seen)]
        if fitting:
            front = self._front(fitting)
            best = min(front, key=lambda name: (1.0 - weight) * self._loss[name] + weight * self._energy[name])
            found = "best of the front, energy weight %.2f" % weight
        else:
            front = list(self._costs)
            best, found = self._least_bad(seen)
        if best != self._current:
            if best == self._left and self._since_change <= 2 * self._hold:
                self._hold = min(2 * self._hold, _LONGEST_HOLD * self._settings["hold"])
            self._left, self._current, self._since_change = self._current, best, 0
        self._note(seen)
        self._decision = Decision(best, {}, "%s: %s" % (why, found), tuple(
            (name, self._costs[name].latency_ms * self._factor) for name in front))

    def _note(self, seen: Seen) -> None:
        """Keep what the next search depends on: what held, and when the next branch would no longer be ruled out."""
        self._searched = seen
        self._kept_time, self._kept_memory = self._in_time(self._current, seen), self._memory(self._current, seen)
        self._out_of_time_ms = min([cost.latency_ms for name, cost in self._costs.items()
                                    if not self._in_time(name, seen)] or [_NEVER])
        self._out_of_memory_mb = min([self._memory_needed_mb(name) for name in self._costs
                                      if not self._memory(name, seen)] or [_NEVER])

    def _front(self, names: Sequence[str]) -> List[str]:
        """Those that no other one beats in accuracy and energy, cheapest first; of equals the faster stays."""
        front: List[str] = []
        for name in sorted(names, key=lambda one: (self._energy[one], self._loss[one], self._costs[one].latency_ms)):
            if not front or self._loss[name] < self._loss[front[-1]]:
                front.append(name)
        return front

    def _least_bad(self, seen: Seen) -> Tuple[str, str]:
        within = [name for name in self._costs if self._memory(name, seen)]
        exact = [name for name in within if self._exact(name, seen)]
        in_time = [name for name in within if self._in_time(name, seen)]
        if exact:
            return min(exact, key=self._latency_ms), "none fits the deadline: fastest within memory and accuracy floor"
        if in_time:
            return max(in_time, key=self._accuracy.__getitem__), "none keeps the accuracy floor: most accurate in time"
        if within:
            return min(within, key=self._latency_ms), "none fits deadline or accuracy floor: fastest within memory"
        return min(self._costs, key=self._memory_needed_mb), "memory is short: the least of it"

    def _fits(self, name: str, seen: Seen) -> bool:
        return self._in_time(name, seen) and self._exact(name, seen) and self._memory(name, seen)

    def _in_time(self, name: str, seen: Seen) -> bool:
        return self._costs[name].latency_ms <= seen.room_ms

    def _exact(self, name: str, seen: Seen) -> bool:
        return seen.floor is None or self._accuracy[name] >= seen.floor

    def _memory(self, name: str, seen: Seen) -> bool:
        return self._memory_needed_mb(name) <= seen.mem_free_mb

    def _memory_needed_mb(self, name: str) -> float:
        """That must be free for this branch in place of the present one; -inf where peaks are not known."""
        peak_mb, present_mb = self._costs[name].peak_rss_mb, self._costs[self._current].peak_rss_mb
        reserve_mb: float = self._settings["mem_reserve_mb"]
        return -_NO_LIMIT if peak_mb is None or present_mb is None else peak_mb - present_mb + reserve_mb

    def _latency_ms(self, name: str) -> float:
        return self._costs[name].latency_ms

    def _energy_weight(self, seen: Seen) -> float:
        full: float = self._settings["energy_weight_full"]
        empty: float = self._settings["energy_weight_empty"]
        drained = 1.0 - min(100.0, max(0.0, seen.battery_pct)) / 100.0 if seen.on_battery else 0.0
        return (full + (empty - full) * drained) * (1.0 - self._demand(seen.floor))

    def _demand(self, floor: Optional[float]) -> float:
        """0 = the least accurate branch would do, 1 = only the most accurate does."""
        least, most = min(self._accuracy.values()), max(self._accuracy.values())
        if floor is None or floor <= least:
            return 0.0
        return 1.0 if floor >= most else (floor - least) / (most - least)


def _energies(costs: Dict[str, Cost]) -> Dict[str, float]:
    profiled = {name: cost.energy_mj for name, cost in costs.items() if cost.energy_mj is not None}
    if len(profiled) == len(costs):
        return _scaled(profiled)
    return _scaled({name: cost.latency_ms for name, cost in costs.items()})


def _scaled(values: Dict[str, float]) -> Dict[str, float]:
    """To 0..1 over the branches; all 0 when they are alike."""
    least, most = min(values.values()), max(values.values())
    return {name: (value - least) / (most - least) if most > least else 0.0 for name, value in values.items()}


def _candidates(view: AdapterView, names: Optional[List[str]]) -> List[Branch]:
    by_id = {branch.id: branch for branch in view.branches}
    unknown = [name for name in names or () if name not in by_id]
    if unknown:
        raise UserError("adaspring: branches names %r; the bundle has: %s" % (unknown[0], ", ".join(sorted(by_id))))
    chosen = [by_id[name] for name in names] if names else list(view.branches)
    unprofiled = [branch.id for branch in chosen if branch.id not in view.costs]
    if unprofiled:
        raise UserError("adaspring needs every branch's idle cost; %r has none: profile this device" % unprofiled[0])
    return chosen
