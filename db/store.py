"""The store: who ran what, with which result. The driver is its only writer; reports and status read.

`Store.open` creates and upgrades results.sqlite, `Store.read_only` cannot change it. Every method is one transaction;
rows come back as plain dicts with the column names of docs/schema.md. Raises StoreError and nothing else for what
the user can cause. Raw rows of a trial are written by db.ingest, derived ones by db.derive.
"""
import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, Select, and_, func, select, update
from sqlalchemy.dialects.sqlite import insert

from db import connection as _connection
from db import schema
from db.errors import StoreError
from device_agents.wire import Branch, BranchBundle, Cost, Trial, provenance_of, trial_to_json

Row = dict[str, Any]

#: Events of unreadable journal lines have a seq below this, by the line's number in the file (see db.ingest).
BAD_LINES_BELOW = -1_000_000


class Store:
    """One results.sqlite; a context manager, or call close(). Threads may share it."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self.path = path
        self._engine = engine

    @classmethod
    def open(cls, path: Path, create: bool = True, busy_timeout_s: float = _connection.BUSY_TIMEOUT_S) -> Self:
        """For writing; creates the file and its folder, upgrades an older schema."""
        path = Path(path)
        if not path.exists():
            _make_room(path, create)
        store = cls(_connection.writer(path, busy_timeout_s), path)
        return store._checked(_connection.prepare)

    @classmethod
    def read_only(cls, path: Path) -> Self:
        """For reading, also where nothing can be written. The schema must be current."""
        path = Path(path)
        if not path.exists():
            _make_room(path, create=False)
        return cls(_connection.reader(path), path)._checked(_connection.check)

    def _checked(self, check: Any) -> Self:
        try:
            check(self._engine, self.path)
        except StoreError:
            self.close()
            raise
        return self

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction for db.ingest and db.derive: committed at the end, rolled back by any exception."""
        with _connection.in_words(self.path), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view; waits for nobody."""
        with _connection.in_words(self.path), _connection.for_reading(self._engine).begin() as connection:
            yield connection

    # --- what is known before a trial -----------------------------------------------------------------------------

    def save_campaign(self, name: str, spec: Mapping[str, Any], fleet: Mapping[str, Any],
                      now_s: float | None = None) -> None:
        """The resolved campaign; saving it again keeps the time of its first run."""
        now_s = time.time() if now_s is None else now_s
        values = {"name": name, "spec": dict(spec), "fleet": dict(fleet), "first_run_s": now_s, "last_run_s": now_s}
        with self.transaction() as connection:
            _upsert(connection, schema.campaign, [values], keep=("first_run_s",))

    def save_device(self, name: str, transport: str, device_class: str | None, slowdown: float, provenance: str,
                    facts: Mapping[str, Any] | None, now_s: float | None = None) -> None:
        """A device and its last probe; `facts` None: not probed now, what was known stays."""
        values: Row = {"name": name, "transport": transport, "device_class": device_class, "slowdown": slowdown,
                       "provenance": provenance, "facts": dict(facts or {}),
                       "probed_s": (time.time() if now_s is None else now_s) if facts is not None else None}
        with self.transaction() as connection:
            _upsert(connection, schema.device, [values], keep=() if facts is not None else ("facts", "probed_s"))

    def device(self, name: str) -> Row | None:
        return next(iter(self.read("device", name=name)), None)

    def devices(self) -> list[Row]:
        return self.read("device")

    def save_bundle(self, bundle: BranchBundle) -> None:
        """A bundle and its branches; its id is its content, so an existing one is left alone."""
        values = {"id": bundle.id, "task": bundle.task, "model": bundle.model, "seed": bundle.seed,
                  "classes": bundle.classes, "samples": bundle.count, "training": dict(bundle.training)}
        branches = [{"bundle": bundle.id, **branch._asdict()} for branch in bundle.branches]
        with self.transaction() as connection:
            connection.execute(insert(schema.bundle).on_conflict_do_nothing(), [values])
            if branches:
                connection.execute(insert(schema.branch).on_conflict_do_nothing(), branches)

    def branches(self, bundle_id: str) -> tuple[Branch, ...]:
        rows = self.read("branch", bundle=bundle_id)
        return tuple(Branch(**{key: row[key] for key in Branch._fields}) for row in rows)

    def save_costs(self, device: str, bundle_id: str, engine: str, runtime: str, knobs: str, costs: Sequence[Cost],
                   now_s: float | None = None) -> None:
        """What the branches cost on a device with these knobs (canonical JSON), in place of what was known."""
        now_s = time.time() if now_s is None else now_s
        rows = [{**cost._asdict(), "device": device, "bundle": bundle_id, "engine": engine, "runtime": runtime,
                 "knobs": knobs, "measured_s": now_s} for cost in costs]
        with self.transaction() as connection:
            if rows:
                _upsert(connection, schema.cost, rows)

    def costs(self, device: str, bundle_id: str, engine: str, runtime: str, knobs: str) -> tuple[Cost, ...]:
        """In order of branch names; empty when the device was not profiled with this runtime and these knobs."""
        rows = self.read("cost", device=device, bundle=bundle_id, engine=engine, runtime=runtime, knobs=knobs)
        return tuple(Cost(**{key: row[key] for key in Cost._fields}) for row in rows)

    def save_preparation(self, campaign: str, label: str, device: str, bundle_id: str, adapter: str,
                         derived: str | None, settings: Mapping[str, Any], learned: str | None,
                         budget: Mapping[str, float], tuning: Sequence[Mapping[str, Any]],
                         log: Sequence[str]) -> None:
        """What was made for a row of a campaign on a device, in place of what was known. Names must have been saved."""
        row = {"campaign": campaign, "label": label, "device": device, "bundle": bundle_id, "adapter": adapter,
               "derived": derived, "settings": dict(settings), "learned": learned, "budget": dict(budget),
               "tuning": [dict(one) for one in tuning], "log": list(log)}
        with self.transaction() as connection:
            _upsert(connection, schema.preparation, [row])

    # --- trials ---------------------------------------------------------------------------------------------------

    def add_trials(self, trials: Iterable[Trial], provenance_of: Mapping[str, str]) -> int:
        """Add trials as pending and note which campaign they belong to; how many were new.

        `provenance_of` is by device. A trial that is known (from this campaign or another one) keeps its state.
        Campaign, devices and bundles must have been saved.
        """
        known = list(trials)
        rows = [_trial_row(trial, provenance_of[trial.device]) for trial in known]
        members = [{"campaign": trial.campaign, "trial": trial.id, "label": trial.label, "block": trial.block}
                   for trial in known]
        if not rows:
            return 0
        with self.transaction() as connection:
            before = connection.execute(select(func.count()).select_from(schema.trial)).scalar_one()
            connection.execute(insert(schema.trial).on_conflict_do_nothing(), rows)
            _upsert(connection, schema.membership, members)
            return int(connection.execute(select(func.count()).select_from(schema.trial)).scalar_one() - before)

    def states(self, ids: Iterable[str]) -> dict[str, str]:
        """State of each known trial among `ids`."""
        wanted = set(ids)
        with self.reading() as connection:
            found = connection.execute(select(schema.trial.c.id, schema.trial.c.state)).all()
        return {row.id: row.state for row in found if row.id in wanted}

    def trials(self, campaign: str | None = None, ids: Iterable[str] | None = None) -> list[Row]:
        """Rows of table trial in order of block and id; with `campaign`, its members under its own labels."""
        query: Select[Any] = select(schema.trial)
        wanted = None if ids is None else set(ids)
        order: list[Any] = [schema.trial.c.block, schema.trial.c.id]
        if campaign is not None:
            member = schema.membership
            query = select(schema.trial, member.c.label.label("as_label"), member.c.block.label("as_block")).join(
                member, and_(member.c.trial == schema.trial.c.id, member.c.campaign == campaign))
            order = [member.c.block, schema.trial.c.id]
        with self.reading() as connection:
            rows = [dict(row) for row in connection.execute(query.order_by(*order)).mappings()]
        for row in rows:
            if campaign is not None:
                row.update(campaign=campaign, label=row.pop("as_label"), block=row.pop("as_block"))
        return [row for row in rows if wanted is None or row["id"] in wanted]

    def set_trial_state(self, trial_id: str, state: str, error: str | None = None, blame: str | None = None,
                        reason: str | None = None) -> None:
        with self.transaction() as connection:
            _set_state(connection, trial_id, state, error, blame, reason)

    def skip(self, trial_id: str, reason: str, error: str | None = None, blame: str | None = None) -> None:
        self.set_trial_state(trial_id, "skipped", error, blame, reason)

    # --- attempts -------------------------------------------------------------------------------------------------

    def next_attempt_number(self, trial_id: str) -> int:
        with self.reading() as connection:
            query = select(func.max(schema.attempt.c.number)).where(schema.attempt.c.trial == trial_id)
            return (connection.execute(query).scalar() or 0) + 1

    def begin_attempt(self, trial_id: str, number: int, token: int, period_ms: float | None, deadline_ms: float | None,
                      started_s: float) -> None:
        """The attempt and its trial are running. An attempt whose journal is stored, or that is done, cannot begin
        again; one that was given up without its journal can: its device held it."""
        row = {"trial": trial_id, "number": number, "state": "running", "token": token, "started_s": started_s}
        again = {**row, **dict.fromkeys(("error", "blame", "message", "ended_s"))}
        with self.transaction() as connection:
            done = connection.execute(insert(schema.attempt).values(row).on_conflict_do_update(
                set_=again, where=schema.attempt.c.journal.is_(None) & (schema.attempt.c.state != "done")))
            if done.rowcount == 0:
                raise StoreError(f"{self.path}: attempt {number} of trial {trial_id} has already ended; "
                                 "begin the next one.")
            _set_state(connection, trial_id, "running")
            connection.execute(update(schema.trial).where(schema.trial.c.id == trial_id).values(
                period_ms=period_ms, deadline_ms=deadline_ms))

    def finish_attempt(self, trial_id: str, number: int, state: str, error: str | None, blame: str | None,
                       message: str | None, journal: str | None, ended_s: float,
                       trial_state: str | None = None) -> None:
        """How an attempt ended; `trial_state` sets the trial's state, error and reason in the same transaction."""
        values = {"state": state, "error": error or None, "blame": blame or None, "message": message or None,
                  "journal": journal or None, "ended_s": ended_s}
        with self.transaction() as connection:
            connection.execute(update(schema.attempt).where(
                schema.attempt.c.trial == trial_id, schema.attempt.c.number == number).values(values))
            if trial_state is not None:
                _set_state(connection, trial_id, trial_state, error, blame, message)

    # --- reading --------------------------------------------------------------------------------------------------

    def rows(self, statement: Select[Any]) -> Sequence[Any]:
        """What a select over db.schema gives; a row has the columns' names as attributes."""
        with self.reading() as connection:
            return connection.execute(statement).all()

    def read(self, table: str, columns: Sequence[str] = (), **equals: Any) -> list[Row]:
        """Rows of a table in order of its primary key, as dicts. A keyword is a column that must equal the value, or be
        among the values of a list, tuple or set: read("inference", ("t_ns", "branch"), trial=id, phase="window")."""
        source = schema.metadata.tables[table]
        query = select(*(source.c[name] for name in columns)) if columns else select(source)
        for name, value in equals.items():
            column = source.c[name]
            query = query.where(column.in_(list(value)) if isinstance(value, list | tuple | set) else column == value)
        with self.reading() as connection:
            found = connection.execute(query.order_by(*source.primary_key.columns)).mappings()
            return [dict(row) for row in found]


