"""Budgets: what each method had spent before its first measured inference, so that no row is cheaper than it looks.

From table preparation, and for all rows the joint training of the network that they share. A dash is not zero: it was
not spent, or nobody recorded it, as the note says.
"""
from collections.abc import Iterable
from typing import Any

from device_agents.wire import canonical_json
from reports.query import Query, Row
from reports.table import Cell, Column, Missing, Table, names

PLACE = 17
FOLDED = False

_NAMES = ("task", "model", "training_seed", "device", "method")
_SPENT = (Column("passes", "own passes", "samples", 0,
                 about="samples through a network, beside the joint ones; whether backwards, too, the FLOPs say"),
          Column("flops", "own FLOPs", "G", 1, about="floating-point operations of these passes, in 10^9"),
          Column("finetune_epochs", "fine-tuned", "epochs", 0),
          Column("device_s", "device time", "s", 2, about="profiling (estimated from what it found), training trials"),
          Column("search_s", "search", "s", 2, about="tuning and offline search on the controller"))
_SCALE = {"flops": 1e9}
NOTHING = Missing("nothing of this kind was spent or recorded for the row")


def make(query: Query) -> Table:
    rows = []
    firsts = {(query.parent(trial), trial.label, trial.device): trial for trial in reversed(query.trials)}
    for (bundle, label, device), first in firsts.items():
        rows.append(_row(query, first, query.all_bundles[bundle], query.preparations.get((label, device, bundle))))
    columns = (*names(_NAMES),
               Column("joint_passes", "joint passes", "samples", 0, about="training that all rows of a network share"),
               Column("joint_flops", "joint FLOPs", "G", 0,
                      about="floating-point operations of that training, in 10^9: computed, not counted"),
               *_SPENT,
               Column("bytes", "pushed", "MB", 2,
                      about="branches of the bundle that its trials run, and weights that they are derived from"),
               Column("configurations", "tuned over", "", 0, about="configurations drawn; one score for all methods"),
               Column("chosen", "chosen by it", numeric=False, detail=1))
    return Table("What each method had spent before its trials", columns, tuple(sorted(rows, key=_order)),
                 ("All methods of a network share its joint training and its profile. Device time counts the profile "
                  "for the rows that were prepared; any other row had its measured costs from the same one. A dash: "
                  "nothing of this kind was spent or recorded.", *_alike(query, firsts.values())),
                 (), ("task", "model", "training_seed", "device"))


def _alike(query: Query, firsts: Iterable[Row]) -> list[str]:
    """Rows whose offline halves ended at one and the same network, which nothing else in the report would show."""
    labels: dict[tuple[str, str, str], set[str]] = {}
    for first in firsts:
        if query.parent(first) != first.bundle:
            labels.setdefault((query.parent(first), first.device, first.bundle), set()).add(first.label)
    found = sorted(f"{query.bundle_name(parent)} on {device}: {', '.join(sorted(alike))}"
                   for (parent, device, _), alike in labels.items() if len(alike) > 1)
    return ["Made for the device separately, and the same network in the end, so that results of methods that stay on "
            f"one branch differ by chance: {'; '.join(found)}."] if found else []


def _row(query: Query, first: Row, parent: Row, made: Row | None) -> tuple[Cell, ...]:
    budget: dict[str, Any] = made.budget if made else {}
    spent = [float(budget[column.key]) / _SCALE.get(column.key, 1.0) if budget.get(column.key) else NOTHING
             for column in _SPENT]
    pushed_b = budget.get("bytes") or sum({one.artifact: one.size_b for one in query.branches[first.bundle]}.values())
    passes, flops = parent.training.get("passes"), parent.training.get("flops")
    picked = {key: value for key, value in query.bundles[first.bundle].training.items() if key == "pick"}
    chosen = {**made.settings, **picked} if made else {}
    return (parent.task, parent.model, parent.seed, first.device, first.label,
            NOTHING if passes is None else int(passes), NOTHING if flops is None else flops / _SCALE["flops"],
            *spent, pushed_b / 1e6,
            len(made.tuning) if made and made.tuning else NOTHING,
            canonical_json(chosen) if chosen else "the defaults" if made and made.tuning else "")


def _order(row: tuple[Cell, ...]) -> tuple[str, ...]:
    return tuple(str(value) for value in row[:len(_NAMES)])
