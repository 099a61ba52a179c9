"""Costs: what each branch costs on each device when it is idle, as profiled, stated or imported before the trials."""
import json

from device_agents.wire import canonical_json
from reports.provenance import ordered, titled
from reports.query import Query
from reports.table import Cell, Column, Missing, Table

PLACE = 80
FOLDED = True

_COLUMNS = (
    Column("device", "device", numeric=False), Column("provenance", "provenance", numeric=False),
    Column("engine", "engine", numeric=False), Column("runtime", "runtime", numeric=False),
    Column("knobs", "knobs", numeric=False), Column("bundle", "bundle", numeric=False),
    Column("branch", "branch", numeric=False),
    Column("latency_ms", "latency median", "ms"), Column("latency_p95_ms", "latency p95", "ms"),
    Column("load_ms", "load", "ms"), Column("peak_rss_mb", "peak memory", "MiB", 1),
    Column("energy_mj", "energy", "mJ"), Column("source", "source", numeric=False, detail=1),
)


def make(query: Query) -> Table:
    order = {(bundle, branch.id): place for bundle, branches in query.branches.items()
             for place, branch in enumerate(branches)}
    devices = list(query.devices)
    costs = sorted(query.costs, key=lambda cost: (
        devices.index(cost.device), cost.engine, cost.runtime, cost.knobs, cost.bundle,
        order.get((cost.bundle, cost.branch), len(order)), cost.branch))
    rows = [(cost.device, cost.provenance, cost.engine, cost.runtime, _knobs(cost.knobs),
             query.bundle_name(cost.bundle), cost.branch, cost.latency_ms,
             *(_known(getattr(cost, key), key) for key in ("latency_p95_ms", "load_ms", "peak_rss_mb", "energy_mj")),
             cost.source) for cost in costs]
    found = ordered(cost.provenance for cost in costs)
    title = titled("Idle cost of each branch", found, {trial.processor for trial in query.trials})
    place = ("device", "provenance", "engine", "runtime", "knobs", "bundle")
    table = Table(title, _COLUMNS, tuple(rows), (), found, place)
    return table if len({cost.engine for cost in costs}) > 1 else table.without("engine")


def _knobs(text: str) -> str:
    """For people: "threads 2"."""
    found = json.loads(text)
    return ", ".join(f"{name} {canonical_json(value)}" for name, value in sorted(found.items())) or "the engine's own"


def _known(value: float | None, key: str) -> Cell:
    return Missing(f"{key} cannot be measured there") if value is None else float(value)
