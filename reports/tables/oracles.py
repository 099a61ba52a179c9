"""Oracles: what could have been reached by who knows the future. Not realisable, and no method.

Every trial of `fixed` under one trace seed is a recording of its branch. The window is cut into bins; in each bin an
oracle takes one recording: the accuracy oracle that with most answers right and on time; the energy oracle may give
away a point of the whole window's accuracy against it, and spends that where it saves most busy time. Switches cost
nothing, and what waited at the end of a bin is forgotten, so both are optimistic. What nobody recorded they cannot
choose: branches of the Pareto front without a recording are named. Needs two fixed branches beside each other.
"""
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from device_agents.wire import sha256_of
from reports.provenance import ordered, titled
from reports.query import Query, Row
from reports.stats import Reading, over_runs
from reports.table import Cell, Column, Missing, Table, names
from reports.variants import told_apart

PLACE = 25
FOLDED = False

BINS = 20
GIVEN_AWAY = 0.01                               # share of the window's arrivals, by the energy oracle
_NAMES = ("device", "trace", "provenance", "task", "model", "training_seed", "method", "variant")
_NUMBERS = (Column("on_time_accuracy_pct", "on-time accuracy", "%", 1), Column("miss_pct", "deadline misses", "%", 1),
            Column("busy_pct", "busy", "% of the window", 1, about="inference time; what modelled joules grow with"))


class Bin(NamedTuple):
    """One branch in one bin of one run."""

    branch: str
    arrivals: int
    right: int                                  # and on time
    decided: int                                # arrivals whose deadline fell within the window: misses are of these
    missed: int
    busy_ms: float

    @property
    def share(self) -> float:
        return self.right / self.arrivals if self.arrivals else 0.0


Recordings = Sequence[Sequence[Bin]]            # of each branch, of one run


class Run(NamedTuple):
    """What an oracle made of one trace seed."""

    on_time_pct: float
    miss_pct: float | None                      # None without a deadline
    busy_pct: float
    branches: Counter[str]


def make(query: Query) -> Table:
    places: dict[tuple[Any, ...], dict[tuple[int, int], list[Row]]] = {}
    for trial in query.trials:
        if trial.method == "fixed" and trial.state == "done":
            key = (*(getattr(trial, name) for name in _NAMES[:6]),
                   sha256_of([trial.processor, _definition(query, trial)]))
            places.setdefault(key, {}).setdefault((trial.seed, trial.repeat), []).append(trial)
    firsts = [next(iter(runs.values()))[0] for runs in places.values()]
    variants = told_apart([(place[:-1], {**_definition(query, first), "processor": first.processor})
                           for place, first in zip(places, firsts)])
    rows: list[tuple[Cell, ...]] = []
    for (place, runs), first, variant in zip(places.items(), firsts, variants):
        recorded = [bins for trials in runs.values() if len(bins := _recordings(query, trials)) > 1]
        unrecorded = _unrecorded(query.branches[first.bundle], recorded)
        for name, choose in (("oracle: accuracy", most_right), ("oracle: energy", least_busy)):
            if recorded:
                played = [play(bins, choose, first.duration_s * 1e3) for bins in recorded]
                rows.append((*place[:-1], name, variant, *_cells(played, first.provenance), unrecorded, len(played)))
    notes = ["Not realisable: an oracle knows each bin's outcome beforehand, switches for nothing, and forgets what "
             f"waited at the end of a bin ({BINS} a window).",
             f"The energy oracle gives away at most {100 * GIVEN_AWAY:g} % of the window's arrivals, of those that the "
             "accuracy oracle has right and on time, for the least busy time; of fewer than 100 arrivals that is none.",
             "No upper bound for a method that may use peers, or a branch that no fixed trial recorded; of the Pareto "
             "front (validation accuracy, multiply-accumulates, file size) these are named.",
             "Misses: of the arrivals whose deadline fell within the window, as in the table overall."]
    if not rows:
        notes = ["No two fixed branches ran beside each other, so there is nothing for an oracle to choose from."]
    columns = (*names(_NAMES), *_NUMBERS,
               Column("choices", "branches", numeric=False, detail=1, about="share of the bins"),
               Column("unrecorded", "Pareto branches without a recording", numeric=False, detail=1),
               Column("runs", "runs", "", 0))
    shown = ordered(str(place[2]) for place in places)
    table = Table(titled("Oracles (not realisable)", shown, {trial.processor for trial in query.trials}), columns,
                  tuple(rows), tuple(notes), shown, _NAMES[:6])
    return table if any(variants) else table.without("variant")


