"""Load traces by name: tables (NAME.csv) and seeded generators (NAME.py), checked. No torch.

Called by campaign expansion, so it is pure: the same (name, duration, seed) gives the same trace. A table's first
column is `t_s` (played as written) or `t_x` (share of the window, 0..1, stretched to its length). Refuses unknown
columns, times that do not ascend, shares beyond the window, and loads that cannot be.
"""
import csv
import difflib
import importlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from device_agents import registry
from device_agents.seams import UserError
from device_agents.wire import LoadTrace

#: column -> (least, most)
COLUMNS = {
    "t_s": (0.0, math.inf), "cpu_pct": (0.0, 100.0), "mem_mb": (0.0, math.inf), "traffic_mbps": (0.0, 1e5),
    "rate_x": (0.0, 1000.0),
    "battery_pct": (0.0, 100.0), "deadline_x": (1e-6, 1e6), "deadline_ms": (1e-6, math.inf),
    "accuracy_floor": (0.0, 1.0), "net_mbps": (1e-3, 1e6), "net_rtt_ms": (0.0, 1e5), "net_loss_pct": (0.0, 100.0),
}
SHARE = "t_x"


def load_trace(name: str, duration_s: float, seed: int, plugin_dirs: Sequence[str] = ()) -> LoadTrace:
    """The trace for a window of `duration_s` seconds. Raises UserError, naming file, line and column."""
    table = _table(name, plugin_dirs)
    if table is not None:
        trace = read_table(table, duration_s)
    else:
        try:
            module = registry.load_module("workloads.traces", name, plugin_dirs)
        except registry.UnknownPlugin as error:
            raise UserError(str(error)) from None
        generate: Callable[[float, int], Any] | None = getattr(module, "generate", None)
        if generate is None:
            raise UserError(f"trace {name!r} ({module.__file__}) has no function generate(duration_s, seed)")
        trace = generate(duration_s, seed)
        if not isinstance(trace, LoadTrace):
            raise UserError(f"trace {name!r} ({module.__file__}): generate() returned {type(trace).__name__}, not a "
                            "LoadTrace of device_agents.wire")
    return checked(trace._replace(name=name), str(table or name))


def read_table(path: Path, duration_s: float) -> LoadTrace:
    """A CSV file with a header. An empty cell keeps nothing: the column is undefined there."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line and not line[0].startswith("#")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if len(lines) < 2:
        raise UserError(f"{path}: a trace needs a header and at least one row")
    header = [name.strip() for name in lines[0]]
    rows = []
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(header):
            raise UserError(f"{path}: row {number} has {len(line)} cells, the header {len(header)}")
        rows.append([_number(cell, f"{path}: row {number}, {name}") for name, cell in zip(header, line, strict=True)])
    if header[0] == SHARE:
        for number, row in enumerate(rows, 1):
            if row[0] is not None and not 0.0 <= row[0] <= 1.0:
                raise UserError(f"{path}: row {number}: {SHARE} = {row[0]:g} is not within 0 to 1 (a share of the "
                                "window); for seconds, call the column t_s")
        header[0] = "t_s"
        rows = [[None if row[0] is None else row[0] * duration_s, *row[1:]] for row in rows]
    return LoadTrace(path.stem, tuple(header), tuple(tuple(row) for row in rows))


def checked(trace: LoadTrace, where: str) -> LoadTrace:
    """The trace, when it can be played. Raises UserError."""
    if not trace.columns or trace.columns[0] != "t_s":
        raise UserError(f"{where}: the first column must be t_s (seconds) or {SHARE} (share of the window)")
    for column in trace.columns:
        if column not in COLUMNS:
            near = difflib.get_close_matches(column, COLUMNS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{where}: unknown column {column!r}.{hint} There is: {', '.join(COLUMNS)}")
    if len(set(trace.columns)) != len(trace.columns):
        raise UserError(f"{where}: a column occurs twice")
    before = -math.inf
    for number, row in enumerate(trace.rows, 1):
        if row[0] is None or row[0] <= before:
            raise UserError(f"{where}: row {number}: t_s must be there and ascend, is {row[0]}")
        before = row[0]
        for column, value in zip(trace.columns, row, strict=True):
            low, high = COLUMNS[column]
            if value is not None and not low <= value <= high:
                raise UserError(f"{where}: row {number}: {column} = {value} is not within {low:g} to {high:g}")
    return trace


def _table(name: str, plugin_dirs: Sequence[str]) -> Path | None:
    folders = [*importlib.import_module("workloads.traces").__path__, *(f"{one}/traces" for one in plugin_dirs)]
    paths = [Path(folder) / f"{name}.csv" for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def _number(cell: str, where: str) -> float | None:
    cell = cell.strip()
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        raise UserError(f"{where}: {cell!r} is no number") from None
    if not math.isfinite(value):
        raise UserError(f"{where}: {cell!r} is not finite")
    return value
