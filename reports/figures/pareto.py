"""Pareto: accuracy against latency, a panel for each device, network and trace: the methods, and their branches.

Devices never share a panel, so no provenance is drawn over another. Branches lie at their idle latency and validation
accuracy, methods at what their runs got. A method with a network of its own is drawn beside the branches of the
network that it was derived from.
"""
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from device_agents.wire import canonical_json, costed_as
from reports import cells
from reports.figure import Drawing, Style, labelled, longest, series_of
from reports.panels import labels, panels
from reports.provenance import ordered, titled
from reports.query import Query, Row
from reports.stats import Estimate
from reports.table import Cell, Column, Missing, Table

PLACE = 10

_COLUMNS = (
    Column("panel", "panel", numeric=False), Column("trace", "trace", numeric=False),
    Column("provenance", "provenance", numeric=False), Column("what", "what", numeric=False),
    Column("name", "name", numeric=False), Column("latency_ms", "latency median", "ms"),
    Column("accuracy_pct", "accuracy", "%", 1), Column("deadline_ms", "deadline", "ms"),
)
_BRANCHES, _DEADLINE = "branches, idle", "deadline"
_PANEL_IN, _LEGEND_LINE_IN = 2.4, 0.17
_NAME, _ENTRY_IN = 20, 1.45                     # characters of a name in the legend, and the width of its entry


def draw(query: Query) -> Drawing | Missing:
    names = panels(query)
    methods = labels(query, names)
    rows = _branch_rows(query, names) + _method_rows(query, names, methods)
    if not any(row[3] == "method" for row in rows):
        return Missing("no cell has both a latency and an accuracy")
    title = titled("Accuracy against latency", {str(row[2]) for row in rows},
                   {trial.processor for trial in query.trials})
    table = Table(title, _COLUMNS, tuple(rows), (), ordered(str(row[2]) for row in rows))
    drawn = list(dict.fromkeys(names.values()))
    traces = sorted({trial.trace for trial in query.trials})
    caption = ("Median latency of an inference against accuracy on test data, a panel a device, network and trace. "
               "Bars: 95 % intervals over runs, where three or more are done. Grey: the branches at their idle latency "
               "and validation accuracy, the line their Pareto front. Dashed: the deadline.")

    def paint(figure: Figure, style: Style) -> None:
        _paint(figure, style, table, drawn, traces, series_of(methods, style))

    width = max(5.2, 0.6 + 3.1 * len(traces))
    return Drawing(title, caption, table, paint, (width, _legend_in(table, width) + 0.7 + _PANEL_IN * len(drawn)))


