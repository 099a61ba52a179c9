"""Overall: each method on each device under each trace. The table that `edgefleet run` ends with.

A row is one cell (all that is pooled is its repeats); numbers are medians over runs. Cells without a finished run stay
in the table, with the reason.
"""
from collections.abc import Sequence
from typing import Any

from device_agents.wire import canonical_json
from reports import cells
from reports.provenance import titled
from reports.query import Query, Row
from reports.table import Cell, Column, Missing, Table, names

PLACE = 10
FOLDED = False

METRICS = (cells.ACCURACY, cells.ON_TIME, cells.LATENCY, cells.LATENCY_P95, cells.RESPONSE_P95, cells.MISSES)
RUNNING = (cells.MEMORY, cells.SWITCHES, cells.DECIDE, cells.DECIDE_P99, cells.FEASIBLE)
_MODELLED = Column("energy_modelled_mj", "modelled energy", "mJ", detail=2)
_SOURCE = Column("energy_source", "energy source", numeric=False, detail=2)
_ENDS = (Column("runs", "runs", "", 0, about="finished runs, the unit of statistics"),
         Column("planned", "planned", "", 0, detail=3))


def make(query: Query) -> Table:
    dimensions = _dimensions(query)
    rows, modelled = [], False
    for trials in query.cells:
        compared, own_column, source = cells.energy_cells(query, trials)
        modelled = modelled or not isinstance(own_column, Missing)
        rows.append((*(_text(value) for value in _values(query, trials, dimensions)),
                     *(cells.cell(query, trials, metric) for metric in METRICS), compared, own_column, source,
                     *(cells.cell(query, trials, metric) for metric in RUNNING),
                     sum(trial.state == "done" for trial in trials), len(trials)))
    columns = (*names(dimensions),
               *(metric.column for metric in METRICS), cells.ENERGY.column, _MODELLED, _SOURCE,
               *(metric.column for metric in RUNNING), *_ENDS)
    table = Table(titled("Methods by device and trace", {trial.provenance for trial in query.trials},
                         {trial.processor for trial in query.trials}), columns, tuple(rows), _notes(query, modelled),
                  tuple(sorted({trial.provenance for trial in query.trials})),
                  tuple(key for key in dimensions if key not in ("method", "variant")))
    return table if modelled else table.without(_MODELLED.key)


def _dimensions(query: Query) -> list[str]:
    """Always device, trace, provenance and method; task, model, training seed and the like where they vary."""
    groups = query.cells
    extra = [*query.network_keys, *(key for key in ("engine", "processor")
                                    if len({getattr(group[0], key) for group in groups}) > 1)]
    engines = {(group[0].label, group[0].engine) for group in groups}
    if "engine" in extra and len(engines) == len({label for label, _ in engines}):
        extra.remove("engine")                  # each method has its own: the label says it all
    keys = ["device", "trace", "provenance", *extra, "method"]
    if len({tuple(_values(query, group, keys)) for group in groups}) < len(groups):
        keys.append("variant")
    return keys


def _values(query: Query, trials: Sequence[Row], keys: Sequence[str]) -> list[Any]:
    first = trials[0]
    known = {"method": first.label, "variant": _variant(query, first) if "variant" in keys else ""}
    return [known[key] if key in known else getattr(first, key) for key in keys]


def _variant(query: Query, trial: Row) -> str:
    """What tells this cell from others of the same device, trace and method: the keys that differ among them."""
    alike = [query.definition(group[0]) for group in query.cells
             if (group[0].device, group[0].trace, group[0].label) == (trial.device, trial.trace, trial.label)]
    mine, differing = query.definition(trial), []
    for key, value in sorted(mine.items()):
        if any(other.get(key) != value for other in alike):
            text = value[:8] if key == "bundle" else value if isinstance(value, str) else canonical_json(value)
            differing.append(f"{key} {text}")
    return ", ".join(differing)


def _text(value: Any) -> Cell:
    return value if isinstance(value, int) else str(value)


def _notes(query: Query, modelled: bool) -> tuple[str, ...]:
    done = sum(trial.state == "done" for trial in query.trials)
    notes = ["Medians over runs, with 95 % intervals over runs where there are at least three.",
             "On-time accuracy: right and within the deadline, over all arrivals. Latency: inference alone. "
             "Misses: arrivals answered late or not at all."]
    if done < len(query.trials):
        notes.append(f"The campaign is not complete: {done} of {len(query.trials)} trials are done.")
    if modelled:
        notes.append("Modelled joules follow from a stated power model, not from a meter, and are in no comparison.")
    if not any(len(group) >= 3 for group in query.cells):
        notes.append("Fewer than three runs a cell: n too small for any interval.")
    return tuple(notes)
