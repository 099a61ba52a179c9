"""Raw rows -> summary rows. Derived numbers can be deleted and made again, and come out the same.

Called by the driver after each ingest, and by `edgefleet ingest`, without journals for all trials at once. The numbers
themselves are made by db.estimates and db.joules. It looks at the measured window only and never at the trial's state:
tables choose what they show.
"""
from sqlalchemy import Connection, delete, func, select

from db import estimates, joules, schema
from db.estimates import Inference, Reading
from db.rows import Inserter
from db.store import Store

#: What the load player did up to the window's end is told after it.
_LAST_LOAD = (schema.measurement.c.source == "loadgen") & (schema.measurement.c.phase == "cool")
_EVENT = ("kind", "phase", "body")


def derive_all(store: Store) -> int:
    """Make every summary again, of each trial of which a journal was loaded; how many trials."""
    attempt = schema.attempt
    with store.transaction() as connection:
        trials = list(connection.scalars(select(attempt.c.trial).where(attempt.c.journal_sha256.is_not(None))
                                         .distinct().order_by(attempt.c.trial)))
        connection.execute(delete(schema.summary))
        for trial in trials:
            _derive(connection, trial)
    return len(trials)


def derive_trial(store: Store, trial_id: str) -> int:
    """Make the summary of one trial, in one transaction; how many rows."""
    with store.transaction() as connection:
        connection.execute(delete(schema.summary).where(schema.summary.c.trial == trial_id))
        return _derive(connection, trial_id)


def _derive(connection: Connection, trial_id: str) -> int:
    trial = connection.execute(select(schema.trial.c.provenance).where(schema.trial.c.id == trial_id)).first()
    if trial is None:
        return 0
    window, scopes = _window(connection, trial_id, str(trial.provenance))
    inserter = Inserter(connection, schema.summary)
    inserter.extend((trial_id, *value) for value in [*estimates.values(window), *joules.values(window, scopes)])
    inserter.flush()
    return inserter.count


def _window(connection: Connection, trial_id: str, provenance: str) -> tuple[estimates.Window, dict[str, str]]:
    """What the metrics are computed from, and the scope of each energy source."""
    inference, measurement, event = schema.inference, schema.measurement, schema.event
    rows = connection.execute(select(*(inference.c[name] for name in Inference._fields)).where(
        inference.c.trial == trial_id, inference.c.phase == "window").order_by(inference.c.number))
    readings = connection.execute(
        select(*(measurement.c[name] for name in Reading._fields))
        .where(measurement.c.trial == trial_id, (measurement.c.phase == "window") | _LAST_LOAD)
        .order_by(measurement.c.t_ns, measurement.c.seq))
    by_metric: dict[str, list[Reading]] = {}
    for reading in map(Reading._make, readings):
        by_metric.setdefault(reading.metric, []).append(reading)
    latest = select(func.max(event.c.attempt)).where(event.c.trial == trial_id, event.c.seq >= 0).scalar_subquery()
    events = connection.execute(select(*(event.c[name] for name in _EVENT)).where(
        event.c.trial == trial_id, event.c.attempt == latest, event.c.seq >= 0).order_by(event.c.seq)).all()
    bodies = {row.kind: row.body for row in events}
    loads = [estimates.number(row.body.get("load_ms")) for row in events
             if row.kind == "load" and row.phase == "window"]
    window = estimates.Window(
        [Inference._make(row) for row in rows], by_metric, loads, bodies.get("done", bodies.get("failed", {})),
        str(bodies.get("preflight", {}).get("validity")), provenance)
    energy = bodies.get("start", {}).get("energy")
    known = energy if isinstance(energy, dict) else {}
    return window, {name: str(value.get("scope", "")) for name, value in known.items() if isinstance(value, dict)}
