"""Misses: the share of arrivals that a method answered late or not at all; a panel a device and trace, a line a method.

Each cell has a mark of its own: networks from several training seeds stand beside each other on a line, never pooled.
"""
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import cells
from reports.figure import Drawing, Style, labelled, longest
from reports.panels import labels, panels
from reports.provenance import ordered, titled
from reports.query import Query
from reports.stats import Estimate
from reports.table import Cell, Missing, Table, names, shown

PLACE = 20

_LINE_IN, _PANEL_IN = 0.17, 2.4                 # height of a method's line, width of a panel
_NAME, _CHARACTER_IN = 24, 0.055                # characters of a method's name that have room, width of one more
_SPREAD = 0.22                                  # of a line, between two marks on it


def draw(query: Query) -> Drawing | Missing:
    named = panels(query, seeds_apart=False)
    rows: list[tuple[Cell, ...]] = []
    for trials, label in zip(query.cells, labels(query, named)):
        value = cells.cell(query, trials, cells.MISSES)
        if isinstance(value, Estimate):
            first = trials[0]
            rows.append((named[first.id], first.trace, label, value, first.device, first.provenance,
                         *query.network(first)))
    if not rows:
        return Missing("no finished trial has a deadline")
    found = ordered(str(row[5]) for row in rows)
    title = titled("Deadline misses", found, {trial.processor for trial in query.trials})
    columns = (*names(("panel", "trace", "method")), cells.MISSES.column,
               *names(("device", "provenance", *query.network_keys)))
    table = Table(title, columns, tuple(rows), (), found)
    caption = ("Share of arrivals that missed their deadline: answered late, dropped late, or not served. Median over "
               "runs; whiskers: 95 % intervals over runs, where three or more are done.")
    if "training_seed" in query.network_keys:
        caption += " A mark for each training seed of a network."
    lines, across = (len(_distinct(table, place)) for place in (2, 1))
    beyond = longest(_distinct(table, 2), _NAME) - _NAME
    size_in = (1.5 + _CHARACTER_IN * beyond + _PANEL_IN * max(2, across),
               0.5 + (0.6 + _LINE_IN * lines) * len(_distinct(table, 0)))

    def paint(figure: Figure, style: Style) -> None:
        _paint(figure, style, table)

    return Drawing(title, caption, table, paint, size_in)


def _distinct(table: Table, place: int) -> list[str]:
    return list(dict.fromkeys(str(row[place]) for row in table.rows))


def _paint(figure: Figure, style: Style, table: Table) -> None:
    places, traces, methods = _distinct(table, 0), sorted(_distinct(table, 1)), sorted(_distinct(table, 2))
    axes = figure.subplots(len(places), len(traces), squeeze=False, sharey=True, sharex=True)
    for line, place in enumerate(places):
        for panel, trace in zip(axes[line], traces):
            panel.set_title(f"{labelled(place, 44)}\n{labelled(trace, 40)}")
            for height, method in enumerate(methods):
                values = [row[3] for row in table.rows if row[:3] == (place, trace, method)]
                _line(panel, style, height, [value for value in values if isinstance(value, Estimate)])
            panel.grid(axis="y", visible=False)
    axes[0][0].set_yticks(range(len(methods)), [labelled(method, longest(methods, _NAME)) for method in methods])
    axes[0][0].set_ylim(len(methods) - 0.4, -0.6)
    axes[0][0].set_xlim(0, max(1.0, 1.12 * max(_end(row[3]) for row in table.rows)))
    for panel in axes[-1]:
        panel.set_xlabel("misses (%)")


def _line(panel: Axes, style: Style, height: int, values: Sequence[Estimate]) -> None:
    """One method's marks about its height, over a thin line from zero to the worst; a single one with its number."""
    if not values:
        return
    heights = [height + (number - (len(values) - 1) / 2) * _SPREAD for number in range(len(values))]
    panel.hlines(height, 0, max(value.value for value in values), color=style.grid, linewidth=4, zorder=1)
    for at, value in zip(heights, values):
        if value.low is not None and value.high is not None:
            panel.hlines(at, value.low, value.high, color=style.ink, linewidth=0.9, zorder=2)
    panel.plot([value.value for value in values], heights, linestyle="none", marker="o", markersize=3.6, zorder=3,
               color=style.series[0], markeredgecolor="white", markeredgewidth=0.3, clip_on=False)
    if len(values) == 1:
        panel.annotate(shown(values[0].value, 1), (_end(values[0]), height), (4, 0), textcoords="offset points",
                       va="center", fontsize=6, color=style.muted)


def _end(cell: Cell) -> float:
    """Right end of what is drawn for a cell."""
    if not isinstance(cell, Estimate):
        return 0.0
    return cell.value if cell.high is None else cell.high
