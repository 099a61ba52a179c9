"""Tails: quantiles of the response time within each single run, with distribution-free intervals.

A quantile that the run is too short for is not printed: "n too small" and the number that it takes stand there.
"""
from reports.provenance import titled
from reports.query import Query
from reports.stats import quantile_interval
from reports.table import Cell, Column, Missing, Table, names

PLACE = 70
FOLDED = True

QUANTILES = ((0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99"))
_NUMBERS = (
    Column("repeat", "repeat", "", 0), Column("served", "served", "", 0),
    *(Column(f"response_{name}_ms", name, "ms") for _, name in QUANTILES),
)


def make(query: Query) -> Table:
    rows: list[tuple[Cell, ...]] = []
    variants = query.variants()
    for trial in query.trials:
        if trial.state == "done":
            values = [row.response_ms for row in query.inferences(trial, ("number", "response_ms"))
                      if row.response_ms is not None]
            rows.append((*(getattr(trial, key) for key in query.row_keys), trial.label, variants[trial.id],
                         trial.repeat, len(values), *(_quantile(values, q) for q, _ in QUANTILES)))
    title = titled("Response time within each run", {str(row[2]) for row in rows},
                   {trial.processor for trial in query.trials})
    notes = ("From due time to answer, waiting included, of served arrivals; intervals of 95 % from order statistics, "
             "as if arrivals were independent: within a run they are not quite, so compare methods by runs.",)
    table = Table(title, (*names((*query.row_keys, "method", "variant")), *_NUMBERS), tuple(rows), notes,
                  tuple(sorted({str(row[2]) for row in rows})), query.row_keys)
    return table if any(variants.values()) else table.without("variant")


def _quantile(values: list[float], q: float) -> Cell:
    if not values:
        return Missing("nothing was served")
    estimate = quantile_interval(values, q)
    return Missing(f"{estimate.reason} for p{q * 100:g}") if estimate.low is None else estimate
