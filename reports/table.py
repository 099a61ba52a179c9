"""The one model of a table: columns with units, rows of cells, notes, provenances. reports/tables/ makes them.

A cell is text, a number, an Estimate with its interval, or Missing with its reason; None is refused, for an empty
cell says nothing. Numbers stay unrounded here; `shown` is the one place that rounds. Writers: table_files.py
(Markdown, CSV, LaTeX, plain text) and page/render.py (HTML).
"""
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from reports.stats import Estimate


@dataclass(frozen=True)
class Missing:
    """A cell without a value, and why. Shown as a dash with a footnote."""

    reason: str


Cell = str | int | float | Estimate | Missing


@dataclass(frozen=True)
class Column:
    """`key` names it in CSV and carries the unit's suffix; `title` and `unit` are for people.

    `decimals` None: three significant digits. `detail` 0 is always shown; 3 (fine print: CSV and Markdown only, and the
    page on request), then 2 and 1 are left out where a terminal is too narrow. `numeric` decides alignment and sorting.
    """

    key: str
    title: str
    unit: str = ""
    decimals: int | None = None
    numeric: bool = True
    detail: int = 0
    about: str = ""


def names(keys: Iterable[str]) -> tuple[Column, ...]:
    """Columns of words, titled by their keys."""
    return tuple(Column(key, key.replace("_", " "), numeric=False) for key in keys)


@dataclass(frozen=True)
class Table:
    """`group` names the leading columns whose change starts a new block of rows (a heading where the format has one).

    `provenances` are those of the numbers in it. Raises ValueError for rows that do not fit the columns.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    provenances: tuple[str, ...] = ()
    group: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns: {self.title}")
            for column, cell in zip(self.columns, row):
                if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
                    raise ValueError(f"column {column.key} holds {cell}: say Missing(reason) instead")

    def without(self, key: str) -> "Table":
        """The same table without the column `key`."""
        gone = self.keys().index(key)
        return replace(self, columns=self.columns[:gone] + self.columns[gone + 1:],
                       rows=tuple(row[:gone] + row[gone + 1:] for row in self.rows),
                       group=tuple(name for name in self.group if name != key))

    def keys(self) -> list[str]:
        return [column.key for column in self.columns]

    def blocks(self) -> list[tuple[tuple[Cell, ...], list[tuple[Cell, ...]]]]:
        """(values of the group columns, rows) of each run of rows that share them, in order."""
        places = [self.keys().index(key) for key in self.group]
        found: list[tuple[tuple[Cell, ...], list[tuple[Cell, ...]]]] = []
        for row in self.rows:
            values = tuple(row[place] for place in places)
            if not found or found[-1][0] != values:
                found.append((values, []))
            found[-1][1].append(row)
        return found

    def headings(self, values: tuple[Cell, ...]) -> list[str]:
        """A block's values for its heading: a number says of what it is, as in "training seed 1"."""
        titles = [self.columns[self.keys().index(key)].title for key in self.group]
        return [value if isinstance(value, str) else f"{title} {plain(value, None)}"
                for title, value in zip(titles, values)]

    def reasons(self, columns: Iterable[Column] | None = None) -> list[str]:
        """Distinct reasons of missing cells of `columns` (default: all), as they appear: the footnotes."""
        among = self.columns if columns is None else tuple(columns)
        return list(dict.fromkeys(cell.reason for row in self.rows for column, cell in zip(self.columns, row)
                                  if isinstance(cell, Missing) and column in among))


def shown(number: float, decimals: int | None) -> str:
    """Rounded for people: fixed decimals or three significant digits, thousands apart, never in scientific form."""
    if isinstance(number, int):
        return f"{number:,}"
    if decimals is None:
        size = math.floor(math.log10(abs(number))) if number else 0
        decimals = min(max(0, 2 - size), 6)
    text = f"{number:,.{decimals}f}"
    return text.lstrip("-") if not any(digit in text for digit in "123456789") else text


def interval_shown(estimate: Estimate, decimals: int | None) -> str:
    """"4.02–4.10", as many decimals as the value; "" without an interval and where all runs gave the same number."""
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return ""
    if decimals is None:
        decimals = len(shown(estimate.value, None).partition(".")[2])
    return f"{shown(estimate.low, decimals)}–{shown(estimate.high, decimals)}"


def plain(cell: Cell, decimals: int | None, interval: bool = True) -> str:
    """A cell as unescaped text: "4.02 [3.98–4.10]", "–" for Missing."""
    if isinstance(cell, Missing):
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Estimate):
        bounds = interval_shown(cell, decimals) if interval else ""
        return shown(cell.value, decimals) + (f" [{bounds}]" if bounds else "")
    return shown(cell, decimals)
