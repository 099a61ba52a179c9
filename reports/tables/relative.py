"""Relative: each method over the reference of the same device and trace, as ratios with intervals.

The reference is the label "fixed-full", else the first label of the method `fixed`, in the runtime of the method that
is compared where it ran in that. Where several forms of it remain, nothing is compared. Runs are paired where both
sides have the same seeds (then they met the same load and arrivals). What has another provenance than its trial, such
as modelled joules, is never compared.
"""
from collections.abc import Sequence

from device_agents.wire import costed_as
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
    reference, variants = _reference(query.trials), query.variants()
    columns = (*names((*query.row_keys, "method", "variant")),
               *(Column(f"{metric.name}_ratio", metric.column.title, "×", 3) for metric in METRICS),
               Column("pairs", "pairs", "", 0, about="runs of both sides with the same seed"))
    beside: dict[str, list[list[Row]]] = {}
    for trials in query.cells:
        if trials[0].label == reference:
            beside.setdefault(query.place(trials[0]), []).append(trials)
    rows: list[tuple[Cell, ...]] = []
    for trials in query.cells:
        first = trials[0]
        against = _in_its_runtime(first, beside.get(query.place(first), [])) if first.label != reference else []
        if against:
            rows.append((*(getattr(first, key) for key in query.row_keys), first.label, variants[first.id],
                         *_numbers(query, trials, against, variants)))
    notes = ["Below 1 is less than the reference: better for latency, energy and memory, worse for on-time accuracy.",
             "95 % intervals over runs, paired by seed where possible, not adjusted for the number of rows."]
    if not rows:
        notes = [f"Nothing to compare: no other method ran beside {reference!r}." if reference else
                 "No method `fixed` in this campaign, so there is no reference."]
    shown = ordered(str(row[2]) for row in rows)
    title = titled(f"Methods relative to {reference or 'a fixed branch'}", shown,
                   {trial.processor for trial in query.trials})
    table = Table(title, columns, tuple(rows), tuple(notes), shown, query.row_keys)
    return table if any(variants.values()) else table.without("variant")


def _reference(trials: Sequence[Row]) -> str:
    labels = sorted({trial.label for trial in trials if trial.method == "fixed"})
    return REFERENCE if REFERENCE in labels else "".join(labels[:1])


def _in_its_runtime(trial: Row, references: list[list[Row]]) -> list[list[Row]]:
    """Cells of the reference that ran in the trial's runtime, or all where none did (a method may bring its own)."""
    def runtime(one: Row) -> str:
        return costed_as(one.engine, one.runtime)[1]
    return [cell for cell in references if runtime(cell[0]) == runtime(trial)] or references


def _numbers(query: Query, trials: Sequence[Row], against: Sequence[Sequence[Row]],
             variants: dict[str, str]) -> tuple[Cell, ...]:
    """A row's ratios and its number of pairs."""
    if len(against) > 1:
        forms = " or ".join(variants[cell[0].id] for cell in against)
        unclear = Missing(f"the reference ran in several forms ({forms}); a campaign of another name has only the "
                          "trials that it now asks for")
        return (*(unclear for _ in METRICS), unclear)
    return (*(_cell(query, trials, against[0], metric) for metric in METRICS), len(_paired(trials, against[0])))


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
    foreign = {reading.provenance for pair in known for reading in pair} - {trials[0].provenance}
    if foreign:
        return Missing(f"{' and '.join(ordered(foreign))} readings are in no comparison")
    if len({(reading.provenance, reading.source) for pair in known for reading in pair}) > 1:
        return Missing("the two sides have different sources")
    values = [(mine.value or 0.0, other.value or 0.0) for mine, other in known]
    if min(min(pair) for pair in values) <= 0.0:
        return Missing("a run has zero, so there is no ratio")
    return ratio([mine for mine, _ in values], [other for _, other in values], paired=True)
