"""Migrations lead to exactly the schema in db/schema.py, keep what is stored, and docs/schema.md tells the truth."""
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from db import connection, estimates, joules, schema
from db.store import Store
from tests.fakes import sample_bundle

ROOT = Path(__file__).parents[2]
TYPES = {"TEXT": "text", "INTEGER": "integer", "FLOAT": "real", "JSON": "json"}


def script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(connection.MIGRATIONS))
    return ScriptDirectory.from_config(config)


def reflected(path: Path) -> dict[str, Any]:
    """All that SQLite can tell about the tables: columns, keys, indexes, checks, WITHOUT ROWID."""
    engine = create_engine(f"sqlite:///{path}")
    found: dict[str, Any] = {}
    seen = inspect(engine)
    for table in sorted(set(seen.get_table_names()) - {"alembic_version"}):
        with sqlite3.connect(path) as raw:
            [sql] = raw.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table]).fetchone()
        found[table] = {
            "columns": [{**column, "type": str(column["type"])} for column in seen.get_columns(table)],
            "key": seen.get_pk_constraint(table), "indexes": seen.get_indexes(table),
            "foreign": sorted(map(str, seen.get_foreign_keys(table))),
            "checks": sorted(map(str, seen.get_check_constraints(table))), "without_rowid": "WITHOUT ROWID" in sql}
    engine.dispose()
    return found


def test_migrating_from_nothing_gives_the_schema(tmp_path):
    Store.open(tmp_path / "migrated.sqlite").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'created.sqlite'}")
    schema.metadata.create_all(engine)
    engine.dispose()
    assert reflected(tmp_path / "migrated.sqlite") == reflected(tmp_path / "created.sqlite")
    with create_engine(f"sqlite:///{tmp_path / 'migrated.sqlite'}").connect() as opened:
        assert compare_metadata(MigrationContext.configure(opened), schema.metadata) == []


def test_the_revision_is_the_newest_migration():
    assert script().get_heads() == [schema.REVISION]
    assert script().get_bases() == ["0001"]
    for revision in script().walk_revisions():
        assert Path(revision.path).name.startswith(f"{revision.revision}_")     # connection.py finds them by name


@pytest.mark.parametrize("revision", [entry.revision for entry in script().walk_revisions()])
def test_an_older_database_is_upgraded_and_keeps_its_rows(tmp_path, revision, monkeypatch):
    path = tmp_path / "results.sqlite"
    engine = connection.writer(path)
    monkeypatch.setattr(connection, "REVISION", revision)
    connection.prepare(engine, path)
    engine.dispose()
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO campaign VALUES ('old', '{}', '{}', 1.0, 1.0)")
    raw.close()
    monkeypatch.undo()
    with Store.open(path) as store:
        assert [row["name"] for row in store.read("campaign")] == ["old"]
        store.save_bundle(sample_bundle())
    Store.open(tmp_path / "new.sqlite").close()
    assert reflected(path) == reflected(tmp_path / "new.sqlite")


def test_costs_of_an_older_database_get_the_knobs_of_the_trial_that_they_were_measured_for(tmp_path, monkeypatch):
    """Two trials with the same costs: the first one's. Costs of a wrapped engine: those of the trial around it."""
    path = tmp_path / "results.sqlite"
    engine = connection.writer(path)
    monkeypatch.setattr(connection, "REVISION", "0002")
    connection.prepare(engine, path)
    engine.dispose()
    monkeypatch.undo()
    ran = [("a", "ort", "ort 1", 2.0, {"threads": 1}), ("b", "ort", "ort 1", 1.0, {"threads": 2, "processor": "cpu"}),
           ("c", "remote", "remote 1 over npu: npu 1", 1.0, {"threads": 4})]
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO campaign VALUES ('old', '{}', '{}', 1.0, 1.0)")
        raw.execute("INSERT INTO device VALUES ('host', 'local', null, 1.0, 'measured', '{}', null)")
        raw.execute("INSERT INTO bundle VALUES ('B', 't', 'm', 0, 2, 1, '{}')")
        for name, kind, runtime, started_s, knobs in ran:
            raw.execute("INSERT INTO trial VALUES (?, 'old', 'host', 'B', 't', 'm', 'x', 'x', '{}', ?, ?, 'all', "
                        "'idle', 'd', 0, 0, 0, 1.0, null, null, 'cpu', ?, 'done', null, null, null, 'measured')",
                        [name, kind, runtime, json.dumps({"knobs": knobs})])
            raw.execute("INSERT INTO attempt (trial, number, state, started_s) VALUES (?, 1, 'done', ?)",
                        [name, started_s])
        for kind, runtime in (("ort", "ort 1"), ("npu", "npu 1"), ("gpu", "gpu 1")):
            raw.executemany("INSERT INTO cost VALUES ('host', 'B', ?, ?, ?, 5.0, null, null, null, null, 'profile', "
                            "'measured', 1.0)", [("full", kind, runtime), ("exit", kind, runtime)])
    raw.close()
    with Store.open(path) as store:
        for key in (("ort", "ort 1", '{"processor":"cpu","threads":2}'), ("npu", "npu 1", '{"threads":4}'),
                    ("gpu", "gpu 1", "{}")):
            assert [(cost.branch, cost.latency_ms) for cost in store.costs("host", "B", *key)] == [
                ("exit", 5.0), ("full", 5.0)], key
        assert len(store.read("cost")) == 6


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path):
    """A table in the way makes the first migration fail in the middle: nothing of it stays."""
    path = tmp_path / "results.sqlite"
    engine = connection.writer(path)
    with pytest.raises(connection.StoreError, match="summary already exists"), engine.begin() as opened:
        opened.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        opened.exec_driver_sql("CREATE TABLE summary (x)")
        with connection.in_words(path):
            connection._migrate(opened, path)
    engine.dispose()
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


# --- docs/schema.md -------------------------------------------------------------------------------------------------

def documented() -> dict[str, list[tuple[str, str, str]]]:
    """table -> (column, type words, references) as docs/schema.md has them."""
    text = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8")
    sections = re.split(r"^#+ (.+)$", text.split("## Tables")[1].split("## Metrics")[0], flags=re.M)[1:]
    found = {}
    for name, body in zip(sections[::2], sections[1::2]):
        rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| (.+) \|$", body, flags=re.M)
        found[name] = [(column, kind, " ".join(re.findall(r"→ (\S+)", meaning))) for column, kind, meaning in rows]
    return found


def test_the_page_agrees_with_the_tables():
    expected = {}
    for table in schema.metadata.tables.values():
        expected[table.name] = [
            (column.name, " ".join(filter(None, (
                TYPES[str(column.type)], "key" if column.primary_key else "null" if column.nullable else ""))),
             " ".join(key.target_fullname for key in column.foreign_keys)) for column in table.columns]
    assert documented() == expected


def test_every_column_is_explained():
    text = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8")
    assert not re.findall(r"^\|.*\|\s*\|$", text, flags=re.M)


def test_the_page_names_every_metric_with_its_unit():
    text = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8").split("## Metrics")[1]
    rows = re.findall(r"^\| (`.+`) \| (.+?) \| .+ \|$", text, flags=re.M)
    page = {}
    for names, units in rows:
        metrics = re.findall(r"`(\w+)`", names)
        words = units.split(", ")
        page.update(zip(metrics, words if len(words) == len(metrics) else words * len(metrics)))
    empty = estimates.Window([], {}, [], {}, None, "measured")
    made = {value.metric: value.unit for value in [*estimates.values(empty), *joules.values(empty, {})]}
    assert page == made
