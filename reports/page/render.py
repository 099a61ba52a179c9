"""Tables and drawings -> index.html: one file, no requests, light and dark, readable without scripts.

Called by build.py. Jinja escapes everything that comes from the database; a content security policy in the page lets
nothing load but what is inline. Figures are inline SVG pictures, one for each colour scheme.
"""
import base64
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import jinja2
from markupsafe import Markup

from reports import figure
from reports.figure import Drawing
from reports.provenance import LEGEND, ordered
from reports.query import Query
from reports.stats import Estimate
from reports.table import Cell, Column, Missing, Table, interval_shown, plain, shown
from reports.table_files import clean

_HERE = Path(__file__).parent
_MEDIA = {"svg": "svg+xml", "png": "png"}
_PIXELS_PER_INCH = 130                          # a figure's text of 8 pt then reads like the page's own


def page(query: Query, tables: Mapping[str, Table], drawings: Mapping[str, Drawing | Missing],
         folded: set[str]) -> str:
    """The page's text. `folded` names the tables that start closed."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["clean"] = clean
    states = Counter(trial.state for trial in query.trials)
    return environment.get_template("page.html.j2").render(
        campaign=query.campaign.name, others=query.other_campaigns,
        states=[(state, states[state]) for state in ("done", "failed", "skipped", "running", "pending")
                if states[state]],
        facts=_facts(query), banner=_banner(query), legend=LEGEND,
        present=ordered({trial.provenance for trial in query.trials} | set(query.foreign)),
        tables=[(name, _table_view(table), name in folded) for name, table in tables.items()],
        figures=[_figure_view(name, drawing) for name, drawing in drawings.items()],
        spec=json.dumps(_spec(query.campaign.spec), indent=2, ensure_ascii=False, sort_keys=True),
        style=_inline("style.css"), script=_inline("page.js"))


def _inline(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8"))       # ours, not the database's


def _spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The campaign without the folders of whoever ran it: files are named, not located."""
    return {key: PurePath(value).name if key in ("fleet", "plugins") and value else value
            for key, value in spec.items()}


def _facts(query: Query) -> list[tuple[str, str]]:
    """Label and value, for the head of the page."""
    def several(values: set[str]) -> str:
        return ", ".join(sorted(values))
    repeats = {trial.repeat for trial in query.trials}
    return [
        ("tasks", several({f"{trial.task} / {trial.model}" for trial in query.trials})),
        ("devices", str(len(query.devices))), ("methods", str(len({trial.label for trial in query.trials}))),
        ("training seeds", str(len({trial.training_seed for trial in query.trials}))),
        ("traces", str(len({trial.trace for trial in query.trials}))), ("runs a cell", str(len(repeats))),
        ("window", several({f"{trial.duration_s:g} s" for trial in query.trials})),
        ("runtime", several({trial.runtime for trial in query.trials})),
        ("processor", several({trial.processor for trial in query.trials})),
    ]


def _banner(query: Query) -> tuple[str, str]:
    """(kind, text): what may be concluded from this report."""
    found = ordered(trial.provenance for trial in query.trials)
    doubtful = [name for name in found if name != "measured"]
    others = _others(query)
    if not doubtful:
        return "measured", f"Latencies and answers were measured on the devices that their rows name.{others}"
    counted = {name: len({trial.device for trial in query.trials if trial.provenance == name}) for name in found}
    parts = ", ".join(f"{counted[name]} {name}" for name in found)
    subject = "This report rests on" if len(doubtful) == len(found) else "This report mixes"
    return doubtful[0], (f"{subject} {parts} device{'s' if sum(counted.values()) > 1 else ''}. Numbers that are "
                         f"{' or '.join(doubtful)} show that the harness works; they are no evidence of who wins. "
                         f"No average spans two provenances.{others}")


def _others(query: Query) -> str:
    """What was read in trials and has another provenance than they have."""
    parts = [f"{kind} ({name})" for name in ordered(query.foreign) for kind in sorted(query.foreign[name])]
    return f" Readings of another provenance: {', '.join(parts)}; they are in no comparison." if parts else ""


def _table_view(table: Table) -> dict[str, Any]:
    """What the template loops over: no logic left but escaping."""
    visible = [place for place, column in enumerate(table.columns) if column.key not in table.group]
    titles = [table.columns[table.keys().index(key)].title for key in table.group]
    reasons = table.reasons()
    blocks = []
    for values, rows in table.blocks():
        heading = dict(zip(titles, table.headings(values)))
        blocks.append({"provenance": heading.pop("provenance", ""), "heading": list(heading.items()), "rows": [
            [_cell_view(row[place], table.columns[place], reasons) for place in visible] for row in rows]})
    title, worth = _split(table.title)
    return {"title": title, "worth": worth, "columns": [table.columns[place] for place in visible], "blocks": blocks,
            "notes": table.notes, "reasons": list(enumerate(reasons, start=1)), "grouped": bool(table.group),
            "count": len(table.rows), "detailed": any(column.detail > 2 for column in table.columns)}


def _cell_view(cell: Cell, column: Column, reasons: list[str]) -> dict[str, Any]:
    view: dict[str, Any] = {"numeric": column.numeric, "text": plain(cell, column.decimals, interval=False),
                            "interval": "", "note": 0, "reason": "", "sort": "", "key": column.key,
                            "detail": column.detail > 2}
    if isinstance(cell, Missing):
        view.update(note=reasons.index(cell.reason) + 1, reason=cell.reason)
    elif isinstance(cell, Estimate):
        view.update(interval=interval_shown(cell, column.decimals), sort=repr(cell.value),
                    reason=f"{cell.how}, n = {cell.n}" + (f"; {cell.reason}" if cell.reason else ""))
    else:
        view["sort"] = cell if isinstance(cell, str) else repr(cell)
    return view


def _figure_view(name: str, drawing: Drawing | Missing) -> dict[str, Any]:
    if isinstance(drawing, Missing):
        return {"name": name, "title": name.capitalize(), "worth": "", "missing": drawing.reason}
    title, worth = _split(drawing.title)
    width, height = (round(inches * _PIXELS_PER_INCH) for inches in drawing.size_in)
    return {"name": name, "title": title, "worth": worth, "caption": drawing.caption, "missing": "",
            "light": _picture(drawing, figure.LIGHT), "dark": _picture(drawing, figure.DARK),
            "width": width, "height": height,
            "endings": ("png", "svg", "pdf", "csv", "json"), "points": shown(len(drawing.data.rows), 0)}


def _split(title: str) -> tuple[str, str]:
    """What a table shows, and what its numbers are worth: the heading and the line under it."""
    head, found, tail = title.rpartition(", processor ")
    if found:
        return head, f"processor {tail}"
    head, found, tail = title.rpartition(" (")
    return (head, tail.removesuffix(")")) if found else (title, "")


def _picture(drawing: Drawing, style: figure.Style) -> str:
    """A data URI."""
    format, content = figure.picture(drawing, style)
    return f"data:image/{_MEDIA[format]};base64,{base64.b64encode(content).decode()}"
