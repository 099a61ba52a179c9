"""Evolutions: what it took, within the measured windows, to derive a branch's weights on the device and use it.

An evolution is a load whose engine tells its parts. Its time = the decision that asked for it + derivation + session +
the first inference. Cold is the first of a branch in its process. Empty where no engine derives weights, and where
every branch was loaded before the window (`residency = "all"`).
"""
from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from reports.provenance import ordered, titled
from reports.query import Query, Row
from reports.table import Cell, Column, Table, names

PLACE = 27
FOLDED = True

_PARTS = (Column("decide_ms", "decision", "ms"), Column("derive_ms", "derivation", "ms"),
          Column("session_ms", "session", "ms"), Column("first_ms", "first inference", "ms"),
          Column("evolution_ms", "evolution", "ms", about="the median of the sums, not the sum of the medians"))


class Evolution(NamedTuple):
    """One branch derived and used, in ms."""

    cold: bool
    decide_ms: float
    derive_ms: float
    session_ms: float
    first_ms: float


def make(query: Query) -> Table:
    rows: list[tuple[Cell, ...]] = []
    variants = query.variants()
    for trials in query.cells:
        found = [one for trial in trials if trial.state == "done" for one in evolutions(query, trial)]
        for state in (True, False):
            chosen = [one for one in found if one.cold == state]
            if chosen:
                rows.append((*(getattr(trials[0], key) for key in query.row_keys), trials[0].label,
                             variants[trials[0].id], "cold" if state else "warm", len(chosen), *_medians(chosen)))
    notes = ("Medians over the evolutions of all runs of a cell. Evolution: decision, derivation, session and first "
             "inference. Cold: the first of its branch in the process.",)
    if not rows:
        notes = ("No branch's weights were derived on a device within a measured window.",)
    shown = ordered({str(row[2]) for row in rows})
    columns = (*names((*query.row_keys, "method", "variant", "state")), Column("evolutions", "evolutions", "", 0),
               *_PARTS)
    table = Table(titled("Evolutions on the device", shown, {trial.processor for trial in query.trials}), columns,
                  tuple(rows), notes, shown, query.row_keys)
    return table if any(variants.values()) else table.without("variant")


def evolutions(query: Query, trial: Row) -> list[Evolution]:
    """In order. One whose branch was not used before the window closed is left out, as is a load without all parts."""
    loads = [load for load in query.window_loads(trial) if load.t_ns is not None and _is_whole(load.body.get("parts"))]
    if not loads:
        return []
    lines = iter([line for line in query.inferences(trial, ("number", "t_ns", "branch", "decide_us", "latency_ms"))
                  if None not in (line.t_ns, line.decide_us, line.latency_ms)])
    found = []
    for load in loads:
        line, parts = next((one for one in lines if one.t_ns >= load.t_ns), None), load.body["parts"]
        if line is not None and line.branch == load.body.get("branch"):
            found.append(Evolution(parts["cold"], line.decide_us / 1e3, parts["derive_ms"], parts["session_ms"],
                                   line.latency_ms))
    return found


def _is_whole(parts: object) -> bool:
    """An engine of a user's may tell other parts, or none."""
    return isinstance(parts, dict) and isinstance(parts.get("cold"), bool) and all(
        isinstance(parts.get(key), float | int) for key in ("derive_ms", "session_ms"))


def _medians(chosen: Iterable[Evolution]) -> list[float]:
    parts = [one[1:] for one in chosen]
    return [*(median(column) for column in zip(*parts)), median(sum(one) for one in parts)]
