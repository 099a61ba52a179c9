"""Journal line -> rows of the raw tables: which field goes where, with which unit, source and provenance.

Called by db.ingest with lines whose seq, t_ns, kind and phase have been checked. Everything else in a line is the
device's word: wrong types raise Refused, texts are cleaned, numbers that cannot be stored become null. docs/schema.md
explains the choice of provenance.
"""
import math
from typing import Any, NamedTuple

from db.journal_file import Line, clean, cleaned
from device_agents.wire import PROVENANCES, unit_of

Row = dict[str, Any]
Values = tuple[Any, ...]                        # of all columns, in the table's order

_MOST_METRICS = 500                             # in one sample; the agent has some thirty
_LOAD = ("asked_cpu_pct", "achieved_cpu_pct", "asked_mem_mb", "achieved_mem_mb", "asked_traffic_mbps",
         "achieved_traffic_mbps", "span_s")


class Refused(Exception):
    """The line cannot be taken over; says why."""


class Origin(NamedTuple):
    """Where a reading comes from."""

    metric: str
    source: str
    unit: str
    provenance: str


class Context:
    """What a journal's first line says about the others. `provenance` is of everything that the device times."""

    def __init__(self, trial: str, attempt: int, provenance: str) -> None:
        self.trial, self.attempt, self.provenance = trial, attempt, provenance
        self._sensors: dict[str, str] = {}
        self._energy: dict[str, str] = {}       # source -> provenance that it claims
        self._origins: dict[str, Origin] = {}   # by name in a sample

    def begin(self, start: Line) -> None:
        """`start`: the cleaned first line."""
        self._origins.clear()
        sensors, energy = start.get("sensors"), start.get("energy")
        if isinstance(sensors, dict):
            self._sensors = {metric: source for metric, source in sensors.items() if isinstance(source, str)}
        if isinstance(energy, dict):
            self._energy = {name: value["provenance"] for name, value in energy.items()
                            if isinstance(value, dict) and value.get("provenance") in PROVENANCES}

    def origin(self, name: str) -> Origin:
        """Of a sampled value, e.g. "rapl.energy_j" or "co_cpu_pct"."""
        if name not in self._origins:
            source, dot, metric = clean(name).rpartition(".")
            if not dot:
                source = self._sensors.get(metric, "")
            # "synthetic: ", a lab's fixture, see device_agents/sysfs.py; "emulated: ", a shaped link
            made_up = next((word for word in ("synthetic", "emulated") if source.startswith(word + ": ")), "measured")
            claimed = self._energy.get(source, "measured") if dot else made_up
            self._origins[name] = Origin(metric, source, unit_of(metric), self.sensed(claimed))
        return self._origins[name]

    def sensed(self, claimed: str = "measured") -> str:
        """Of a sensor's reading: a slowed device still reads real sensors, a simulated one has none."""
        if self.provenance in ("simulated", "synthetic"):
            return self.provenance
        return claimed


def sample_rows(line: Line, context: Context) -> list[Values]:
    """Rows of table measurement: one a sampled value, and one for what the tick cost."""
    values, marked = line.get("values"), [(word, line[word]) for word in PROVENANCES if word in line]
    if not isinstance(values, dict) or len(values) > _MOST_METRICS or not all(
            isinstance(names, list | tuple) for _, names in marked):
        raise Refused("a sample without values")
    origins = {name: context.origin(name) for name in values}
    for word, names in marked:
        for name in values.keys() & {name for name in names if isinstance(name, str)}:
            origins[name] = _marked(origins[name], word, "." not in name, context)
    cost = Origin("sampler_cost_us", "sampler", "us", context.sensed())
    return _measurements(line, context, [*origins.values(), cost], [*values.values(), line.get("cost_us")])


def _marked(origin: Origin, word: str, sensed: bool, context: Context) -> Origin:
    """Of a value whose provenance is not its source's own: what the trace scripts, or a part that is computed."""
    if sensed and word == "emulated":
        return origin._replace(source="trace", provenance=_scripted(context))
    return origin._replace(provenance=context.sensed(word))


def loadgen_rows(line: Line, context: Context) -> list[Values]:
    """Rows of table measurement: asked and achieved load since the last such line."""
    metrics = [metric for metric in _LOAD if metric in line]
    origins = [Origin(metric, "loadgen", unit_of(metric), _scripted(context)) for metric in metrics]
    return _measurements(line, context, origins, [line[metric] for metric in metrics])


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


def _measurements(line: Line, context: Context, origins: list[Origin], values: list[Any]) -> list[Values]:
    trial, seq, t_ns, phase = context.trial, line["seq"], line["t_ns"], clean(line["phase"])
    return [(trial, seq, metric, t_ns, phase, _number(value), unit, source, provenance)
            for (metric, source, unit, provenance), value in zip(origins, values)]


def _number(value: Any) -> float | None:
    if type(value) is not float:
        if type(value) not in (int, bool):
            return None
        value = float(value) if abs(value) < 2**63 else math.inf
    return value if math.isfinite(value) else None
