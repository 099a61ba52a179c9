"""Seeds: each method over the training seeds of a network, the unit of statistics of a comparison of methods.

A row pools what `overall` keeps apart, and nothing else: the networks that one recipe gave from several seeds, with
what a method derives from each (settings, learned inputs, networks of its own). Each seed counts once, by the median of
its repeats. Empty where a campaign has one seed only.
"""
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from device_agents.wire import sha256_of
from reports import cells
from reports.provenance import ordered, titled
from reports.query import Query, Row
from reports.stats import Reading
from reports.table import Cell, Column, Missing, Table, names
from reports.variants import told_apart

PLACE = 15
FOLDED = False

METRICS = (cells.ON_TIME, cells.ACCURACY, cells.LATENCY, cells.RESPONSE_P95, cells.MISSES, cells.MEMORY, cells.SWITCHES,
           cells.DECIDE)
#: What differs between the seeds of one method by design. All else of it, its version or runtime, is another row.
_OF_A_SEED = ("settings", "learned", "bundle")
_NAMES = ("device", "trace", "provenance", "task", "model", "method", "variant")


def make(query: Query) -> Table:
    groups: dict[tuple[str, ...], dict[int, list[Row]]] = {}
    for trial in query.trials:
        # An edited campaign keeps its older trials: another duration, say, is another row, never pooled.
        place = (trial.device, trial.trace, trial.provenance, trial.task, trial.model, trial.label,
                 sha256_of([trial.processor, _definition(query, trial)]))
        groups.setdefault(place, {}).setdefault(trial.training_seed, []).append(trial)
    several = {place: list(seeds.values()) for place, seeds in groups.items() if len(seeds) > 1}
    firsts = [seeds[0][0] for seeds in several.values()]
    variants = told_apart([(place[:-1], {**_definition(query, first), "processor": first.processor})
                           for place, first in zip(several, firsts)])
    cell_of = {trial.id: number for number, cell in enumerate(query.cells) for trial in cell}
    rows = [(*place[:-1], variant, *_numbers(query, seeds, cell_of),
             sum(any(trial.state == "done" for trial in trials) for trials in seeds))
            for (place, seeds), variant in zip(several.items(), variants)]
    notes = ["Medians over training seeds, with 95 % intervals over seeds where there are at least three; a seed "
             "counts by the median of its repeats."] if rows else ["One training seed a network: nothing to pool."]
    columns = (*names(_NAMES), *(metric.column for metric in METRICS),
               Column("seeds", "seeds", "", 0, about="networks trained from different seeds, with a finished run"))
    shown = ordered(place[2] for place in several)
    table = Table(titled("Methods over training seeds", shown, {trial.processor for trial in query.trials}), columns,
                  tuple(rows), tuple(notes), shown, ("device", "trace", "provenance", "task", "model"))
    return table if any(variants) else table.without("variant")


def _definition(query: Query, trial: Row) -> dict[str, Any]:
    """What trials of one row share."""
    return {key: value for key, value in query.definition(trial).items() if key not in _OF_A_SEED}


def _numbers(query: Query, seeds: Sequence[Sequence[Row]], cell_of: Mapping[str, int]) -> list[Cell]:
    """One a metric. A seed with two cells had the method's settings edited: neither pooled nor chosen from."""
    if any(len({cell_of[trial.id] for trial in trials}) > 1 for trials in seeds):
        why = Missing("a seed ran with several settings or inputs of the method: see the table overall")
        return [why] * len(METRICS)
    return [_cell(query, seeds, metric) for metric in METRICS]


def _cell(query: Query, seeds: Sequence[Sequence[Row]], metric: cells.Metric) -> Cell:
    found = [reading for trials in seeds for reading in _of_seed(cells.readings(query, trials, metric))]
    return cells.pooled(found, metric, seeds[0][0].provenance)


def _of_seed(readings: Sequence[Reading]) -> list[Reading]:
    """One reading: the median of the repeats that have a value; what is missing as it is."""
    known = [reading for reading in readings if reading.value is not None]
    if not known:
        return list(readings[:1])
    if len({reading.provenance for reading in known}) > 1:
        return list(known)                      # over_runs refuses to pool them, and says why
    return [replace(known[0], value=median(reading.value for reading in known if reading.value is not None))]
