"""How verbs speak: data (tables, JSON) to stdout, words to stderr, and the home that is in use.

Everything that came from a device or a file passes `clean`, so that no terminal escape gets through.
"""
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from harness.home import Home

FLEET_HELP = "Fleet file; default: the campaign's, ./fleet.toml, this machine."
JSON_HELP = "One JSON document on stdout."
PLUGINS_HELP = "Folder of your own plug-ins, as in a campaign."
WIDTH_OF_A_PIPE = 250                           # columns; nobody wants a table folded to 80 in a file
LEAST_WIDTH = 80                                # of a table; in a narrower terminal its lines run over


def clean(text: str) -> str:
    """`text` with every control character but the line feed and the tab replaced."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)


def words(text: str) -> None:
    """A line for people."""
    sys.stderr.write(clean(text) + "\n")


def plugin_dirs(folder: Path | None) -> tuple[str, ...]:
    """What --plugins names. Raises UserError for a folder that is not there."""
    from device_agents.seams import UserError

    if folder is not None and not folder.is_dir():
        raise UserError(f"--plugins {folder}: there is no such folder")
    return (str(folder),) if folder else ()


def data(value: Any) -> None:
    """A JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on stdout. A column whose name ends in '>' is set flush right; None is shown as '-'.

    The first column is what one copies into the next command, so it is never folded, and neither are numbers. Where a
    terminal is too narrow, columns that say the same in every row become a line of their own.
    """
    from rich.console import Console

    rows = [["-" if value is None else clean(str(value)) for value in row] for row in rows]
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE, highlight=False)
    console.width = max(console.width, LEAST_WIDTH)
    shown = _shown(columns, rows)
    if not sys.stdout.isatty():
        with console.capture() as text:
            console.print(shown)
        sys.stdout.write("\n".join(line.rstrip() for line in text.get().strip("\n").splitlines()) + "\n")
        return
    natural = console.measure(shown, options=console.options.update(width=WIDTH_OF_A_PIPE)).maximum
    if natural > console.width and len(rows) > 1:
        same = [index for index in range(1, len(columns)) if len({row[index] for row in rows}) == 1]
        if same:
            words_of = ", ".join(f"{columns[index].rstrip('>')} {rows[0][index]}" for index in same)
            console.print(f"\nin every row: {words_of}", markup=False)
        kept = [index for index in range(len(columns)) if index not in same]
        shown = _shown([columns[index] for index in kept], [[row[index] for index in kept] for row in rows])
    console.print(shown)


def _shown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        right = column.endswith(">")
        shown.add_column(column.rstrip(">"), justify="right" if right else "left", overflow="fold",
                         no_wrap=right or index == 0)
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def in_words(seconds: float) -> str:
    """'45 s', '3 min 20 s', '2 h 05 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def existing_home() -> "Home":
    """The home in use, told on stderr. Raises ConfigError when nothing was ever built or run."""
    from harness.errors import ConfigError
    from harness.home import FOLDER, VARIABLE

    home = home_if_any()
    if home is None or not home.path.is_dir():
        place = f"{FOLDER}/ in {Path.cwd()} or above it" if home is None else f"folder {home}, which {VARIABLE} names"
        raise ConfigError(f"there is no {place}, so nothing was run yet. "
                          "Try: edgefleet run workloads/campaigns/quickstart.toml")
    return home


def home_if_any() -> "Home | None":
    """The home in use, told on stderr; None when there is none."""
    from harness.home import Home, find_home

    path = find_home(Path.cwd())
    if path is not None:
        words(f"home: {path}")
    return Home(path) if path is not None else None


def new_home() -> "Home":
    """The home in use, created where it is not there, and told on stderr."""
    from harness.home import Home, make_home

    path = make_home(Path.cwd())
    words(f"home: {path}")
    return Home(path)
