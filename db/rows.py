"""Inserts rows fast: SQL compiled once from the table by SQLAlchemy, executed by the driver.

Called by db.ingest and db.derive. (SQLAlchemy's own insert of dicts reaches 0.4 of the driver's speed, this reaches
it.) Values must fit: it converts JSON columns to text and nothing else.
"""
import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import JSON, Connection, Table, insert
from sqlalchemy.dialects.sqlite import pysqlite

_DIALECT = pysqlite.dialect()


def insert_sql(table: Table, prefix: str = "") -> str:
    """INSERT of all columns in the table's order, with positional parameters; prefix e.g. "OR IGNORE"."""
    statement = insert(table).prefix_with(prefix) if prefix else insert(table)
    return str(statement.compile(dialect=_DIALECT))


class Inserter:
    """Collects dict rows of one table; a row whose key is there already is left out."""

    def __init__(self, connection: Connection, table: Table) -> None:
        self.count = 0
        self._connection = connection
        self._sql = insert_sql(table, "OR IGNORE")
        self._columns = tuple((column.name, isinstance(column.type, JSON)) for column in table.columns)
        self._rows: list[tuple[Any, ...]] = []

    def append(self, row: dict[str, Any]) -> None:
        self._rows.append(tuple([
            _text(row[name]) if is_json else row[name] for name, is_json in self._columns]))

    def extend(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            self.append(row)

    def flush(self) -> None:
        if self._rows:
            self.count += self._connection.exec_driver_sql(self._sql, _batch(self._rows)).rowcount
            self._rows.clear()


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _batch(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return list(rows)