def _legend_in(table: Table, width: float) -> float:
    """Height of the legend, in inches."""
    methods = _methods(table)
    return _LEGEND_LINE_IN * -(-(len(methods) + 2) // _across(methods, width)) + 0.1


def _methods(table: Table) -> set[str]:
    return {str(row[4]) for row in table.rows if row[3] == "method"}


def _across(methods: Iterable[str], width: float) -> int:
    """Entries of the legend side by side."""
    return max(1, int(width * _NAME / (_ENTRY_IN * longest(methods, _NAME))))


def _branch_rows(query: Query, names: Mapping[str, str]) -> list[tuple[Cell, ...]]:
    """The branches of a panel's network once a panel, at their idle cost with the runtime that most trials used."""
    used: dict[tuple[str, str], Counter[tuple[str, ...]]] = {}
    for trial in query.trials:
        if trial.bundle == query.parent(trial):
            key = (trial.device, trial.bundle, *costed_as(trial.engine, trial.runtime),
                   canonical_json(trial.definition["knobs"]))
            used.setdefault((names[trial.id], trial.trace), Counter())[key] += 1
    costs: dict[tuple[str, ...], list[Row]] = {}
    for cost in query.costs:
        costs.setdefault((cost.device, cost.bundle, cost.engine, cost.runtime, cost.knobs), []).append(cost)
    rows: list[tuple[Cell, ...]] = []
    for (name, trace), counted in used.items():
        [(costed, _)] = counted.most_common(1)
        accuracy = {branch.id: branch.accuracy * 100.0 for branch in query.branches[costed[1]]}
        rows += [(name, trace, cost.provenance, "branch", cost.branch, float(cost.latency_ms), accuracy[cost.branch],
                  Missing("branches have no deadline")) for cost in costs.get(costed, ()) if cost.branch in accuracy]
    return rows


def _method_rows(query: Query, names: Mapping[str, str], methods: Sequence[str]) -> list[tuple[Cell, ...]]:
    """One a cell; what has no latency or accuracy is left to the tables to explain."""
    rows: list[tuple[Cell, ...]] = []
    for group, method in zip(query.cells, methods):
        pair = (cells.cell(query, group, cells.LATENCY), cells.cell(query, group, cells.ACCURACY))
        deadline = next((trial.deadline_ms for trial in group if trial.deadline_ms is not None), None)
        if not any(isinstance(value, Missing) for value in pair):
            rows.append((names[group[0].id], group[0].trace, group[0].provenance, "method", method, *pair,
                         Missing("no deadline") if deadline is None else float(deadline)))
    return rows


def _paint(figure: Figure, style: Style, table: Table, names: Sequence[str], traces: Sequence[str],
           series: Mapping[str, tuple[str, str]]) -> None:
    width = figure.get_figwidth()
    heights = [_legend_in(table, width), *[_PANEL_IN] * len(names)]
    grid = figure.add_gridspec(len(names) + 1, len(traces), height_ratios=heights)
    axes = grid[1:, :].subgridspec(len(names), len(traces)).subplots(squeeze=False, sharey="row", sharex="row")
    handles: dict[str, Artist] = {}
    for line, name in enumerate(names):
        for place, trace in enumerate(traces):
            panel = axes[line][place]
            rows = [row for row in table.rows if (row[0], row[1]) == (name, trace)]
            undone = "" if any(row[3] == "method" for row in rows) else " · nothing done"
            panel.set_title(f"{labelled(name, 56)}\n{labelled(trace, 40)}{undone}")
            _branches(panel, style, [row for row in rows if row[3] == "branch"], handles)
            for row in rows:
                if row[3] == "method":
                    _method(panel, row, *series[str(row[4])], handles)
            for deadline in sorted({row[7] for row in rows if isinstance(row[7], float)}):
                handles[_DEADLINE] = panel.axvline(deadline, color=style.muted, linestyle="--", linewidth=0.9)
        axes[line][0].set_xlim(0, 1.06 * max((_reached(row) for row in table.rows if row[0] == name), default=1.0))
        axes[line][0].margins(y=0.08)
        axes[line][0].set_ylabel("accuracy (%)")
    for panel in axes[-1]:
        panel.set_xlabel("latency median (ms)")
    top = figure.add_subplot(grid[0, :])
    top.set_axis_off()
    known = sorted(handles, key=lambda name: (name not in (_BRANCHES, _DEADLINE), name))
    top.legend([handles[name] for name in known], [labelled(name, longest(known, _NAME)) for name in known],
               loc="upper left", bbox_to_anchor=(0.0, 0.0, 1.0, 1.0), mode="expand", borderaxespad=0,
               ncols=_across(_methods(table), width))


def _branches(panel: Axes, style: Style, rows: Sequence[tuple[Cell, ...]], handles: dict[str, Artist]) -> None:
    points = sorted((float(row[5]), float(row[6])) for row in rows
                    if isinstance(row[5], float) and isinstance(row[6], float))
    front: list[tuple[float, float]] = []
    for point in points:
        if not front or point[1] > front[-1][1]:
            front.append(point)
    if points:
        panel.step(*zip(*front), where="post", color=style.muted, linewidth=0.9, alpha=0.7, zorder=1)
        handles[_BRANCHES] = panel.plot(*zip(*points), linestyle="none", marker="o", markersize=3.2,
                                               color=style.muted, alpha=0.75, zorder=2)[0]


def _method(panel: Axes, row: tuple[Cell, ...], colour: str, marker: str, handles: dict[str, Artist]) -> None:
    latency, accuracy = row[5], row[6]
    if isinstance(latency, Estimate) and isinstance(accuracy, Estimate):
        handles[str(row[4])] = panel.errorbar(
            latency.value, accuracy.value, xerr=_reach(latency), yerr=_reach(accuracy), color=colour, marker=marker,
            markersize=9.5 if marker == "*" else 6.5, linestyle="none", elinewidth=1, capsize=2,
            markeredgecolor="white", markeredgewidth=0.5, zorder=4).lines[0]


def _reached(row: tuple[Cell, ...]) -> float:
    """The largest latency that a row draws: its point, its bar or its deadline."""
    latency, deadline = row[5], row[7]
    ends = [latency.high if latency.high is not None else latency.value] if isinstance(latency, Estimate) else [latency]
    return max(float(end) for end in [*ends, deadline] if isinstance(end, int | float))


def _reach(estimate: Estimate) -> list[list[float]] | None:
    if estimate.low is None or estimate.high is None:
        return None
    return [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]
