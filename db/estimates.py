"""Raw rows of one trial's window -> its metrics, each with unit, number of samples, source and reason. Pure functions.

Called by db.derive with rows of tables inference and measurement. A metric that cannot be had is a Value without value
and with the reason; nothing here drops a suspicious number. What each metric means is in docs/schema.md.
"""
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from device_agents.wire import unit_of

#: Fewest samples that carry a 95 % distribution-free interval for the quantile (n with 1 - q^n >= 0.95).
SMALLEST = {0.95: 59, 0.99: 299}
#: Most mean deviation of the achieved load from the asked: in its unit, and besides as a share of what was asked.
LOAD_TOLERANCES = {"cpu_pct": (5.0, 0.0), "mem_mb": (8.0, 0.0), "traffic_mbps": (0.0, 0.1)}

class Inference(NamedTuple):
    """The columns of table inference that metrics are made of."""

    status: str
    due_ns: int | None
    t_ns: int | None
    branch: str | None
    correct: int | None
    decide_us: float | None
    switch_ms: float | None
    latency_ms: float | None
    response_ms: float | None
    met: int | None
    deadline_ms: float | None
    feasible: int | None


class Reading(NamedTuple):
    """The columns of table measurement that metrics are made of."""

    seq: int
    metric: str
    t_ns: int
    value: float | None
    source: str
    provenance: str


class Value(NamedTuple):
    """One row of table summary, without the trial."""

    metric: str
    value: float | None
    unit: str
    n: int
    source: str
    reason: str | None
    provenance: str


class Window(NamedTuple):
    """All that the metrics of one trial are computed from."""

    inferences: Sequence[Inference]                 # of phase "window", in order
    measurements: dict[str, list[Reading]]        # of phase "window", by metric, in order of time
    loads: Sequence[float | None]               # load_ms of branches that were loaded within the window
    last: dict[str, Any]                        # body of the journal's done or failed line; {} when it crashed
    preflight: str                              # yes | no | unknown, anything else: not journalled
    provenance: str                             # the trial's


def values(window: Window) -> list[Value]:
    """Every metric but energy, always all of them, in a fixed order."""
    return [*_answers(window), *_times(window), *_switching(window), *_feasibility(window), *_load(window),
            *_condition(window)]


def quantile(numbers: Sequence[float], q: float) -> float:
    """Linear between neighbours, as numpy's default; `numbers` need not be sorted."""
    ordered = sorted(numbers)
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def number(said: Any) -> float | None:
    """A field of a journal line as a number; None when it is none."""
    return float(said) if isinstance(said, int | float) else None


def _value(window: Window, metric: str, value: float | None, n: int, reason: str | None = None,
           source: str = "inference", unit: str | None = None, provenance: str | None = None) -> Value:
    return Value(metric, None if value is None else float(value), unit_of(metric) if unit is None else unit, n, source,
                 reason if value is None else None, provenance or window.provenance)


def _answers(window: Window) -> list[Value]:
    """Counts, accuracy, misses."""
    rows = window.inferences
    served = [row for row in rows if row.status == "ok"]
    judged = [row.correct for row in served if row.correct is not None]
    on_time = sum(bool(row.correct) and row.met in (1, None) for row in served)
    decided = [row.status == "ok" and row.met == 1 for row in rows if row.met is not None]
    none, unjudged = "no arrival in the window", "nothing was served" if not served else "the task has no labels"
    counts = [_value(window, name, sum(row.status == status for row in rows), len(rows), unit="count")
              for name, status in (("served", "ok"), ("expired", "expired"), ("unserved", "unserved"))]
    return [
        _value(window, "arrivals", len(rows), len(rows), unit="count"), *counts,
        _value(window, "accuracy", _share(sum(judged), len(judged)), len(judged), unjudged,
               unit="fraction"),
        _value(window, "on_time_accuracy", _share(on_time, len(rows)) if judged or not served else None, len(rows),
               none if not rows else unjudged, unit="fraction"),
        _value(window, "miss_pct", 100.0 * decided.count(False) / len(decided) if decided else None, len(decided),
               "the trial has no deadline" if rows else none),
    ]


def _times(window: Window) -> list[Value]:
    """Quantiles of latency, response and decision time; throughput."""
    served = [row for row in window.inferences if row.status == "ok"]
    found = []
    for name, field, unit in (("latency", "latency_ms", "ms"), ("response", "response_ms", "ms"),
                              ("decide", "decide_us", "us")):
        numbers = [getattr(row, field) for row in served if getattr(row, field) is not None]
        for label, q in (("median", 0.5), ("p95", 0.95), ("p99", 0.99)):
            if (name, label) != ("decide", "p95"):
                found.append(_quantile(window, f"{name}_{label}_{unit}", numbers, q))
    ends = [row.t_ns + int(row.latency_ms * 1e6) for row in served
            if row.t_ns is not None and row.latency_ms is not None]
    starts = [row.due_ns for row in window.inferences if row.due_ns is not None]
    span_s = (max(ends) - min(starts)) / 1e9 if ends and starts else 0.0
    return [*found,
            _value(window, "window_s", span_s or None, len(window.inferences), "nothing was served"),
            _value(window, "throughput_hz", len(served) / span_s if span_s > 0 else None, len(served),
                   "nothing was served")]


def _quantile(window: Window, metric: str, numbers: Sequence[float], q: float) -> Value:
    needed = SMALLEST.get(q, 1)
    if len(numbers) >= needed:
        return _value(window, metric, quantile(numbers, q), len(numbers))
    reason = f"n too small: {len(numbers)} of {needed}" if numbers else "nothing was served"
    return _value(window, metric, None, len(numbers), reason)


