"""Table -> text of a file: Markdown, CSV, JSON, LaTeX (booktabs), plain text for a terminal. Called by build.py.

CSV follows RFC 4180 (CRLF, quotes doubled) with unrounded numbers and the reasons of empty cells in a column of
their own. Everything else is rounded for people. Every name in a table may be hostile: each writer escapes it.
"""
import csv
import io
import json
import unicodedata
from typing import Any

from reports.stats import Estimate
from reports.table import Cell, Column, Missing, Table, interval_shown, plain

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}",
    "–": "--", "—": "---", "µ": r"\textmu{}", "×": r"\texttimes{}", "±": r"\textpm{}", "°": r"\textdegree{}",
    "[": "{[}", "]": "{]}", "*": "{*}",
    "≥": r"\ensuremath{\geq}", "≤": r"\ensuremath{\leq}", "·": r"\textperiodcentered{}", "-": "{-}",
}
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>#|!~$&"})


def clean(text: str) -> str:
    """One line, without control and direction-changing characters, with which a name could disturb its neighbours."""
    return "".join(character if unicodedata.category(character)[0] != "C" else " " for character in text)


def to_markdown(table: Table) -> str:
    """GitHub's pipe table under a heading, notes and footnotes below."""
    lines = [f"## {_markdown(table.title)}", ""]
    lines += ["| " + " | ".join(_markdown(_heading(column)) for column in table.columns) + " |",
              "|" + "|".join("---:" if column.numeric else ":---" for column in table.columns) + "|"]
    reasons = table.reasons()
    for row in table.rows:
        cells = []
        for column, cell in zip(table.columns, row):
            mark = f" <sup>{reasons.index(cell.reason) + 1}</sup>" if isinstance(cell, Missing) else ""
            cells.append(_markdown(plain(cell, column.decimals)) + mark)
        lines.append("| " + " | ".join(cells) + " |")
    if not table.rows:
        lines += ["", "No rows."]
    lines += [""] + [f"- {_markdown(note)}" for note in table.notes]
    lines += [f"- <sup>{number}</sup> {_markdown(reason)}" for number, reason in enumerate(reasons, start=1)]
    return "\n".join(lines).rstrip() + "\n"


def to_csv(table: Table) -> str:
    """RFC 4180. An Estimate takes four fields (key, key_low, key_high, key_n); `missing` lists "key: reason"."""
    wide = [any(isinstance(row[place], Estimate) for row in table.rows) for place in range(len(table.columns))]
    header: list[str] = []
    for column, estimated in zip(table.columns, wide):
        header += [column.key, *(f"{column.key}_{part}" for part in ("low", "high", "n") if estimated)]
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\r\n")
    writer.writerow([*header, "missing"])
    for row in table.rows:
        fields: list[str] = []
        for cell, estimated in zip(row, wide):
            fields += _fields(cell, estimated)
        missing = [f"{column.key}: {cell.reason}" for column, cell in zip(table.columns, row)
                   if isinstance(cell, Missing)]
        writer.writerow([*fields, "; ".join(missing)])
    return output.getvalue()


def to_json(table: Table, caption: str = "") -> str:
    """Title, columns and one object a row, unrounded; an Estimate is an object, and `missing` holds reasons."""
    rows = []
    for row in table.rows:
        values: dict[str, Any] = {}
        for column, cell in zip(table.columns, row):
            values[column.key] = None if isinstance(cell, Missing) else (
                {"value": cell.value, "low": cell.low, "high": cell.high, "n": cell.n}
                if isinstance(cell, Estimate) else cell)
        missing = {column.key: cell.reason for column, cell in zip(table.columns, row) if isinstance(cell, Missing)}
        rows.append({**values, **({"missing": missing} if missing else {})})
    columns = [{"key": column.key, "title": column.title, "unit": column.unit} for column in table.columns]
    document = {"title": table.title, "caption": caption, "columns": columns, "rows": rows}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_latex(table: Table, name: str) -> str:
    """A `table` float with booktabs rules, ready for \\input. Needs \\usepackage{booktabs,textcomp}; `name` labels it.

    Group columns become a line over their rows, intervals a small line under them; columns of least importance are
    left to the CSV.
    """
    columns = [column for column in table.columns if column.key not in table.group and column.detail < 3]
    places = [table.columns.index(column) for column in columns]
    reasons = table.reasons(columns)
    lines = [r"\begin{table}", r"\centering\small", rf"\caption{{{_latex(table.title)}}}",
             rf"\label{{tab:{name.replace('_', '-')}}}",
             rf"\begin{{tabular}}{{@{{}}{''.join('r' if column.numeric else 'l' for column in columns)}@{{}}}}",
             r"\toprule", " & ".join(_latex(column.title) for column in columns) + r" \\",
             " & ".join(_latex(f"({column.unit})" if column.unit else "") for column in columns) + r" \\"]
    for values, rows in table.blocks():
        lines.append(r"\midrule")
        if table.group:
            heading = " · ".join(table.headings(values))
            lines.append(rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\textit{{{_latex(heading)}}}}} \\")
        for row in rows:
            cells = [(row[place], table.columns[place]) for place in places]
            lines.append(" & ".join(_latex_cell(cell, column, reasons) for cell, column in cells) + r" \\")
            lines += _latex_intervals(cells)
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [rf"\par\footnotesize {_latex(note)}" for note in table.notes]
    notes += [rf"\par\footnotesize $^{{{number}}}$ {_latex(reason)}" for number, reason in enumerate(reasons, start=1)]
    return "\n".join([*lines, *notes, r"\end{table}"]) + "\n"


