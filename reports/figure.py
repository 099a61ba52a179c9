"""The one model of a figure: a title, the data behind it, and how to paint it; and its bytes as PNG, SVG and PDF.

reports/figures/ makes Drawings, build.py and the page render them. Same drawing, same bytes: matplotlib's own defaults
and its own DejaVu Sans whatever the user's matplotlibrc says, fixed hash salt, no dates, no versions. No pyplot, so
no global state and no display. Names never reach mathtext.
"""
import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reports.table import Table
from reports.table_files import clean


@dataclass(frozen=True)
class Style:
    """Colours of one background. `series` are Okabe and Ito's, told apart by the colour-blind; markers differ too."""

    paper: str
    ink: str
    muted: str
    grid: str
    alarm: str
    hatch: str
    series: tuple[str, ...]


LIGHT = Style("#ffffff", "#1b1f24", "#656d76", "#dde1e6", "#c2310f", "#ffffff99",
              ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#7A6A00", "#6A3D9A"))
DARK = Style("none", "#e6e8eb", "#9aa4ae", "#343b43", "#ff7a59", "#14171a88",
             ("#58B1EA", "#F2B84B", "#2FC79B", "#EBA0CC", "#FF8A50", "#A5DBFA", "#D6C64A", "#B79AE8"))
BULKY = 400_000                                 # bytes of SVG above which a page is better served by a PNG
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Drawing:
    """`data` holds every value that is painted; `paint` draws on an empty figure of `size_in` inches in a style."""

    title: str
    caption: str
    data: Table
    paint: Callable[[Figure, Style], None]
    size_in: tuple[float, float]


def render(drawing: Drawing, formats: Iterable[str] = ("png", "svg", "pdf"), style: Style = LIGHT,
           heading: bool = True) -> dict[str, bytes]:
    """The drawing's bytes by format. `heading`: with its title and what its numbers are worth, to stand by itself."""
    with _painted(drawing, style, heading) as figure:
        return {format: _printed(figure, format) for format in formats}


def picture(drawing: Drawing, style: Style) -> tuple[str, bytes]:
    """For a page that has a heading of its own: "svg", or "png" where thousands of points would make it heavy."""
    with _painted(drawing, style, heading=False) as figure:
        svg = _printed(figure, "svg")
        return ("svg", svg) if len(svg) <= BULKY else ("png", _printed(figure, "png"))


@contextlib.contextmanager
def _painted(drawing: Drawing, style: Style, heading: bool) -> Iterator[Figure]:
    """The figure, laid out once and then the same for every format."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_pinned(style))     # type: ignore[arg-type]  # the stub wants literal keys
        figure = Figure(figsize=drawing.size_in, layout="constrained", facecolor=style.paper)
        FigureCanvasAgg(figure)
        drawing.paint(figure, style)
        if heading:
            title, _, worth = drawing.title.partition(", processor ")
            figure.suptitle(clean(title), x=0.01, ha="left", fontsize=11, fontweight="bold")
            figure.supxlabel(clean(f"processor {worth}" if worth else ""), x=0.01, ha="left", fontsize=7,
                             color=style.muted)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        yield figure


def _printed(figure: Figure, format: str) -> bytes:
    """By the canvas's own printer, as Figure.savefig would draw everything once more for each format."""
    canvas: Any
    buffer = io.BytesIO()
    if format == "png":
        figure.dpi = 200
        canvas = FigureCanvasAgg(figure)
        canvas.print_png(buffer, metadata={"Software": None})
    elif format == "svg":
        canvas = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    else:
        canvas = FigureCanvasPdf(figure)
        canvas.print_pdf(buffer, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


def series_of(names: Iterable[str], style: Style) -> dict[str, tuple[str, str]]:
    """(colour, marker) of each name; the same in every figure that is given the same names."""
    known = sorted(set(names))
    colours = len(style.series)
    return {name: (style.series[place % colours], MARKERS[(place + place // colours) % len(MARKERS)])
            for place, name in enumerate(known)}


def longest(names: Iterable[str], least: int, most: int = 40) -> int:
    """Characters that the longest name may take in a legend or on an axis."""
    return min(most, max([least, *map(len, names)]))


def labelled(name: str, most: int = 24) -> str:
    """A name for a title or legend: harmless, and cut in its middle where it is longer than `most` characters."""
    text = clean(name)
    return text if len(text) <= most else f"{text[:most - most // 3 - 1]}…{text[-(most // 3):]}"


def _pinned(style: Style) -> dict[str, Any]:
    return {
        "font.family": "DejaVu Sans", "font.size": 8, "text.parse_math": False, "text.usetex": False,
        "svg.hashsalt": "edgefleet", "svg.fonttype": "path", "pdf.fonttype": 42, "pdf.compression": 9,
        "figure.dpi": 100, "path.simplify": True, "axes.formatter.use_locale": False,
        "axes.facecolor": "none", "axes.edgecolor": style.muted, "axes.labelcolor": style.ink, "axes.linewidth": 0.7,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 8, "axes.titlecolor": style.ink,
        "axes.titlelocation": "left", "axes.grid": True, "axes.axisbelow": True, "grid.color": style.grid,
        "grid.linewidth": 0.6, "text.color": style.ink, "xtick.color": style.muted, "ytick.color": style.muted,
        "xtick.labelcolor": style.ink, "ytick.labelcolor": style.ink, "xtick.labelsize": 7, "ytick.labelsize": 7,
        "legend.frameon": False, "legend.fontsize": 7, "legend.labelcolor": style.ink, "lines.linewidth": 1.3,
        "lines.markersize": 5,
        "hatch.linewidth": 0.8, "figure.constrained_layout.h_pad": 0.06, "figure.constrained_layout.w_pad": 0.06,
    }
