"""AdaScale, online half: Wang et al., "AdaScale", arXiv 2412.00724, 2024 (IEEE Internet of Things Journal, 2025).

Published: a self-evolutionary multi-branch network with operator combinations; on the device a block that is aware of
resource availability and performance profilers close an automated loop that picks the branch. Nothing more of the loop
could be read, so this is our re-implementation of that idea, not a reproduction of the paper's method or numbers.

Left open by what could be read: the loop's objective, constraints and triggers; the profilers' equations; how
contention enters the latency; any hysteresis; how energy and accuracy are weighed. Hence all ours, each a deviation:
1. Latency: predicted = profiled idle latency x one contention factor for all branches. The factor starts at
   1 + co_cpu_pct/100 and then follows observed/idle by exponential averaging, faster upwards than downwards.
2. Budget: deadline less a margin less the time that the arrival has waited, and no more than the arrivals' period (a
   slower branch would only lengthen the queue). Memory: a branch's peak beyond the present one's must fit into what is
   free above a reserve. Accuracy: the floor in force. The most accurate feasible branch wins; when there is none, the
   fastest of those that keep memory and floor, then of those that keep memory, then the one with the least memory.
3. Battery: below `low_battery_pct` (and not charging) energy counts, from not at all to as much as accuracy at 0 %.
   Energy is the profiled one where measured. Otherwise it is relative only: sigma_1*C + eps*sigma_2*M + (1-eps)*
   sigma_3*M, the form and unit energies of the first author's published profiler code (CrowdHMT/Model-Performance-
   Evaluation, src/energy.py), with M = parameter bytes, since activations are not in the manifest, and with the
   factor M in the last term, which that code lacks. eps, the warm ratio, is t2/t1 of the two inferences after a switch,
   as that code computes its cache hit rate, and 0.5 until then or when it is 1 or more.
4. Hysteresis: a branch that no longer fits is left at once; any other change waits until the same branch was preferred
   in `patience` decisions running, one that is dearer with a further margin. A change that is undone soon doubles it.
It refuses (UserError) unknown settings and a device without profiled costs.
"""
from typing import Any, Dict, List, Optional, Tuple

from device_agents.seams import Adapter, UserError
from device_agents.settings import check_within, with_defaults
from device_agents.wire import AdapterView, Branch, Context, Cost, Decision, Outcome

_DEFAULTS: Dict[str, Any] = {
    "pareto": None,                             # branches to choose from; None: all
    "rise": 0.5, "fall": 0.2,                   # weight of a new observation above, below the factor
    "margin": 0.1,                              # share of the deadline that stays free
    "up_margin": 0.1,                           # further share for a change to a dearer branch
    "patience": 5,                              # decisions
    "low_battery_pct": 30.0,
    "mem_reserve_mb": 32.0,
}
_LONGEST_PATIENCE = 32                          # times `patience`
_LEAST_FACTOR = 0.5
_SIGMA_MAC_PJ, _SIGMA_CACHE_PJ, _SIGMA_MEMORY_PJ, _EPS = 5e3, 0.05, 100.0, 0.5
_BYTES_PER_PARAM = {"int8": 1.0, "uint8": 1.0, "float16": 2.0, "bfloat16": 2.0}

Ranks = Dict[str, Tuple[float, float]]          # of each branch
Fit = Tuple[bool, bool, bool]                   # memory, accuracy floor, budget


