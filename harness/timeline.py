"""One trial's rows -> a readable timeline. Pure; called by show.

Every decision that changes something, every load, note and error is a line of its own; the inferences between two
lines are counted, not listed. Time is seconds into the measured window; what lies before it is negative.
"""
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]

#: Measurements that become lines: the load that was asked, whenever it changes.
LOAD_METRICS = ("asked_cpu_pct", "asked_mem_mb", "asked_traffic_mbps")

_START = ("attempt", "token", "runtime", "provenance", "boot_id")


class Line(NamedTuple):
    """`t_s` None: the controller's own, or before the device's clock was known."""

    t_s: float | None
    phase: str
    text: str


def timeline(events: Iterable[Row], decisions: Iterable[Row], inferences: Iterable[Row],
             loads: Iterable[Row] = ()) -> list[Line]:
    """Rows of one trial, as lines in order of time. `loads`: those of measurement whose metric is in LOAD_METRICS."""
    inferences = sorted(inferences, key=lambda row: row["number"])
    origin_ns = _window_start_ns(inferences)
    told = [(row["t_ns"], row["phase"], _event(row)) for row in events]
    told += [(row["t_ns"], row["phase"], _decision(row)) for row in decisions]
    told += _load_changes(loads)
    lines = [Line(None, phase or "", text) for t_ns, phase, text in told if t_ns is None]
    marks = sorted(((t_ns, phase, text) for t_ns, phase, text in told if t_ns is not None), key=lambda one: one[0])
    waiting = [row for row in inferences if _when_ns(row) is not None]
    for t_ns, phase, text in marks:
        before = [row for row in waiting if _when_ns(row) < t_ns]
        waiting = waiting[len(before):]
        lines += _counted(before, origin_ns)
        lines.append(Line(_s(t_ns, origin_ns), phase or "", text))
    return lines + _counted(waiting, origin_ns)


def _load_changes(loads: Iterable[Row]) -> list[tuple[int, str, str]]:
    lines: list[tuple[int, str, str]] = []
    now: dict[str, float] = dict.fromkeys(LOAD_METRICS, 0.0)
    for row in sorted(loads, key=lambda row: row["seq"]):
        if row["value"] is not None and row["value"] != now[row["metric"]]:
            now[row["metric"]] = row["value"]
            lines.append((row["t_ns"], row["phase"], f"load: {row['metric']} {_number(row['value'])}"))
    return lines


def _window_start_ns(inferences: Sequence[Row]) -> int | None:
    times = [_when_ns(row) for row in inferences if row["phase"] == "window"]
    return min((one for one in times if one is not None), default=None)


def _when_ns(row: Row) -> Any:
    return row["t_ns"] if row["t_ns"] is not None else row["due_ns"]


def _s(t_ns: int, origin_ns: int | None) -> float | None:
    return None if origin_ns is None else (t_ns - origin_ns) / 1e9


def _counted(rows: Sequence[Row], origin_ns: int | None) -> list[Line]:
    """One line for the inferences of each phase between two marks."""
    lines = []
    for phase in dict.fromkeys(row["phase"] for row in rows):
        part = [row for row in rows if row["phase"] == phase]
        lines.append(Line(_s(_when_ns(part[0]), origin_ns), phase, _inferences(part)))
    return lines


def _inferences(rows: Sequence[Row]) -> str:
    served = [row for row in rows if row["status"] == "ok"]
    words = [f"{len(served)} inference" + ("" if len(served) == 1 else "s")]
    took_ms = [row["latency_ms"] for row in served if row["latency_ms"] is not None]
    if took_ms:
        words.append(f"median {statistics.median(took_ms):.2f} ms")
    counts = {"late": sum(row["met"] == 0 for row in served)}
    counts.update((status, sum(row["status"] == status for row in rows)) for status in ("expired", "unserved"))
    return ", ".join(words + [f"{number} {what}" for what, number in counts.items() if number])


def _decision(row: Row) -> str:
    knobs = " ".join(f"{name}={value}" for name, value in sorted(row["knobs"].items()))
    return f"use {row['branch']}" + (f" ({knobs})" if knobs else "") + (f": {row['reason']}" if row["reason"] else "")


def _event(row: Row) -> str:
    body = row["body"]
    kind = row["kind"]
    if kind in ("load", "unload"):
        took = f" in {body['load_ms']:.1f} ms" if body.get("load_ms") is not None else ""
        return f"{kind} {body.get('branch')}{took}"
    if kind == "note":
        return f"note: {body.get('text')}"
    if kind == "start":
        return "start: " + ", ".join(f"{name} {body[name]}" for name in _START if body.get(name) is not None)
    if kind == "failed":
        return f"failed ({body.get('error')}): {body.get('message')}"
    return f"{kind}: " + ", ".join(f"{name} {_number(value)}" for name, value in body.items()
                                   if value is not None and not isinstance(value, dict | list))


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
