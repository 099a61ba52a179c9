"""Inserts rows fast: SQL compiled once from the table by SQLAlchemy, executed by the driver.

Called by db.ingest and db.derive. (SQLAlchemy's own insert of dicts reaches 0.4 of the driver's speed, this reaches
it.) Values must fit: it converts JSON columns to text and nothing else.
"""
import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, Table, bindparam, insert, literal_column
from sqlalchemy.dialects.sqlite import pysqlite

_DIALECT = pysqlite.dialect()


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, within SQLAlchemy's transaction; it raises sqlite3's errors."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def insert_sql(table: Table, prefix: str = "", **constant: str) -> str:
    """INSERT of all columns in the table's order, with positional parameters but for the `constant` ones.

    `prefix`: e.g. "OR IGNORE".
    """
    values: dict[str, ColumnElement[Any]] = {
        column.name: literal_column(_quoted(constant[column.name])) if column.name in constant
        else bindparam(column.name) for column in table.columns}
    statement = insert(table).values(values).inline()     # no RETURNING
    return str((statement.prefix_with(prefix) if prefix else statement).compile(dialect=_DIALECT))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Inserter:
    """Collects rows of one table, as dicts or as tuples in the table's order; one whose key is there is left out."""

    def __init__(self, connection: Connection, table: Table) -> None:
        self.count = 0
        self._driver = driver_of(connection)
        self._sql = insert_sql(table, "OR IGNORE")
        self._columns = tuple((column.name, isinstance(column.type, JSON)) for column in table.columns)
        self._rows: list[tuple[Any, ...]] = []

    def append(self, row: dict[str, Any]) -> None:
        self._rows.append(tuple([
            _text(row[name]) if is_json else row[name] for name, is_json in self._columns]))

    def extend(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Tuples are inserted as they are."""
        self._rows.extend(rows)

    def flush(self) -> None:
        if self._rows:
            self.count += self._driver.executemany(self._sql, self._rows).rowcount
            self._rows = []


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

