"""Branches: what can be chosen from: accuracy, MACs and size of each, and its idle latency on every device."""
from reports.provenance import ordered, titled
from reports.query import Query, Row
from reports.table import Cell, Column, Missing, Table

PLACE = 30
FOLDED = False

_FACTS = (
    Column("bundle", "bundle", numeric=False), Column("branch", "branch", numeric=False),
    Column("kind", "kind", numeric=False), Column("validation_accuracy_pct", "validation accuracy", "%", 1),
    Column("mmacs", "MACs", "million", 2), Column("params_k", "parameters", "thousand", 1),
    Column("size_kib", "size", "KiB", 0, detail=1), Column("precision", "precision", numeric=False, detail=3),
)


def make(query: Query) -> Table:
    devices = [device for device in query.devices.values()
               if any(cost.device == device.name for cost in query.costs)]
    columns = (*_FACTS, *(Column(f"latency_ms {device.name}", f"{device.name}, {device.provenance}", "ms")
                          for device in devices))
    rows = [_row(query, bundle, branch, devices) for bundle in query.bundles.values()
            for branch in query.branches[bundle.id]]
    found = ordered(device.provenance for device in devices)
    title = titled("Branches and their idle latency", found, {trial.processor for trial in query.trials})
    notes = ("Accuracy on validation data, which methods may know; the other tables show accuracy on test data.",
             "Latency: idle median when the device was profiled; the column's title names its provenance.")
    return Table(title, columns, tuple(rows), notes, found, ("bundle",))


def _row(query: Query, bundle: Row, branch: Row, devices: list[Row]) -> tuple[Cell, ...]:
    return (query.bundle_name(bundle.id), branch.id, branch.kind or "unnamed", branch.accuracy * 100.0,
            branch.macs / 1e6, branch.params / 1e3, branch.size_b / 1024, branch.precision,
            *(_latency(query, device, bundle, branch) for device in devices))


def _latency(query: Query, device: Row, bundle: Row, branch: Row) -> Cell:
    found = [cost for cost in query.costs
             if (cost.device, cost.bundle, cost.branch) == (device.name, bundle.id, branch.id)]
    if not found:
        return Missing("not profiled on this device")
    if len(found) > 1:
        return Missing("profiled with several engines, runtimes or knobs: see the table costs")
    return float(found[0].latency_ms)