def _switching(window: Window) -> list[Value]:
    """A switch: a served inference on another branch than the one before it."""
    served = [row for row in window.inferences if row.status == "ok" and row.branch is not None]
    moved = [after for before, after in pairwise(served) if before.branch != after.branch]
    paid = [row.switch_ms for row in moved if row.switch_ms is not None]
    loads = [load_ms for load_ms in window.loads if load_ms is not None]
    return [
        _value(window, "switches", len(moved), len(served), unit="count"),
        _value(window, "switch_median_ms", quantile(paid, 0.5) if paid else None, len(paid), "no switch"),
        _value(window, "loads", len(window.loads), len(window.loads), unit="count", source="load events"),
        _value(window, "load_median_ms", quantile(loads, 0.5) if loads else None, len(loads),
               "no branch was loaded in the window", source="load events"),
    ]


def _feasibility(window: Window) -> list[Value]:
    """Share of windows of one second at each of whose arrivals two branches or more fitted the deadline."""
    choices = [(row.due_ns, row.feasible) for row in window.inferences
               if row.feasible is not None and row.due_ns is not None and row.deadline_ms is not None]
    if not choices:
        reason = "the trial has no deadline" if window.inferences else "no arrival in the window"
        return [_value(window, "feasible2_pct", None, 0, reason)]
    fewest: dict[int, int] = {}
    for due_ns, feasible in choices:
        second = (due_ns - choices[0][0]) // 1_000_000_000
        fewest[second] = min(feasible, fewest.get(second, feasible))
    share = sum(count >= 2 for count in fewest.values()) / len(fewest)
    return [_value(window, "feasible2_pct", 100.0 * share, len(fewest))]


def _load(window: Window) -> list[Value]:
    """Load asked and achieved, weighted by the time that each reading stands for, and whether they agree."""
    spans = _by_seq(window.measurements.get("span_s", ()))
    found, kept = [], []
    for kind, (most, share) in LOAD_TOLERANCES.items():
        asked, achieved = (_by_seq(window.measurements.get(f"{name}_{kind}", ())) for name in ("asked", "achieved"))
        found += [_loaded(window, f"load_asked_{kind}", _mean(asked, spans), len(asked)),
                  _loaded(window, f"load_achieved_{kind}", _mean(achieved, spans), len(achieved))]
        deviation = _mean({seq: abs(asked[seq] - achieved[seq]) for seq in asked if seq in achieved}, spans)
        if deviation is not None:
            kept.append(deviation <= most + share * (_mean(asked, spans) or 0.0))
    valid = float(all(kept)) if kept else None
    return [*found, _loaded(window, "load_valid", valid, len(spans), "flag"), _others(window, found)]


def _others(window: Window, load: Sequence[Value]) -> Value:
    """What neither the trial nor its load took of the cores: work that nobody asked for."""
    known = [row for row in window.measurements.get("co_cpu_pct", ()) if row.value is not None]
    played = next(one for one in load if one.metric == "load_achieved_cpu_pct")
    asked = window.measurements.get("asked_cpu_pct", ())
    if not known or (asked and played.value is None):
        reason = "no sensor" if not known else "what the load took is not known"
        return _value(window, "others_cpu_pct", None, len(known), reason, "sensor")
    taken = sum(row.value or 0.0 for row in known) / len(known) - (played.value or 0.0)
    return _value(window, "others_cpu_pct", max(0.0, taken), len(known), None, known[0].source,
                  provenance=known[0].provenance)


def _loaded(window: Window, metric: str, value: float | None, n: int, unit: str | None = None) -> Value:
    rows = window.measurements.get("span_s", ())
    return _value(window, metric, value, n, "no load was asked for", "loadgen", unit,
                  rows[0].provenance if rows else None)


def _condition(window: Window) -> list[Value]:
    """What the agent and the device were like."""
    ended = "the agent did not reach its end"
    found = [
        _value(window, metric, said, int(said is not None), "not measurable here" if window.last else ended, "done")
        for metric in ("peak_rss_mb", "sampler_cpu_pct") for said in [number(window.last.get(metric))]]
    for metric, sensed, unit in (("temp_max_c", "temp_c", None), ("throttled", "throttled", "flag")):
        known = [row for row in window.measurements.get(sensed, ()) if row.value is not None]
        most = max(known, key=lambda row: row.value or 0.0, default=None)       # of several provenances it has its own
        found.append(_value(window, metric, most.value if most else None, len(known), "no sensor",
                            most.source if most else "sensor", unit, most.provenance if most else None))
    ready = {"yes": 1.0, "no": 0.0}.get(window.preflight)
    found.append(_value(window, "preflight_valid", ready, int(ready is not None), "unknown: a sensor is missing" if
                        window.preflight == "unknown" else "no preflight was journalled", "preflight", "flag"))
    return found


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _by_seq(rows: Iterable[Reading]) -> dict[int, float]:
    return {row.seq: row.value for row in rows if row.value is not None}


def _mean(numbers: dict[int, float], spans: dict[int, float]) -> float | None:
    """Mean over lines of the journal, each weighted by the seconds that it stands for."""
    total = math.fsum(spans.get(seq, 0.0) for seq in numbers)
    return math.fsum(number * spans.get(seq, 0.0) for seq, number in numbers.items()) / total if total > 0 else None
