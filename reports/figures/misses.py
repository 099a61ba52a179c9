"""Misses: the share of arrivals that each method answered late or not at all, a panel a device, a group a trace."""
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from reports import cells
from reports.figure import Drawing, Style, labelled, series_of
from reports.provenance import ordered, titled
from reports.query import Query
from reports.stats import Estimate
from reports.table import Cell, Column, Missing, Table, shown

PLACE = 20

_COLUMNS = (
    Column("device", "device", numeric=False), Column("provenance", "provenance", numeric=False),
    Column("trace", "trace", numeric=False), Column("method", "method", numeric=False), cells.MISSES.column,
)
_ACROSS = 3                                     # panels side by side
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++", "oooo")


def draw(query: Query) -> Drawing | Missing:
    rows: list[tuple[Cell, ...]] = []
    for trials in query.cells:
        value = cells.cell(query, trials, cells.MISSES)
        if isinstance(value, Estimate):
            rows.append((trials[0].device, trials[0].provenance, trials[0].trace, trials[0].label, value))
    if not rows:
        return Missing("no finished trial has a deadline")
    found = ordered(str(row[1]) for row in rows)
    title = titled("Deadline misses", found, {trial.processor for trial in query.trials})
    table = Table(title, _COLUMNS, tuple(rows), (), found)
    devices = list(dict.fromkeys((str(row[0]), str(row[1])) for row in rows))
    bars = len({row[2] for row in rows}) * (len({row[3] for row in rows}) + 1)
    across = min(_ACROSS, len(devices))
    size_in = (across * min(5.0, max(2.6, 0.6 + 0.24 * bars)) + 0.4, 1.0 + 2.0 * -(-len(devices) // across))
    caption = ("Share of arrivals that missed their deadline: answered late, dropped late, or not served. Median over "
               "runs; whiskers: 95 % intervals over runs, where three or more are done.")

    def paint(figure: Figure, style: Style) -> None:
        _paint(figure, style, table, devices, series_of((trial.label for trial in query.trials), style))

    return Drawing(title, caption, table, paint, size_in)


def _paint(figure: Figure, style: Style, table: Table, devices: Sequence[tuple[str, str]],
           series: Mapping[str, tuple[str, str]]) -> None:
    traces = sorted({str(row[2]) for row in table.rows})
    methods = sorted({str(row[3]) for row in table.rows})
    width = 0.82 / len(methods)
    across = min(_ACROSS, len(devices))
    axes = figure.subplots(-(-len(devices) // across), across, squeeze=False, sharey=True).ravel()
    handles = {}
    for unused in axes[len(devices):]:
        unused.set_visible(False)
    for panel, (device, provenance) in zip(axes, devices):
        panel.set_title(f"{labelled(device)} · {provenance}")
        for row in table.rows:
            value = row[4]
            if row[0] == device and isinstance(value, Estimate):
                place = traces.index(str(row[2])) + (methods.index(str(row[3])) - (len(methods) - 1) / 2) * width
                colour, hatch = series[str(row[3])][0], _HATCHES[list(series).index(str(row[3])) % len(_HATCHES)]
                handles[str(row[3])] = panel.bar(place, value.value, width * 0.88, color=colour, hatch=hatch,
                                                 edgecolor=style.hatch, linewidth=0)
                top = value.value if value.high is None else value.high
                panel.annotate(shown(value.value, 1), (place, top), (0, 2), textcoords="offset points", ha="center",
                               fontsize=6, color=style.muted)
                if value.low is not None and value.high is not None:
                    panel.vlines(place, value.low, value.high, color=style.ink, linewidth=0.9, zorder=5)
        panel.set_xticks(range(len(traces)), [labelled(trace, 14) for trace in traces])
        panel.set_xlim(-0.5, len(traces) - 0.5)
        panel.grid(axis="x", visible=False)
    axes[0].set_ylim(0, max(1.0, 1.15 * max(_top(row[4]) for row in table.rows)))
    for panel in axes[::across]:
        panel.set_ylabel("misses (%)")
    figure.legend([handles[name] for name in methods], [labelled(name) for name in methods], loc="outside upper right",
                  ncols=min(4, len(methods)))


def _top(cell: Cell) -> float:
    """Upper end of what is drawn for a cell."""
    if not isinstance(cell, Estimate):
        return 0.0
    return cell.value if cell.high is None else cell.high