def to_text(table: Table, width: int | None = None) -> str:
    """For a terminal: a heading a block, titles stacked by words, no intervals. `width`: least important columns go."""
    columns = [column for column in table.columns if column.key not in table.group]
    left_out: list[str] = []
    while width and _text_width(table, columns) > width and any(column.detail for column in columns):
        worst = max(column.detail for column in columns)
        gone = next(column for column in reversed(columns) if column.detail == worst)
        columns.remove(gone)
        left_out.insert(0, gone.title)
    widths = [_column_width(table, column) for column in columns]
    titles = [[*clean(column.title).split(), column.unit] for column in columns]
    height = max(len(words) for words in titles)
    lines = [clean(table.title), ""]
    lines += [_aligned([words[line] if len(words) >= -line else "" for words in titles], columns, widths)
              for line in range(-height, 0)]
    lines.append("  ".join("─" * size for size in widths))
    for values, rows in table.blocks():
        if table.group:
            lines.append(clean(" · ".join(table.headings(values))))
        for row in rows:
            texts = [plain(row[table.columns.index(column)], column.decimals, interval=False) for column in columns]
            lines.append(_aligned([clean(text) for text in texts], columns, widths))
    if not table.rows:
        lines.append("No rows.")
    lines += [""] + [clean(note) for note in table.notes] + [f"–: {clean(reason)}" for reason in table.reasons(columns)]
    if any(isinstance(cell, Estimate) and cell.low is not None for row in table.rows for cell in row):
        lines.append("Intervals are in the other formats.")
    if left_out:
        lines.append(f"Left out at this width: {', '.join(left_out)}.")
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _heading(column: Column) -> str:
    return f"{column.title} ({column.unit})" if column.unit else column.title


def _markdown(text: str) -> str:
    return clean(text).translate(_MARKDOWN)


def _latex(text: str) -> str:
    """Latin letters pass; what a default pdflatex has no glyph for is named by its code point."""
    return "".join(_LATEX.get(character, character if ord(character) < 0x180 else f"U+{ord(character):04X}")
                   for character in clean(text))


def _latex_cell(cell: Cell, column: Column, reasons: list[str]) -> str:
    if isinstance(cell, Missing):
        return f"--$^{{{reasons.index(cell.reason) + 1}}}$"
    return _latex(plain(cell, column.decimals, interval=False))


def _latex_intervals(cells: list[tuple[Cell, Column]]) -> list[str]:
    """The line under a row, or none where the row has no interval."""
    bounds = [interval_shown(cell, column.decimals) if isinstance(cell, Estimate) else "" for cell, column in cells]
    if not any(bounds):
        return []
    return [" & ".join(rf"{{\tiny {_latex(text)}}}" if text else "" for text in bounds) + r" \\"]


def _fields(cell: Cell, estimated: bool) -> list[str]:
    """Unrounded, machine-readable; `repr` of a float is its shortest exact form."""
    if isinstance(cell, Missing):
        return ["", "", "", ""] if estimated else [""]
    if isinstance(cell, Estimate):
        return [repr(cell.value), *("" if bound is None else repr(bound) for bound in (cell.low, cell.high)),
                str(cell.n)]
    text = cell if isinstance(cell, str) else repr(cell)
    return [text, "", "", ""] if estimated else [text]


def _column_width(table: Table, column: Column) -> int:
    place = table.columns.index(column)
    texts = [clean(plain(row[place], column.decimals, interval=False)) for row in table.rows]
    return max(_cells(text) for text in [*clean(column.title).split(), column.unit, *texts])


def _text_width(table: Table, columns: list[Column]) -> int:
    return sum(_column_width(table, column) + 2 for column in columns) - 2


def _cells(text: str) -> int:
    """Terminal cells that a text takes: wide characters two, combining ones none."""
    return sum(0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
               for character in text)


def _aligned(texts: list[str], columns: list[Column], widths: list[int]) -> str:
    padded = []
    for text, column, width in zip(texts, columns, widths):
        gap = " " * (width - _cells(text))
        padded.append(gap + text if column.numeric else text + gap)
    return "  ".join(padded)
