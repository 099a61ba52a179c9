"""Pareto: accuracy against latency, a panel for each device and trace: the methods, and the branches to choose from.

Devices never share a panel, so no provenance is drawn over another. Branches lie at their idle latency and validation
accuracy, methods at what their runs got.
"""
from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from device_agents.wire import canonical_json, costed_as
from reports import cells
from reports.figure import Drawing, Style, labelled, series_of
from reports.provenance import ordered, titled
from reports.query import Query
from reports.stats import Estimate
from reports.table import Cell, Column, Missing, Table

PLACE = 10

_COLUMNS = (
    Column("panel", "panel", numeric=False), Column("trace", "trace", numeric=False),
    Column("provenance", "provenance", numeric=False), Column("what", "what", numeric=False),
    Column("name", "name", numeric=False), Column("latency_ms", "latency median", "ms"),
    Column("accuracy_pct", "accuracy", "%", 1), Column("deadline_ms", "deadline", "ms"),
)


def draw(query: Query) -> Drawing | Missing:
    rows = _branch_rows(query) + _method_rows(query)
    if not any(row[3] == "method" for row in rows):
        return Missing("no cell has both a latency and an accuracy")
    title = titled("Accuracy against latency", {str(row[2]) for row in rows},
                   {trial.processor for trial in query.trials})
    table = Table(title, _COLUMNS, tuple(rows), (), ordered(str(row[2]) for row in rows))
    names = list(dict.fromkeys(_panels(query).values()))
    traces = sorted({trial.trace for trial in query.trials})
    caption = ("Median latency of an inference against accuracy on test data, a panel a device and trace. Bars: 95 % "
               "intervals over runs, where three or more are done. Grey: the branches at their idle latency and "
               "validation accuracy, the line their Pareto front. Dashed: the deadline.")

    def paint(figure: Figure, style: Style) -> None:
        _paint(figure, style, table, names, traces, series_of((trial.label for trial in query.trials), style))

    return Drawing(title, caption, table, paint, (max(5.2, 0.6 + 3.1 * len(traces)), 1.2 + 2.4 * len(names)))


def _panels(query: Query) -> dict[str, str]:
    """Trial id -> name of its row of panels: the device, with task, model, seed, runtime, bundle where they vary."""
    every = [(f"{trial.task} / {trial.model}", f"training seed {query.bundles[trial.bundle].seed}", trial.runtime,
              trial.bundle[:8]) for trial in query.trials]
    varying = [place for place in range(4) if len({texts[place] for texts in every}) > 1]
    return {trial.id: ", ".join([trial.device, *(texts[place] for place in varying)])
            for trial, texts in zip(query.trials, every)}


def _branch_rows(query: Query) -> list[tuple[Cell, ...]]:
    """The branches once a panel, at the idle cost that the panel's device has."""
    panels = _panels(query)
    found: dict[tuple[str, ...], tuple[Cell, ...]] = {}
    for trial in query.trials:
        accuracy = {branch.id: branch.accuracy * 100.0 for branch in query.branches[trial.bundle]}
        for cost in query.costs:
            if cost.branch in accuracy and (cost.device, cost.bundle, cost.engine, cost.runtime, cost.knobs) == (
                    trial.device, trial.bundle, *costed_as(trial.engine, trial.runtime),
                    canonical_json(trial.definition["knobs"])):
                key = (panels[trial.id], trial.trace, cost.provenance, "branch", cost.branch)
                found[key] = (*key, float(cost.latency_ms), accuracy[cost.branch], Missing("branches have no deadline"))
    return list(found.values())


def _method_rows(query: Query) -> list[tuple[Cell, ...]]:
    """One a cell; what has no latency or accuracy is left to the tables to explain."""
    panels = _panels(query)
    rows: list[tuple[Cell, ...]] = []
    for group in query.cells:
        pair = (cells.cell(query, group, cells.LATENCY), cells.cell(query, group, cells.ACCURACY))
        deadline = next((trial.deadline_ms for trial in group if trial.deadline_ms is not None), None)
        if not any(isinstance(value, Missing) for value in pair):
            rows.append((panels[group[0].id], group[0].trace, group[0].provenance, "method", group[0].label, *pair,
                         Missing("no deadline") if deadline is None else float(deadline)))
    return rows


def _paint(figure: Figure, style: Style, table: Table, names: Sequence[str], traces: Sequence[str],
           series: Mapping[str, tuple[str, str]]) -> None:
    axes = figure.subplots(len(names), len(traces), squeeze=False, sharey=True, sharex="row")
    handles: dict[str, Artist] = {}
    for line, name in enumerate(names):
        for place, trace in enumerate(traces):
            panel = axes[line][place]
            rows = [row for row in table.rows if (row[0], row[1]) == (name, trace)]
            provenance = next((str(row[2]) for row in rows if row[3] == "method"), "nothing done")
            panel.set_title(f"{labelled(name)} · {labelled(trace, 14)} · {provenance}")
            _branches(panel, style, [row for row in rows if row[3] == "branch"], handles)
            for row in rows:
                if row[3] == "method":
                    _method(panel, row, *series[str(row[4])], handles)
            for deadline in sorted({row[7] for row in rows if isinstance(row[7], float)}):
                handles["deadline"] = panel.axvline(deadline, color=style.muted, linestyle="--", linewidth=0.9)
        axes[line][0].set_xlim(0, 1.06 * max(_reached(row) for row in table.rows if row[0] == name))
        axes[line][0].set_ylabel("accuracy (%)")
    for panel in axes[-1]:
        panel.set_xlabel("latency median (ms)")
    figure.legend(list(handles.values()), [labelled(name) for name in handles], loc="outside upper right",
                  ncols=min(len(handles), 3 if len(traces) < 3 else 6))


def _branches(panel: Axes, style: Style, rows: Sequence[tuple[Cell, ...]], handles: dict[str, Artist]) -> None:
    points = sorted((float(row[5]), float(row[6])) for row in rows
                    if isinstance(row[5], float) and isinstance(row[6], float))
    front: list[tuple[float, float]] = []
    for point in points:
        if not front or point[1] > front[-1][1]:
            front.append(point)
    if points:
        panel.step(*zip(*front), where="post", color=style.muted, linewidth=0.9, alpha=0.7, zorder=1)
        handles["branches, idle"] = panel.plot(*zip(*points), linestyle="none", marker="o", markersize=3.2,
                                               color=style.muted, alpha=0.75, zorder=2)[0]


def _method(panel: Axes, row: tuple[Cell, ...], colour: str, marker: str, handles: dict[str, Artist]) -> None:
    latency, accuracy = row[5], row[6]
    if isinstance(latency, Estimate) and isinstance(accuracy, Estimate):
        handles[str(row[4])] = panel.errorbar(
            latency.value, accuracy.value, xerr=_reach(latency), yerr=_reach(accuracy), color=colour, marker=marker,
            markersize=6.5, linestyle="none", elinewidth=1, capsize=2, markeredgecolor="white", markeredgewidth=0.5,
            zorder=4).lines[0]


def _reached(row: tuple[Cell, ...]) -> float:
    """The largest latency that a row draws: its point, its bar or its deadline."""
    latency, deadline = row[5], row[7]
    ends = [latency.high if latency.high is not None else latency.value] if isinstance(latency, Estimate) else [latency]
    return max(float(end) for end in [*ends, deadline] if isinstance(end, int | float))


def _reach(estimate: Estimate) -> list[list[float]] | None:
    if estimate.low is None or estimate.high is None:
        return None
    return [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]
