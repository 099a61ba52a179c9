"""Trials that failed or were skipped, each with its reason, and how many there are of each state."""
from collections import Counter

from reports.query import Query
from reports.table import Column, Missing, Table

PLACE = 50
FOLDED = False

_COLUMNS = (
    Column("trial", "trial", numeric=False), Column("state", "state", numeric=False),
    Column("device", "device", numeric=False), Column("trace", "trace", numeric=False),
    Column("method", "method", numeric=False), Column("repeat", "repeat", "", 0),
    Column("attempts", "attempts", "", 0), Column("error", "error", numeric=False),
    Column("blame", "blame", numeric=False), Column("reason", "reason", numeric=False),
)


def make(query: Query) -> Table:
    bad = [trial for trial in query.trials if trial.state in ("failed", "skipped")]
    bad.sort(key=lambda trial: (trial.state, trial.device, trial.trace, trial.label, trial.repeat, trial.id))
    rows = tuple((trial.id[:12], trial.state, trial.device, trial.trace, trial.label, trial.repeat,
                  len(query.attempts[trial.id]), trial.error or Missing("no error: see the reason"),
                  trial.blame or Missing("nobody is to blame"), trial.reason or Missing("no reason was given"))
                 for trial in bad)
    states = Counter(trial.state for trial in query.trials)
    counted = ", ".join(f"{states[state]} {state}" for state in ("done", "failed", "skipped", "running", "pending")
                        if states[state])
    notes = [f"Of {len(query.trials)} trials: {counted}."]
    if states["failed"]:
        notes.append("The command edgefleet show TRIAL tells a trial's story; edgefleet run tries failed trials again.")
    return Table("Failed and skipped trials", _COLUMNS, rows, tuple(notes))
