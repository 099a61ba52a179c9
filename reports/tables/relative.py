"""Relative: each method over the reference of the same device and trace, as ratios with intervals.

The reference is the label "fixed-full", else the first label of the method `fixed`. Runs are paired where both sides
have the same seeds (then they met the same load and arrivals). Modelled joules are never compared.
"""
from collections.abc import Sequence

from reports import cells
from reports.provenance import ordered, titled
from reports.query import Query, Row
from reports.stats import TOO_SMALL, ratio
from reports.table import Cell, Column, Missing, Table, names

PLACE = 20
FOLDED = False

REFERENCE = "fixed-full"
METRICS = (cells.ON_TIME, cells.LATENCY, cells.LATENCY_P95, cells.RESPONSE_P95, cells.ENERGY, cells.MEMORY)


def make(query: Query) -> Table:
    reference = _reference(query.trials)
    place = ("device", "trace", "provenance", *query.network_keys)
    columns = (*names((*place, "method")),
               *(Column(f"{metric.name}_ratio", metric.column.title, "×", 3) for metric in METRICS),
               Column("pairs", "pairs", "", 0, about="runs of both sides with the same seed"))
    rows = []
    for trials in query.cells:
        against = _same_place(query, trials, reference)
        if trials[0].label != reference and against:
            first = trials[0]
            pairs = _paired(trials, against)
            rows.append((first.device, first.trace, first.provenance, *query.network(first), first.label,
                         *(_cell(query, trials, against, metric) for metric in METRICS), len(pairs)))
    notes = ["Below 1 is less than the reference: better for latency, energy and memory, worse for on-time accuracy.",
             "95 % intervals over runs, paired by seed where possible, not adjusted for the number of rows."]
    if not rows:
        notes = [f"Nothing to compare: no other method ran beside {reference!r}." if reference else
                 "No method `fixed` in this campaign, so there is no reference."]
    shown = ordered(str(row[2]) for row in rows)
    title = titled(f"Methods relative to {reference or 'a fixed branch'}", shown,
                   {trial.processor for trial in query.trials})
    return Table(title, columns, tuple(rows), tuple(notes), shown, place)


def _reference(trials: Sequence[Row]) -> str:
    labels = sorted({trial.label for trial in trials if trial.method == "fixed"})
    return REFERENCE if REFERENCE in labels else "".join(labels[:1])


def _same_place(query: Query, trials: Sequence[Row], reference: str) -> list[Row]:
    """The reference's cell that shares all with this one but what belongs to the method; [] when there is none."""
    place = query.place(trials[0])
    return next((group for group in query.cells
                 if group[0].label == reference and query.place(group[0]) == place), [])


def _paired(trials: Sequence[Row], against: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Finished runs of both sides that share seed and repeat: the same load, arrivals and samples."""
    other = {(trial.seed, trial.repeat): trial for trial in against if trial.state == "done"}
    return [(trial, other[trial.seed, trial.repeat]) for trial in trials
            if trial.state == "done" and (trial.seed, trial.repeat) in other]


def _cell(query: Query, trials: Sequence[Row], against: Sequence[Row], metric: cells.Metric) -> Cell:
    pairs = _paired(trials, against)
    sides = [cells.readings(query, side, metric) for side in zip(*pairs)] or [[], []]
    known = [(mine, other) for mine, other in zip(*sides) if mine.value is not None and other.value is not None]
    if not known:
        reasons = [reading.reason for side in sides for reading in side if reading.reason]
        return Missing(reasons[0] if reasons else f"{TOO_SMALL}: no finished pair of runs")
    found = {reading.provenance for pair in known for reading in pair}
    if "modelled" in found:
        return Missing("modelled joules are in no comparison")
    if len({(reading.provenance, reading.source) for pair in known for reading in pair}) > 1:
        return Missing("the two sides have different sources")
    values = [(mine.value or 0.0, other.value or 0.0) for mine, other in known]
    if min(min(pair) for pair in values) <= 0.0:
        return Missing("a run has zero, so there is no ratio")
    return ratio([mine for mine, _ in values], [other for _, other in values], paired=True)
