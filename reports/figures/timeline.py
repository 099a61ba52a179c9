"""Timeline: one trial from start to end: load asked and achieved, the branch in place, response times and deadline.

The trial is the one with most switches among the finished measured ones, or else emulated, or else simulated, so that
the same database always shows the same trial. Every inference is drawn; nothing is smoothed.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from device_agents.wire import PROVENANCES
from reports.figure import Drawing, Style, labelled
from reports.provenance import titled
from reports.query import Query, Row
from reports.table import Cell, Column, Missing, Table

PLACE = 30

_COLUMNS = (
    Column("t_s", "time", "s", 3), Column("what", "what", numeric=False), Column("value", "value", "see what", 3),
    Column("branch", "branch", numeric=False), Column("deadline_ms", "deadline", "ms"),
    Column("status", "status", numeric=False),
)
_RASTERISE_FROM = 2000                          # points; beyond that a vector file grows by megabytes
_NO_VALUE, _NOT_ONE = Missing("no such value in this row"), Missing("not an inference")


def draw(query: Query) -> Drawing | Missing:
    trial = _chosen(query)
    arrivals = _inference_rows(query, trial)
    start_ns = min((row[0] for row in arrivals), default=0)
    rows = [((row[0] - start_ns) / 1e9, *row[1:]) for row in sorted(
        _load_rows(query, trial, start_ns) + arrivals, key=lambda row: (row[0], row[1]))]
    if not any(row[1] == "response_ms" for row in rows):
        return Missing(f"trial {trial.id} served nothing")
    title = titled(f"One trial: {trial.label} on {trial.device} under {trial.trace}, run {trial.repeat + 1}",
                   [trial.provenance], [trial.processor])
    table = Table(title, _COLUMNS, tuple(rows), (), (trial.provenance,))
    order = [branch.id for branch in reversed(query.branches[trial.bundle])]
    why = "the one with most switches" if query.reading(trial, "switches").value else "the first, as none switched"
    caption = (f"Trial {trial.id[:12]}, {why}. Top: co-running load on all cores, asked and "
               "achieved, and what the agent sensed. Middle: the branch of every inference, cheapest below. Bottom: "
               "response time of every arrival; crosses missed the deadline, ticks above the axis were dropped late.")

    def paint(figure: Figure, style: Style) -> None:
        _paint(figure, style, table, order)

    return Drawing(title, caption, table, paint, (7.6, 5.4))


def _chosen(query: Query) -> Row:
    def rank(trial: Row) -> tuple[bool, int, float]:
        switches = query.reading(trial, "switches").value or 0.0
        return switches == 0.0, PROVENANCES.index(trial.provenance), -switches
    return min((trial for trial in query.trials if trial.state == "done"), key=rank)


def _load_rows(query: Query, trial: Row, start_ns: int) -> list[tuple[Any, ...]]:
    """(t_ns, what, value, ...): each report of the load generator holds for the span before it.

    Spans are told in milliseconds: one that seems to begin before the report before it begins there.
    """
    span_ns = {row.t_ns: int(row.value * 1e9) for row in query.measurements(trial, "span_s") if row.value is not None}
    rows: list[tuple[Any, ...]] = []
    for what in ("asked_cpu_pct", "achieved_cpu_pct", "co_cpu_pct"):
        last_ns = start_ns
        for row in query.measurements(trial, what):
            if row.value is not None:
                begin_ns = max(last_ns, row.t_ns - (0 if what == "co_cpu_pct" else span_ns.get(row.t_ns, 0)))
                last_ns = max(start_ns, row.t_ns)
                rows += [(at, what, float(row.value), _NOT_ONE, _NOT_ONE, "") for at in sorted({begin_ns, row.t_ns})
                         if row.t_ns > start_ns]
    return rows


def _inference_rows(query: Query, trial: Row) -> list[tuple[Any, ...]]:
    columns = ("number", "status", "due_ns", "t_ns", "branch", "response_ms", "met", "deadline_ms")
    rows: list[tuple[Any, ...]] = []
    for row in query.inferences(trial, columns):
        at = row.due_ns if row.due_ns is not None else row.t_ns
        status = row.status if row.status != "ok" else "missed" if row.met == 0 else "met" if row.met else "ok"
        if at is not None:
            rows.append((at, "response_ms" if row.response_ms is not None else "arrival", _or(row.response_ms),
                         row.branch or Missing("no branch ran"), _or(row.deadline_ms), status))
    return rows


def _or(value: float | None) -> Cell:
    return _NO_VALUE if value is None else float(value)


def _paint(figure: Figure, style: Style, table: Table, order: Sequence[str]) -> None:
    load, branch, response = figure.subplots(3, 1, sharex=True, height_ratios=(1.0, 1.1, 1.6))
    _paint_load(load, style, table)
    _paint_branches(branch, style, table, order)
    _paint_responses(response, style, table)
    response.set_xlabel("time in the measured window (s)")
    last = max(float(row[0]) for row in table.rows if isinstance(row[0], float))
    response.set_xlim(-0.01 * last, last * 1.01)
    figure.align_ylabels()


def _paint_load(axes: Axes, style: Style, table: Table) -> None:
    lines = (("co_cpu_pct", "sensed by the agent", style.muted, 0.9, ":"),
             ("asked_cpu_pct", "asked", style.series[0], 1.5, "-"),
             ("achieved_cpu_pct", "achieved", style.series[4], 1.2, "--"))
    for what, name, colour, width, line in lines:
        points = [(row[0], row[2]) for row in table.rows if row[1] == what]
        if points:
            axes.plot(*np.array(points).T, color=colour, linewidth=width, linestyle=line, label=name)
    axes.set_ylim(-3, 103)
    axes.set_ylabel("load\n(% of all cores)")
    if axes.lines:
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.1)
    else:
        axes.text(0.5, 0.5, "no load was recorded", transform=axes.transAxes, ha="center", color=style.muted)


def _paint_branches(axes: Axes, style: Style, table: Table, order: Sequence[str]) -> None:
    points = [(row[0], str(row[3])) for row in table.rows if row[1] == "response_ms" and isinstance(row[3], str)]
    used = [*order, *sorted({name for _, name in points} - set(order))]
    places = np.array([(at, used.index(name)) for at, name in points], float).T
    axes.step(places[0], places[1], where="post", color=style.muted, linewidth=0.6, alpha=0.6, zorder=1)
    axes.scatter(places[0], places[1], s=5, color=style.series[0], linewidths=0, zorder=2,
                 rasterized=len(points) > _RASTERISE_FROM)
    axes.set_yticks(range(len(used)), [labelled(name, 16) for name in used])
    axes.set_ylim(-0.6, len(used) - 0.4)
    axes.set_ylabel("branch")


def _paint_responses(axes: Axes, style: Style, table: Table) -> None:
    served = [row for row in table.rows if row[1] == "response_ms"]
    for status, name, colour, marker, size in (("ok", "response", style.series[0], "o", 6),
                                               ("met", "in time", style.series[0], "o", 6),
                                               ("missed", "missed the deadline", style.alarm, "x", 16)):
        points = np.array([(row[0], row[2]) for row in served if row[5] == status], float)
        if len(points):
            axes.scatter(points[:, 0], points[:, 1], s=size, color=colour, marker=marker, label=name,
                         linewidths=0.0 if marker == "o" else 0.9, rasterized=len(points) > _RASTERISE_FROM)
    limits = [(row[0], row[4]) for row in table.rows if isinstance(row[4], float)]
    if limits:
        axes.step(*np.array(limits, float).T, where="post", color=style.ink, linewidth=1.0, linestyle="--",
                  label="deadline")
    dropped = np.array([row[0] for row in table.rows if row[5] in ("expired", "unserved")], float)
    if len(dropped):
        axes.plot(dropped, [1.02] * len(dropped), transform=axes.get_xaxis_transform(), linestyle="none", marker="|",
                  markersize=5, color=style.alarm, clip_on=False, label="dropped")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("response time (ms)")
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.22), ncols=4, borderaxespad=0.1)
