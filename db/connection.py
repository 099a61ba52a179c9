"""Opens results.sqlite: connection settings, schema version, and the one place where SQLite's errors become words.

Used by db.store only. A writer gets WAL, a busy timeout of 30 s, foreign keys and migrations; a reader gets a file
that it cannot change. Refuses a file that is no database, or whose schema this edgefleet does not know.
"""
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from db.errors import StoreError
from db.schema import REVISION

BUSY_TIMEOUT_S = 30.0
MIGRATIONS = Path(__file__).parent / "migrations"


def writer(path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """An engine on an existing or new file; every transaction takes the write lock when it begins."""
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection
    return _engine(connect, "BEGIN IMMEDIATE")


def reader(path: Path) -> Engine:
    """An engine that cannot write. Works in a folder that cannot be written to, where WAL has no index file."""
    frozen = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    uri = f"file:{quote(str(path.absolute()))}?mode=ro" + ("&immutable=1" if frozen else "")

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    return _engine(connect, "BEGIN")


def _engine(connect: Any, begin: str) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:     # the driver is in autocommit mode: transactions are ours
        connection.exec_driver_sql(connection.get_execution_options().get("begin", begin))
    return engine


def for_reading(engine: Engine) -> Engine:
    """The same engine, whose transactions do not ask for the write lock."""
    return engine.execution_options(begin="BEGIN")


@contextlib.contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into a StoreError that says what, where and what to do next."""
    try:
        yield
    except DBAPIError as error:
        raise _explain(error.orig or error, path) from error
    except sqlite3.Error as error:
        raise _explain(error, path) from error


def _explain(error: BaseException, path: Path) -> StoreError:
    code = getattr(error, "sqlite_errorname", "") or ""
    text = str(error)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"{path}: locked by another process for too long. "
                          "End the other edgefleet (or the SQLite browser that holds it), then run again.")
    if code.startswith("SQLITE_FULL"):
        return StoreError(f"{path}: the disk is full. Nothing that was stored is lost; "
                          "free some space, then run again.")
    if code.startswith("SQLITE_READONLY"):
        return StoreError(f"{path}: cannot be written to. Check who owns the file and its folder, "
                          "or set EDGEFLEET_HOME to a folder of yours.")
    if code.startswith("SQLITE_CANTOPEN"):
        return StoreError(f"{path}: cannot be opened. Check that the folder exists and that you may write to it, "
                          "or set EDGEFLEET_HOME to a folder of yours.")
    if code.startswith("SQLITE_NOTADB"):
        return _not_ours(path, "is not an SQLite database")
    if code.startswith("SQLITE_CORRUPT"):
        return StoreError(f"{path}: damaged ({text}). Move it aside, then run the campaign again: "
                          "it collects what devices still hold.")
    if code.startswith("SQLITE_IOERR"):
        return StoreError(f"{path}: the disk reports an error ({text}). Check it and its free space, "
                          "then run again.")
    if code.startswith("SQLITE_CONSTRAINT"):
        return StoreError(f"{path}: a row was refused ({text}). Campaign, device and bundle are saved "
                          "before their trials.")
    return StoreError(f"{path}: {text}.")


def _not_ours(path: Path, why: str) -> StoreError:
    return StoreError(f"{path}: {why}. Move it aside, or set EDGEFLEET_HOME to another folder.")


def prepare(engine: Engine, path: Path) -> None:
    """Create or upgrade the tables, in one transaction. Raises StoreError for a newer schema or a foreign file."""
    with in_words(path):
        with for_reading(engine).connect() as connection:
            current = _revision(connection, path)
        if current == REVISION:
            return
        with engine.begin() as connection:          # holds the write lock: a second process waits, then finds it done
            _migrate(connection, path)


def check(engine: Engine, path: Path) -> None:
    """For readers: the schema must be this edgefleet's own."""
    with in_words(path), engine.connect() as connection:
        current = _revision(connection, path)
    if current is None:
        raise StoreError(f"{path}: holds no results yet. Run a campaign first: `edgefleet run CAMPAIGN`.")
    if current != REVISION:
        _refuse_newer(current, path)
        raise StoreError(f"{path}: has the older schema {current}. `edgefleet ingest` upgrades it.")


def _revision(connection: Connection, path: Path) -> str | None:
    """The schema's version; None for an empty file."""
    tables = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "alembic_version" not in tables:
        if tables:
            raise _not_ours(path, "is the database of another program")
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return None if row is None else str(row[0])


def _refuse_newer(current: str, path: Path) -> None:
    if not any(entry.name.startswith(f"{current}_") for entry in (MIGRATIONS / "versions").iterdir()):
        raise StoreError(f"{path}: was written by a newer edgefleet (schema {current}; this one knows {REVISION}). "
                         "Update edgefleet, or set EDGEFLEET_HOME to another folder.")


def _migrate(connection: Connection, path: Path) -> None:
    current = _revision(connection, path)
    if current is not None:
        _refuse_newer(current, path)
    from alembic import command  # 0.2 s: only when there is something to migrate
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, REVISION)
