"""Inference lines -> rows of table inference: the only table that is long, so the only one with a fast way in.

Called by db.ingest, a batch at a time. The fast way checks whole columns and lets the driver insert them; whatever it
stumbles over (a missing field, a wrong type, a number taken twice) sends the batch the slow way, line by line.
"""
import sqlite3
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection

from db import schema
from db.journal_file import Line, clean
from db.journal_rows import Context, Refused
from db.rows import driver_of, insert_sql

_INT, _FLAG, _FLOAT, _TEXT = {int, type(None)}, {bool, type(None)}, {float, int, type(None)}, {str, type(None)}
_STATUSES = ("ok", "expired", "unserved")
_LARGEST = 1e15                                 # of ms and µs: more is no time, and would overflow what is made of it

#: Columns of the table between `trial` and `provenance`, as (field of the line, allowed types).
FIELDS: tuple[tuple[str, set[Any]], ...] = (
    ("index", {int}), ("phase", {str}), ("status", {str}), ("due_ns", _INT), ("t_ns", _INT), ("branch", _TEXT),
    ("sample", _INT), ("label", _INT), ("correct", _FLAG), ("queue_ms", _FLOAT), ("decide_us", _FLOAT),
    ("switch_ms", _FLOAT), ("latency_ms", _FLOAT), ("response_ms", _FLOAT), ("met", _FLAG), ("queue_len", _INT),
    ("deadline_ms", _FLOAT), ("feasible", _INT),
)
_pick = itemgetter(*(name for name, _ in FIELDS))
_PHASE, _STATUS = 1, 2

Values = tuple[Any, ...]


class Inferences:
    """Inserts inference lines of one trial; `count` rows so far, `in_window` of them of the measured window."""

    def __init__(self, connection: Connection, context: Context) -> None:
        self.count = self.in_window = 0
        self._driver, self._context = driver_of(connection), context
        self._sql = ""

    def add(self, lines: Sequence[Line]) -> list[tuple[int, str]]:
        """Insert; those that cannot be, as (place in `lines`, reason)."""
        try:
            rows = list(map(_pick, lines))
        except KeyError:
            rows = []
        if rows and _sound(rows) and self._insert(rows):
            return []
        refused = []
        for place, line in enumerate(lines):
            try:
                if not self._insert([_values(line)]):
                    raise Refused(f"inference {line['index']} is there already")
            except Refused as error:
                refused.append((place, str(error)))
        return refused

    def _insert(self, rows: list[Values]) -> bool:
        """False when the database refuses one of them; then none is in."""
        if not self._sql:                           # now the first line has been read, which states the provenance
            self._sql = insert_sql(schema.inference, trial=self._context.trial, provenance=self._context.provenance)
        self._driver.execute("SAVEPOINT batch")
        try:
            self._driver.executemany(self._sql, rows)
        except (OverflowError, sqlite3.IntegrityError):     # any other error has ended the transaction
            self._driver.execute("ROLLBACK TO batch")
            return False
        self._driver.execute("RELEASE batch")
        self.count += len(rows)
        self.in_window += [row[_PHASE] for row in rows].count("window")
        return True


def _sound(rows: list[Values]) -> bool:
    """Do all values of every column have their column's type, and are all of them storable and printable?"""
    for (_, allowed), column in zip(FIELDS, zip(*rows)):
        if not set(map(type, column)) <= allowed:
            return False
        if allowed is _FLOAT and not _bounded(column):
            return False
        if str in allowed and any(text is not None and clean(text) != text for text in set(column)):
            return False
    return {row[_STATUS] for row in rows} <= set(_STATUSES)


def _bounded(column: Sequence[Any]) -> bool:
    try:
        return bool(sum(map(abs, filter(None, column))) <= _LARGEST)    # false also for what is no number
    except OverflowError:                           # a giant integer beside a float
        return False


def _values(line: Line) -> Values:
    """The line's columns; an absent field is null, a label that is no class number too. Raises Refused."""
    values = []
    for name, allowed in FIELDS:
        value = line.get(name)
        if name == "label" and type(value) is not int:
            value = None
        if isinstance(value, str):
            value = clean(value)
        if type(value) not in allowed or not _storable(value, allowed):
            raise Refused(f"{name} is missing, out of range or of the wrong type")
        values.append(value)
    if values[_STATUS] not in _STATUSES:
        raise Refused(f"status is none of {', '.join(_STATUSES)}")
    return tuple(values)


def _storable(value: Any, allowed: set[Any]) -> bool:
    if allowed is _FLOAT:
        return value is None or abs(value) <= _LARGEST
    return type(value) is not int or -2**63 <= value < 2**63
