"""Energy of one trial's window out of counters or power readings, one source at a time. Pure functions.

Called by db.derive. Sources are never added up. A source whose readings do not cover the window gives a reason, not a
number: a counter covers what lies between its first and its last reading, power only what lies between neighbours, for
nobody knows what was drawn while a meter was silent or a charger was plugged in. Modelled joules are marked by their
provenance and chosen only where nothing measures.
"""
import math
import statistics
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from db.estimates import Value, Window

SMALLEST_COVER = 0.8                            # of the window, by readings with a value
LONGEST_STEP = 3.0                              # of the median period: neighbours further apart than that are none
_NEAREST_TO_THE_WALL = ("wall", "board", "battery", "rail", "soc", "modelled")
Points = Sequence[tuple[int, float]]            # (t_ns, value)
Steps = Sequence[tuple[tuple[int, float], tuple[int, float]]]   # neighbouring points
_METRICS = (("energy_mj_per_inference", "mJ"), ("energy_j", "J"), ("power_mean_w", "W"))


class Energy(NamedTuple):
    """What one source says. `joules` None: `reason` says why."""

    source: str
    scope: str
    provenance: str
    joules: float | None
    span_s: float
    served: int                                 # inferences that began while it was read
    readings: int
    reason: str | None


def values(window: Window, scopes: Mapping[str, str]) -> list[Value]:
    """The metrics of the best source; where there are several, those of each under "<metric>.<source>" too."""
    found = sorted(_sources(window, scopes), key=_preference)
    if not found:
        return [Value(metric, None, unit, 0, "", "no energy source", window.provenance) for metric, unit in _METRICS]
    each = [value for energy in found for value in _values(energy, f".{energy.source}")] if len(found) > 1 else []
    return [*_values(found[0], ""), *each]


def _preference(energy: Energy) -> tuple[bool, bool, int, str]:
    known = energy.scope in _NEAREST_TO_THE_WALL
    rank = _NEAREST_TO_THE_WALL.index(energy.scope) if known else len(_NEAREST_TO_THE_WALL)
    return energy.provenance == "modelled", energy.joules is None, rank, energy.source


def _values(energy: Energy, suffix: str) -> list[Value]:
    joules, source = energy.joules, f"{energy.source} ({energy.scope})" if energy.scope else energy.source
    each = joules * 1000.0 / energy.served if joules is not None and energy.served else None
    numbers = (each, joules, joules / energy.span_s if joules is not None else None)
    return [Value(metric + suffix, number, unit, energy.served if metric == _METRICS[0][0] else energy.readings, source,
                  None if number is not None else energy.reason or "nothing was served", energy.provenance)
            for (metric, unit), number in zip(_METRICS, numbers)]


def _sources(window: Window, scopes: Mapping[str, str]) -> list[Energy]:
    names = dict.fromkeys(
        row.source for metric in ("energy_j", "power_w") for row in window.measurements.get(metric, ()))
    return [_energy(window, name, scopes.get(name, "")) for name in names]


def _energy(window: Window, source: str, scope: str) -> Energy:
    read = {metric: [row for row in window.measurements.get(metric, ()) if row.source == source]
            for metric in ("energy_j", "power_w")}
    counter, power = ([row for row in read[metric] if row.value is not None] for metric in ("energy_j", "power_w"))
    used = counter if len(counter) >= 2 else power
    rows = [(row.t_ns, row.value) for row in used if row.value is not None]
    provenances = list(dict.fromkeys(row.provenance for row in used or [*read["energy_j"], *read["power_w"]]))
    provenance = provenances[0]
    if len(rows) < 2:
        most = max(len(counter), len(power))
        reason = f"too few readings in the window: {most}, two are needed"
        return Energy(source, scope, provenance, None, 0.0, 0, most, reason)
    if used is counter:
        spans = [(rows[0][0], rows[-1][0])]
        joules, problem = _counted(rows)
    else:
        steps = _steps(rows, [row.t_ns for row in read["power_w"] if row.value is None])
        spans = _joined(steps)
        joules, problem = _integrated(steps), None
    served = sum(any(begin_ns <= row.t_ns <= end_ns for begin_ns, end_ns in spans)
                 for row in window.inferences if row.status == "ok" and row.t_ns is not None)
    cover = sum(_cover(window, begin_ns, end_ns) for begin_ns, end_ns in spans)
    if cover < SMALLEST_COVER:
        joules = None
        problem = f"readings cover {100 * cover:.0f} % of the window, {100 * SMALLEST_COVER:.0f} % are needed"
    if len(provenances) > 1:
        joules = None
        problem = f"readings of {len(provenances)} provenances ({', '.join(provenances)}) are never pooled"
    span_s = sum(end_ns - begin_ns for begin_ns, end_ns in spans) / 1e9
    return Energy(source, scope, provenance, joules, span_s, served, len(rows), problem)


def _counted(rows: Points) -> tuple[float | None, str | None]:
    if any(after < before for (_, before), (_, after) in pairwise(rows)):
        return None, "the counter went backwards"
    return rows[-1][1] - rows[0][1], None


def _steps(rows: Points, silent_ns: Sequence[int]) -> Steps:
    """Neighbours between which the meter never fell silent, whether it said so or said nothing."""
    longest_ns = LONGEST_STEP * statistics.median(after - before for (before, _), (after, _) in pairwise(rows))
    return [(one, other) for one, other in pairwise(rows)
            if other[0] - one[0] <= longest_ns and bisect(silent_ns, one[0]) == bisect(silent_ns, other[0])]


def _joined(steps: Steps) -> list[tuple[int, int]]:
    """The stretches of time that they fill, (begin_ns, end_ns)."""
    spans: list[tuple[int, int]] = []
    for (begin_ns, _), (end_ns, _) in steps:
        if spans and spans[-1][1] == begin_ns:
            begin_ns = spans.pop()[0]
        spans.append((begin_ns, end_ns))
    return spans


def _integrated(steps: Steps) -> float:
    """Trapezoids."""
    return math.fsum((power + next_power) / 2 * (next_ns - t_ns) / 1e9
                     for (t_ns, power), (next_ns, next_power) in steps)


def _cover(window: Window, begin_ns: int, end_ns: int) -> float:
    """Share of the window, from the first to the last arrival, that lies between two times."""
    due = [row.due_ns for row in window.inferences if row.due_ns is not None]
    if end_ns <= begin_ns:
        return 0.0
    if not due or max(due) == min(due):
        return 1.0
    first, last = min(due), max(due)
    return max(0, min(end_ns, last) - max(begin_ns, first)) / (last - first)
