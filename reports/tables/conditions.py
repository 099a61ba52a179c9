"""Conditions: what each cell really met: load asked and achieved, arrivals, the sampler's own cost, readiness checks.

Suspicious numbers are kept and shown, never dropped.
"""
from collections import Counter
from collections.abc import Sequence

from reports import cells
from reports.provenance import ordered, titled
from reports.query import Query, Row
from reports.table import Column, Table, names

PLACE = 60
FOLDED = True

METRICS = (cells.LOAD_ASKED, cells.LOAD_ACHIEVED, cells.OTHERS, cells.ARRIVALS, cells.SERVED, cells.EXPIRED,
           cells.THROUGHPUT, cells.SAMPLER, cells.TEMPERATURE)
_ENDS = (Column("ready", "ready before the start", numeric=False,
                about="preflight of each run: yes, no, or unknown where a sensor is missing"),
         Column("flags", "flags", numeric=False, about="runs that are kept and flagged"))
_NOTES = ("Medians over runs. Load is of all cores; the harness plays it, so it is emulated on every device.",
          "A temperature that is not the device's own, of a made-up sensor file, is left out.",
          "A run is flagged, never dropped, when its load was not achieved, its device throttled, or others took more "
          f"than {cells.OTHERS_MOST_PCT:.0f} % of its cores: its numbers tell of them, too.")


def make(query: Query) -> Table:
    variants = query.variants()
    rows = [(*(getattr(trials[0], key) for key in query.row_keys), trials[0].label, variants[trials[0].id],
             *(cells.cell(query, trials, metric) for metric in METRICS), _ready(query, trials), _flags(query, trials))
            for trials in query.cells]
    played = {reading.provenance for trials in query.cells for metric in METRICS if metric.played
              for reading in cells.readings(query, trials, metric) if reading.value is not None}
    shown = ordered({trial.provenance for trial in query.trials} | played)
    title = titled("Conditions that the runs met", shown, {trial.processor for trial in query.trials})
    columns = (*names((*query.row_keys, "method", "variant")), *(metric.column for metric in METRICS), *_ENDS)
    table = Table(title, columns, tuple(rows), _NOTES, shown, query.row_keys)
    return table if any(variants.values()) else table.without("variant")


def _ready(query: Query, trials: Sequence[Row]) -> str:
    told = [[one for one in query.attempts[trial.id] if one.journal] or query.attempts[trial.id] for trial in trials]
    last = [attempts[-1] for attempts in told if attempts]
    found = Counter(attempt.preflight or "not told" for attempt in last)
    return ", ".join(f"{count} {word}" for word, count in sorted(found.items())) or "no attempt"


def _flags(query: Query, trials: Sequence[Row]) -> str:
    hot = [reading for reading in cells.readings(query, trials, cells.THROTTLED) if (reading.value or 0.0) > 0.0]
    foreign = ordered({reading.provenance for reading in hot} - {trials[0].provenance})
    told = f" ({' and '.join(foreign)})" if foreign else ""
    missed = sum(reading.value == 0.0 for reading in cells.readings(query, trials, cells.LOAD_VALID))
    busy = len(cells.disturbed(query, trials))
    found = [f"throttled in {len(hot)} of {len(trials)}{told}" if hot else "",
             f"load not achieved in {missed} of {len(trials)}" if missed else "",
             f"others busy in {busy} of {len(trials)}" if busy else ""]
    return ", ".join(filter(None, found)) or "none"