class Adascale(Adapter):
    @staticmethod
    def checked(settings: Dict[str, Any]) -> Dict[str, Any]:
        settings = with_defaults("adascale", settings, _DEFAULTS)
        check_within("adascale", settings, (
            ("rise", 0.0, 1.0), ("fall", 0.0, 1.0), ("margin", 0.0, 0.9), ("up_margin", 0.0, 0.9),
            ("patience", 1, 10 ** 6), ("low_battery_pct", 1e-9, 100.0), ("mem_reserve_mb", 0.0, 1e9)))
        return settings

    def start(self, view: AdapterView, learned: Optional[bytes]) -> Decision:  # noqa: ARG002
        self._settings = self.checked(view.settings)
        self._branches = _candidates(view, self._settings["pareto"])
        self._costs: Dict[str, Cost] = {branch.id: view.costs[branch.id] for branch in self._branches}
        self._period_ms = view.period_ms
        self._accuracy = _scaled({branch.id: branch.accuracy for branch in self._branches})
        self._factor: Optional[float] = None
        self._eps = _EPS
        self._energy = self._energies()
        self._wanted, self._wanted_for = "", 0
        self._patience, self._since_change = self._settings["patience"], 0
        self._left = ""
        self._first_ms: Optional[float] = None  # latency of the first inference after a switch
        self._current = max(self._branches, key=lambda branch: branch.accuracy).id
        context = Context(0, deadline_ms=view.deadline_ms, accuracy_floor=view.accuracy_floor)
        self._current, reason, candidates = self._prefer(context, 1.0, self._ranks(context))
        return Decision(self._current, {}, reason, candidates)

    def decide(self, context: Context, last: Optional[Outcome]) -> Decision:
        factor = self._learn(context, last)
        self._since_change += 1
        ranks = self._ranks(context)
        wanted, reason, candidates = self._prefer(context, factor, ranks)
        if wanted == self._current:
            self._wanted = ""
            if self._since_change > self._patience:
                self._patience = self._settings["patience"]     # it has held: trust changes again
        elif not all(self._fits(context, factor, self._costs[self._current], self._floor_of(self._current), 0.0)):
            self._change(wanted)
        else:
            reason = self._wait(self._better(context, factor, ranks), reason)
        return Decision(self._current, {}, reason, candidates)

    def _learn(self, context: Context, last: Optional[Outcome]) -> float:
        """Follow observed/idle; returns the factor."""
        if last is None or last.decision.branch not in self._costs:
            if self._factor is None:
                self._factor = 1.0 + (context.co_cpu_pct or 0.0) / 100.0
            return self._factor
        observed = last.latency_ms / self._costs[last.decision.branch].latency_ms
        before = observed if self._factor is None else self._factor
        weight = self._settings["rise" if observed > before else "fall"]
        self._factor = max(_LEAST_FACTOR, before + weight * (observed - before))
        if self._since_change == 0:
            self._first_ms = last.latency_ms
        elif self._since_change == 1 and self._first_ms:
            ratio = last.latency_ms / self._first_ms
            self._eps = ratio if ratio < 1.0 else _EPS
            self._energy = self._energies()
        return self._factor

    def _prefer(self, context: Context, factor: float,
                ranks: Ranks) -> Tuple[str, str, Tuple[Tuple[str, Optional[float]], ...]]:
        """(branch, why, candidates): the best by constraints and objective, hysteresis left aside."""
        fits = [self._fits(context, factor, self._costs[branch.id], branch.accuracy, 0.0) for branch in self._branches]
        candidates = tuple((branch.id, self._costs[branch.id].latency_ms * factor) for branch in self._branches)
        feasible = [branch.id for branch, fit in zip(self._branches, fits) if all(fit)]
        if feasible:
            best, saves = max(feasible, key=ranks.__getitem__), self._energy_weight(context) > 0
            return best, "best that fits, saving battery" if saves else "most accurate that fits", candidates
        for reason, kept in (("none fits the deadline: fastest within memory and accuracy floor", 2),
                             ("none fits deadline and accuracy floor: fastest within memory", 1)):
            within = [branch for branch, fit in zip(self._branches, fits) if all(fit[:kept])]
            if within:
                return min(within, key=lambda branch: self._costs[branch.id].latency_ms).id, reason, candidates
        return min(self._branches, key=self._memory_mb).id, "memory is short: the least of it", candidates

    def _fits(self, context: Context, factor: float, cost: Cost, accuracy: float, further_margin: float) -> Fit:
        memory = True
        present = self._costs[self._current]
        if context.mem_free_mb is not None and cost.peak_rss_mb is not None and present.peak_rss_mb is not None:
            free_mb = context.mem_free_mb - self._settings["mem_reserve_mb"]
            memory = cost.peak_rss_mb - present.peak_rss_mb <= free_mb
        floor = context.accuracy_floor is None or accuracy >= context.accuracy_floor
        budget_ms = float("inf") if self._period_ms is None else self._period_ms
        if context.deadline_ms is not None:
            left_ms = context.deadline_ms * (1.0 - self._settings["margin"]) - (context.queue_ms or 0.0)
            budget_ms = min(budget_ms, left_ms)
        return memory, floor, cost.latency_ms * factor <= budget_ms * (1.0 - further_margin)

    def _wait(self, better: List[str], reason: str) -> str:
        """One more decision in favour of a better branch; change when there were enough. Returns the reason to give."""
        if not better:
            self._wanted = ""
            return "kept: a better one fits, but not by the margin"
        known = self._wanted in better          # of those that were preferred meanwhile the one that asks for least
        self._wanted = min((self._wanted, better[0]), key=self._latency_ms) if known else better[0]
        self._wanted_for = self._wanted_for + 1 if known else 1
        if self._wanted_for < self._patience:
            return "kept: a better one fits, not for long enough"
        self._change(self._wanted)
        return reason

    def _better(self, context: Context, factor: float, ranks: Ranks) -> List[str]:
        """What is preferred to the present branch and fits by the margin that a change takes, best first."""
        present_ms, found = self._latency_ms(self._current), []
        for branch in self._branches:
            cost = self._costs[branch.id]
            margin = self._settings["up_margin"] if cost.latency_ms > present_ms else 0.0
            if ranks[branch.id] > ranks[self._current] and all(
                    self._fits(context, factor, cost, branch.accuracy, margin)):
                found.append(branch.id)
        return sorted(found, key=ranks.__getitem__, reverse=True)

    def _ranks(self, context: Context) -> Ranks:
        """Of each branch, what is preferred among those that fit: its score, then its speed."""
        weight = self._energy_weight(context)
        return {branch.id: (self._score(branch, weight), -self._latency_ms(branch.id)) for branch in self._branches}

    def _latency_ms(self, name: str) -> float:
        return self._costs[name].latency_ms

    def _change(self, wanted: str) -> None:
        undone = wanted == self._left and self._since_change <= 2 * self._patience
        if undone:
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE * self._settings["patience"])
        self._left, self._current = self._current, wanted
        self._wanted, self._since_change, self._first_ms = "", 0, None

    def _score(self, branch: Branch, weight: float) -> float:
        return (1.0 - weight) * self._accuracy[branch.id] - weight * self._energy[branch.id]

    def _energy_weight(self, context: Context) -> float:
        """0 with enough battery, 0.5 (as much as accuracy) when it is empty."""
        low_pct: float = self._settings["low_battery_pct"]
        if context.battery_pct is None or context.charging or context.battery_pct >= low_pct:
            return 0.0
        return 0.5 * (low_pct - max(0.0, context.battery_pct)) / low_pct

    def _energies(self) -> Dict[str, float]:
        """Energy of each branch, scaled to 0..1: profiled where all are, else the predictor's."""
        measured = {name: cost.energy_mj for name, cost in self._costs.items() if cost.energy_mj is not None}
        if len(measured) == len(self._costs):
            return _scaled(measured)
        per_byte_pj = self._eps * _SIGMA_CACHE_PJ + (1.0 - self._eps) * _SIGMA_MEMORY_PJ
        return _scaled({
            branch.id: _SIGMA_MAC_PJ * branch.macs
            + per_byte_pj * branch.params * _BYTES_PER_PARAM.get(branch.precision, 4.0) for branch in self._branches})

    def _memory_mb(self, branch: Branch) -> Tuple[float, int]:
        return self._costs[branch.id].peak_rss_mb or 0.0, branch.size_b

    def _floor_of(self, name: str) -> float:
        return next(branch.accuracy for branch in self._branches if branch.id == name)


def _scaled(values: Dict[str, float]) -> Dict[str, float]:
    """To 0..1 over the branches; all 0 when they are alike."""
    least, most = min(values.values()), max(values.values())
    return {name: (value - least) / (most - least) if most > least else 0.0 for name, value in values.items()}


def _candidates(view: AdapterView, names: Optional[List[str]]) -> List[Branch]:
    by_id = {branch.id: branch for branch in view.branches}
    unknown = [name for name in names or () if name not in by_id]
    if unknown:
        raise UserError("adascale: pareto names %r; the bundle has: %s" % (unknown[0], ", ".join(sorted(by_id))))
    chosen = [by_id[name] for name in names] if names else list(view.branches)
    unprofiled = [branch.id for branch in chosen if branch.id not in view.costs]
    if unprofiled:
        raise UserError("adascale needs every branch's idle cost; %r has none: profile this device" % unprofiled[0])
    return chosen