def _definition(query: Query, trial: Row) -> dict[str, Any]:
    """What the recordings of one row share: all but the branch, so that no older version or runtime is mixed in."""
    return {key: value for key, value in query.definition(trial).items() if key not in ("settings", "learned")}


def most_right(recordings: Recordings) -> list[Bin]:
    """Of each bin the best recording, the less busy of equals."""
    return [max(bins, key=lambda one: (one.share, -one.busy_ms, one.branch)) for bins in zip(*recordings)]


def least_busy(recordings: Recordings) -> list[Bin]:
    """The least busy way through all bins that stays within the answers which may be given away.

    Exact: of all ways that gave away the same number so far, only the least busy one can be part of it.
    """
    best = most_right(recordings)
    most = math.floor(GIVEN_AWAY * sum(bin.arrivals for bin in best) + 1e-9)
    ways: dict[int, tuple[float, tuple[Bin, ...]]] = {0: (0.0, ())}
    for bins, top in zip(zip(*recordings), best):
        further: dict[int, tuple[float, tuple[Bin, ...]]] = {}
        prices = [(math.ceil((top.share - one.share) * top.arrivals - 1e-9), one) for one in bins]
        for given, (busy_ms, taken) in ways.items():
            for price, one in prices:
                total, busy = given + price, busy_ms + one.busy_ms
                if total <= most and (total not in further or busy < further[total][0]):
                    further[total] = (busy, (*taken, one))
        ways = further
    return list(min((busy_ms, given, taken) for given, (busy_ms, taken) in ways.items())[2])


def play(recordings: Recordings, choose: Callable[[Recordings], Sequence[Bin]], duration_ms: float) -> Run:
    """Go through the window with the recordings of all branches, bin by bin."""
    chosen = choose(recordings)
    arrivals, decided = sum(one.arrivals for one in chosen), sum(one.decided for one in chosen)
    return Run(100.0 * sum(one.right for one in chosen) / max(1, arrivals),
               100.0 * sum(one.missed for one in chosen) / decided if decided else None,
               100.0 * sum(one.busy_ms for one in chosen) / duration_ms, Counter(one.branch for one in chosen))


def _recordings(query: Query, trials: Sequence[Row]) -> list[list[Bin]]:
    """One list of bins for each branch that a fixed trial ran from beginning to end."""
    found: dict[str, list[Bin]] = {}
    for trial in trials:
        lines = query.inferences(trial, ("due_ns", "branch", "status", "correct", "met", "latency_ms"))
        branches = {line.branch for line in lines if line.branch is not None}
        if len(branches) != 1 or not lines:
            continue
        branch, begin = branches.pop(), min(line.due_ns for line in lines)
        width = trial.duration_s * 1e9 / BINS
        parts: list[list[Row]] = [[] for _ in range(BINS)]
        for line in lines:
            parts[min(BINS - 1, int((line.due_ns - begin) / width))].append(line)
        found[branch] = [Bin(branch, len(part), sum(bool(one.correct) and one.met != 0 for one in part),
                             sum(one.met is not None for one in part), sum(_missed(one) for one in part),
                             sum(one.latency_ms or 0.0 for one in part))
                         for part in parts]
    return list(found.values())


def _unrecorded(branches: Sequence[Row], recorded: Sequence[Recordings]) -> str:
    """Branches that no other one beats in accuracy, MACs and size, of which a run has no recording."""
    def scores(one: Row) -> tuple[float, int, int]:
        return one.accuracy, -one.macs, -one.size_b

    front = [one for one in branches if not any(
        scores(other) != scores(one) and all(a >= b for a, b in zip(scores(other), scores(one))) for other in branches)]
    everywhere = set.intersection(*({bins[0].branch for bins in run} for run in recorded)) if recorded else set()
    return ", ".join(one.id for one in front if one.id not in everywhere) or "none"


def _missed(line: Row) -> bool:
    return line.met is not None and not (line.status == "ok" and line.met == 1)


def _cells(runs: Sequence[Run], provenance: str) -> tuple[Cell, ...]:
    def over(values: Sequence[float | None]) -> Cell:
        readings = [Reading(value, "%", 1, "recordings", "", provenance) for value in values]
        estimate = over_runs(readings, (0.0, 100.0))
        return Missing("the trial has no deadline") if estimate is None else estimate

    choices: Counter[str] = sum((run.branches for run in runs), Counter())
    total = sum(choices.values())
    text = ", ".join(f"{name} {100 * count / total:.0f} %" for name, count in choices.most_common(4))
    return (over([run.on_time_pct for run in runs]), over([run.miss_pct for run in runs]),
            over([run.busy_pct for run in runs]), text)
