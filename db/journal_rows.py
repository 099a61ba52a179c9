"""Journal line -> rows of the raw tables: which field goes where, with which unit, source and provenance.

Called by db.ingest with lines whose seq, t_ns, kind and phase have been checked. Everything else in a line is the
device's word: wrong types raise Refused, texts are cleaned, numbers that cannot be stored become null. docs/schema.md
explains the choice of provenance.
"""
import functools
from collections.abc import Iterator
from typing import Any

from db.journal_file import Line, cleaned
from device_agents.wire import PROVENANCES, unit_of

Row = dict[str, Any]

_MOST_METRICS = 500                             # in one sample; the agent has some thirty


class Refused(Exception):
    """The line cannot be taken over; says why."""


class Context:
    """What a journal's first line says about the others. `provenance` is of everything that the device times."""

    def __init__(self, trial: str, attempt: int, provenance: str) -> None:
        self.trial, self.attempt, self.provenance = trial, attempt, provenance
        self._sensors: dict[str, str] = {}
        self._energy: dict[str, str] = {}       # source -> provenance that it claims

    def begin(self, start: Line) -> None:
        """`start`: the cleaned first line."""
        sensors, energy = start.get("sensors"), start.get("energy")
        if isinstance(sensors, dict):
            self._sensors = {metric: source for metric, source in sensors.items() if isinstance(source, str)}
        if isinstance(energy, dict):
            self._energy = {name: value["provenance"] for name, value in energy.items()
                            if isinstance(value, dict) and value.get("provenance") in PROVENANCES}

    def origin(self, name: str) -> tuple[str, str, str]:
        """(metric, source, provenance) of a sampled value, e.g. "rapl.energy_j" or "co_cpu_pct"."""
        source, dot, metric = name.rpartition(".")
        if not dot:
            return name, self._sensors.get(name, ""), self.sensed()
        return metric, source, self.sensed(self._energy.get(source, "measured"))

    def sensed(self, claimed: str = "measured") -> str:
        """Of a sensor's reading: a slowed device still reads real sensors, a simulated one has none."""
        if self.provenance in ("simulated", "synthetic"):
            return self.provenance
        return claimed


def sample_rows(line: Line, context: Context) -> Iterator[Row]:
    """One row a sampled value, and one for what the tick cost."""
    values, scripted = line.get("values"), line.get("emulated", [])
    if not isinstance(values, dict) or len(values) > _MOST_METRICS or not isinstance(scripted, list):
        raise Refused("a sample without values")
    for name, value in cleaned(values).items():
        metric, source, provenance = context.origin(name)
        if name in scripted:
            source, provenance = "trace", _scripted(context)
        yield _measurement(line, context, metric, value, source, provenance)
    yield _measurement(line, context, "sampler_cost_us", cleaned(line.get("cost_us")), "sampler", context.sensed())


def loadgen_rows(line: Line, context: Context) -> Iterator[Row]:
    """Asked and achieved load since the last such line."""
    for metric in ("asked_cpu_pct", "achieved_cpu_pct", "asked_mem_mb", "achieved_mem_mb", "span_s"):
        if metric in line:
            yield _measurement(line, context, metric, cleaned(line[metric]), "loadgen", _scripted(context))


def decision_row(line: Line, context: Context) -> Row:
    line = cleaned(line)
    if line.get("index").__class__ is not int or not isinstance(line.get("branch"), str):
        raise Refused("a decision without index or branch")
    return {"trial": context.trial, "seq": line["seq"], "number": line["index"], "t_ns": line["t_ns"],
            "phase": line["phase"], "branch": line["branch"], "knobs": line.get("knobs") or {},
            "reason": str(line.get("reason") or ""), "candidates": line.get("candidates") or [],
            "context": line.get("context") or {}, "decide_us": _number(line.get("decide_us")),
            "provenance": context.provenance}


def event_row(line: Line, context: Context) -> Row:
    """Any other line, whole: the fields that are no columns are the body."""
    line = cleaned(line)
    if not 0 < len(line["kind"]) <= 40:
        raise Refused("a kind that is no name")
    body = {key: value for key, value in line.items() if key not in ("seq", "kind", "t_ns", "phase")}
    return {"trial": context.trial, "attempt": context.attempt, "seq": line["seq"], "kind": line["kind"],
            "t_ns": line["t_ns"], "phase": line["phase"], "body": body, "provenance": context.provenance}


def _scripted(context: Context) -> str:
    """Of what a trace dictates: real work or a stated value on this device, but not how the world was."""
    return "emulated" if context.provenance in ("measured", "emulated", "modelled") else context.provenance


def _measurement(line: Line, context: Context, metric: str, value: Any, source: str, provenance: str) -> Row:
    return {"trial": context.trial, "seq": line["seq"], "metric": metric, "t_ns": line["t_ns"], "phase": line["phase"],
            "value": _number(value), "unit": _unit(metric), "source": source, "provenance": provenance}


_unit = functools.lru_cache(maxsize=1000)(unit_of)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
