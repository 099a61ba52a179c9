"""Seeds: each method over the training seeds of a network, the unit of statistics of a comparison of methods.

A row pools what `overall` keeps apart, and nothing else: the networks that one recipe gave from several seeds. Each
seed counts once, by the median of its repeats. Empty where a campaign has one seed only.
"""
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from reports import cells
from reports.provenance import ordered, titled
from reports.query import Query, Row
from reports.stats import MixedProvenanceError, Reading, over_runs
from reports.table import Cell, Column, Missing, Table, names

PLACE = 15
FOLDED = False

METRICS = (cells.ON_TIME, cells.ACCURACY, cells.LATENCY, cells.RESPONSE_P95, cells.MISSES, cells.MEMORY, cells.SWITCHES,
           cells.DECIDE)
_NAMES = ("device", "trace", "provenance", "task", "model", "method")


def make(query: Query) -> Table:
    groups: dict[tuple[str, ...], dict[int, list[Row]]] = {}
    for trial in query.trials:
        # An edited campaign keeps its older trials: another duration, say, is another row, never pooled.
        place = (trial.device, trial.trace, trial.provenance, trial.task, trial.model, trial.label,
                 query.place(trial, without=("bundle",)))
        groups.setdefault(place, {}).setdefault(trial.training_seed, []).append(trial)
    several = {place: seeds for place, seeds in groups.items() if len(seeds) > 1}
    rows = [(*place[:-1], *(_cell(query, list(seeds.values()), metric) for metric in METRICS), len(seeds))
            for place, seeds in several.items()]
    notes = ["Medians over training seeds, with 95 % intervals over seeds where there are at least three; a seed "
             "counts by the median of its repeats."] if rows else ["One training seed a network: nothing to pool."]
    columns = (*names(_NAMES), *(metric.column for metric in METRICS),
               Column("seeds", "seeds", "", 0, about="networks trained from different seeds"))
    shown = ordered(place[2] for place in several)
    return Table(titled("Methods over training seeds", shown, {trial.processor for trial in query.trials}), columns,
                 tuple(rows), tuple(notes), shown, ("device", "trace", "provenance", "task", "model"))


def _cell(query: Query, seeds: Sequence[Sequence[Row]], metric: cells.Metric) -> Cell:
    found = [reading for trials in seeds for reading in _of_seed(cells.readings(query, trials, metric))]
    try:
        estimate = over_runs(found, metric.bounds)
    except MixedProvenanceError as error:
        return Missing(str(error))
    if estimate is None:
        return Missing(next((reading.reason for reading in found if reading.reason), "no reading"))
    return estimate


def _of_seed(readings: Sequence[Reading]) -> list[Reading]:
    """One reading: the median of the repeats that have a value; what is missing as it is."""
    known = [reading for reading in readings if reading.value is not None]
    if not known:
        return list(readings[:1])
    if len({reading.provenance for reading in known}) > 1:
        return list(known)                      # over_runs refuses to pool them, and says why
    return [replace(known[0], value=median(reading.value for reading in known if reading.value is not None))]
