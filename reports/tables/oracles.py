"""Oracles: what could have been reached by who knows the future. Not realisable, and no method.

Every trial of `fixed` under one trace seed is a recording of its branch. The window is cut into bins; in each bin an
oracle takes the recording that did best there: the accuracy oracle by answers that were right and on time, the energy
oracle by the least busy time among those within one point of the best. Switches cost it nothing, and what waited at the
end of a bin is forgotten, so both are optimistic. Needs at least two fixed branches beside each other.
"""
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reports.provenance import ordered, titled
from reports.query import Query, Row
from reports.stats import Reading, over_runs
from reports.table import Cell, Column, Missing, Table, names

PLACE = 25
FOLDED = False

BINS = 20
CLOSE = 0.01                                    # share of a bin's arrivals that the energy oracle may give away
_NAMES = ("device", "trace", "provenance", "task", "model", "training_seed", "method")
_NUMBERS = (Column("on_time_accuracy_pct", "on-time accuracy", "%", 1), Column("miss_pct", "deadline misses", "%", 1),
            Column("busy_pct", "busy", "% of the window", 1, about="inference time; what modelled joules grow with"))


class Bin(NamedTuple):
    """One branch in one bin of one run."""

    branch: str
    arrivals: int
    right: int                                  # and on time
    missed: int
    busy_ms: float

    @property
    def share(self) -> float:
        return self.right / self.arrivals if self.arrivals else 0.0


class Run(NamedTuple):
    """What an oracle made of one trace seed."""

    on_time_pct: float
    miss_pct: float
    busy_pct: float
    branches: Counter[str]


def make(query: Query) -> Table:
    places: dict[tuple[Cell, ...], dict[tuple[int, int], list[Row]]] = {}
    for trial in query.trials:
        if trial.method == "fixed" and trial.state == "done":
            key = (trial.device, trial.trace, trial.provenance, trial.task, trial.model, trial.training_seed,
                   query.place(trial))
            places.setdefault(key, {}).setdefault((trial.seed, trial.repeat), []).append(trial)
    rows: list[tuple[Cell, ...]] = []
    for place, runs in places.items():
        recorded = [bins for trials in runs.values() if len(bins := _recordings(query, trials)) > 1]
        duration_ms = next(iter(runs.values()))[0].duration_s * 1e3
        for name, choose in (("oracle: accuracy", most_right), ("oracle: energy", least_busy)):
            if recorded:
                rows.append((*place[:-1], name, *_cells([play(bins, choose, duration_ms) for bins in recorded], place)))
    notes = ["Not realisable: an oracle knows each bin's outcome beforehand, switches for nothing, and forgets what "
             f"waited at the end of a bin ({BINS} a window)."]
    if not rows:
        notes = ["No two fixed branches ran beside each other, so there is nothing for an oracle to choose from."]
    columns = (*names(_NAMES), *_NUMBERS,
               Column("choices", "branches", numeric=False, detail=1, about="share of the bins"),
               Column("runs", "runs", "", 0))
    shown = ordered(str(place[2]) for place in places)
    return Table(titled("Oracles (not realisable)", shown, {trial.processor for trial in query.trials}), columns,
                 tuple(rows), tuple(notes), shown, _NAMES[:6])


def most_right(bins: Sequence[Bin]) -> Bin:
    return max(bins, key=lambda one: (one.share, -one.busy_ms, one.branch))


def least_busy(bins: Sequence[Bin]) -> Bin:
    best = max(one.share for one in bins)
    return min((one for one in bins if one.share >= best - CLOSE), key=lambda one: (one.busy_ms, one.branch))


def play(recordings: Sequence[Sequence[Bin]], choose: Callable[[Sequence[Bin]], Bin], duration_ms: float) -> Run:
    """Go through the window with the recordings of all branches, bin by bin."""
    chosen = [choose(bins) for bins in zip(*recordings)]
    pct = 100.0 / max(1, sum(one.arrivals for one in chosen))
    return Run(pct * sum(one.right for one in chosen), pct * sum(one.missed for one in chosen),
               100.0 * sum(one.busy_ms for one in chosen) / duration_ms, Counter(one.branch for one in chosen))


def _recordings(query: Query, trials: Sequence[Row]) -> list[list[Bin]]:
    """One list of bins for each branch that a fixed trial ran from beginning to end."""
    found: dict[str, list[Bin]] = {}
    for trial in trials:
        lines = query.inferences(trial, ("due_ns", "branch", "correct", "met", "latency_ms"))
        branches = {line.branch for line in lines if line.branch is not None}
        if len(branches) != 1 or not lines:
            continue
        branch, begin = branches.pop(), min(line.due_ns for line in lines)
        width = trial.duration_s * 1e9 / BINS
        parts: list[list[Row]] = [[] for _ in range(BINS)]
        for line in lines:
            parts[min(BINS - 1, int((line.due_ns - begin) / width))].append(line)
        found[branch] = [Bin(branch, len(part), sum(bool(one.correct) and one.met != 0 for one in part),
                             sum(one.met == 0 for one in part), sum(one.latency_ms or 0.0 for one in part))
                         for part in parts]
    return list(found.values())


def _cells(runs: Sequence[Run], place: Sequence[Cell]) -> tuple[Cell, ...]:
    def over(values: list[float]) -> Cell:
        readings = [Reading(value, "%", 1, "recordings", "", str(place[2])) for value in values]
        estimate = over_runs(readings, (0.0, 100.0))
        return Missing("no run") if estimate is None else estimate

    choices: Counter[str] = sum((run.branches for run in runs), Counter())
    total = sum(choices.values())
    text = ", ".join(f"{name} {100 * count / total:.0f} %" for name, count in choices.most_common(4))
    return (over([run.on_time_pct for run in runs]), over([run.miss_pct for run in runs]),
            over([run.busy_pct for run in runs]), text, len(runs))