def _make_room(path: Path, create: bool) -> None:
    if not create:
        raise StoreError(f"{path}: there is no database. Run a campaign first (`edgefleet run CAMPAIGN`), "
                         "or set EDGEFLEET_HOME to the folder that holds one.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path.parent}: cannot be made ({error.strerror}). "
                         "Set EDGEFLEET_HOME to a folder that you may write to.") from error


def _upsert(connection: Connection, table: Any, rows: Sequence[Row], keep: Sequence[str] = ()) -> None:
    """Insert or replace every column but the key and `keep`."""
    statement = insert(table)
    key = [column.name for column in table.primary_key]
    fresh = {name: statement.excluded[name] for name in rows[0] if name not in key and name not in keep}
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=fresh), list(rows))


def _set_state(connection: Connection, trial_id: str, state: str, error: str | None = None, blame: str | None = None,
               reason: str | None = None) -> None:
    connection.execute(update(schema.trial).where(schema.trial.c.id == trial_id).values(
        state=state, error=error or None, blame=blame or None, reason=reason or None))


def _trial_row(trial: Trial, provenance: str) -> Row:
    same = ("id", "campaign", "device", "bundle", "task", "model", "method", "label", "settings", "engine", "runtime",
            "residency", "seed", "repeat", "block", "duration_s")
    definition = json.loads(json.dumps(trial_to_json(trial), allow_nan=False))
    return {**{name: getattr(trial, name) for name in same}, "trace": trial.trace.name,
            "trace_digest": trial.trace.digest(), "processor": str(trial.knobs.get("processor", "cpu")),
            "definition": definition, "state": "pending", "provenance": provenance_of(trial, provenance)}
