"""Overall: each method on each device under each trace. The table that `edgefleet run` ends with.

A row is one cell (all that is pooled is its repeats); numbers are medians over runs. Cells without a finished run stay
in the table, with the reason.
"""
from reports import cells
from reports.provenance import ordered, titled
from reports.query import Query
from reports.table import Column, Missing, Table, names

PLACE = 10
FOLDED = False

METRICS = (cells.ACCURACY, cells.ON_TIME, cells.LATENCY, cells.LATENCY_P95, cells.RESPONSE_P95, cells.MISSES)
RUNNING = (cells.MEMORY, cells.SWITCHES, cells.DECIDE, cells.DECIDE_P99, cells.FEASIBLE)
_MODELLED = Column("energy_modelled_mj", "modelled energy", "mJ", detail=2)
_SOURCE = Column("energy_source", "energy source", numeric=False, detail=2)
_RUNS_BY = ("engine", "processor")
_ENDS = (Column("runs", "runs", "", 0, about="finished runs, the unit of statistics"),
         Column("planned", "planned", "", 0, detail=3))


def make(query: Query) -> Table:
    dimensions = _dimensions(query)
    variants = query.variants([key for key in dimensions if key in _RUNS_BY])
    rows, modelled = [], False
    for trials in query.cells:
        compared, own_column, source = cells.energy_cells(query, trials)
        modelled = modelled or not isinstance(own_column, Missing)
        rows.append((*(getattr(trials[0], key) for key in dimensions), trials[0].label, variants[trials[0].id],
                     *(cells.cell(query, trials, metric) for metric in METRICS), compared, own_column, source,
                     *(cells.cell(query, trials, metric) for metric in RUNNING),
                     sum(trial.state == "done" for trial in trials), len(trials)))
    columns = (*names((*dimensions, "method", "variant")),
               *(metric.column for metric in METRICS), cells.ENERGY.column, _MODELLED, _SOURCE,
               *(metric.column for metric in RUNNING), *_ENDS)
    shown = ordered({trial.provenance for trial in query.trials} | ({"modelled"} if modelled else set()))
    title = titled("Methods by device and trace", shown, {trial.processor for trial in query.trials})
    table = Table(title, columns, tuple(rows), _notes(query, modelled), shown, tuple(dimensions))
    table = table if any(variants.values()) else table.without("variant")
    return table if modelled else table.without(_MODELLED.key)


def _dimensions(query: Query) -> list[str]:
    """Always device, trace and provenance; task, model, training seed and the like where they vary."""
    groups = query.cells
    extra = [key for key in _RUNS_BY if len({getattr(group[0], key) for group in groups}) > 1]
    engines = {(group[0].label, group[0].engine) for group in groups}
    if "engine" in extra and len(engines) == len({label for label, _ in engines}):
        extra.remove("engine")                  # each method has its own: the label says it all
    return [*query.row_keys, *extra]


def _notes(query: Query, modelled: bool) -> tuple[str, ...]:
    done = sum(trial.state == "done" for trial in query.trials)
    notes = ["Medians over runs, with 95 % intervals over runs where there are at least three.",
             "On-time accuracy: right and within the deadline, over all arrivals. Latency: inference alone. "
             "Misses: arrivals answered late or not at all."]
    if done < len(query.trials):
        notes.append(f"The campaign is not complete: {done} of {len(query.trials)} trials are done.")
    busy = len(cells.disturbed(query, query.trials))
    if busy:
        notes.append(f"In {busy} of {done} runs others took more than {cells.OTHERS_MOST_PCT:.0f} % of the cores "
                     "(table conditions): their numbers tell of that, too. Run them again on a quiet machine.")
    if modelled:
        notes.append("Modelled joules follow from a stated power model, not from a meter, and are in no comparison.")
    if not any(len(group) >= 3 for group in query.cells):
        notes.append("Fewer than three runs a cell: n too small for any interval.")
    return tuple(notes)
