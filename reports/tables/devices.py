"""Devices: what each one is, by its last probe. No host names or addresses: a report may be published."""
from typing import Any

from device_agents.wire import OVER
from reports.provenance import ordered, titled
from reports.query import Query
from reports.table import Cell, Column, Missing, Table

PLACE = 40
FOLDED = False

_COLUMNS = (
    Column("device", "device", numeric=False), Column("provenance", "provenance", numeric=False),
    Column("transport", "transport", numeric=False), Column("device_class", "class", numeric=False, detail=1),
    Column("slowdown", "slowdown", "×", 2), Column("machine", "machine", numeric=False),
    Column("cores", "cores", "", 0), Column("mem_total_mb", "memory", "MiB", 0),
    Column("kernel", "kernel", numeric=False, detail=3), Column("python", "python", numeric=False, detail=1),
    Column("runtimes", "runtimes", numeric=False, detail=1), Column("energy", "energy meters", numeric=False, detail=3),
)
_PROBED = ("machine", "cores", "mem_total_mb", "kernel", "python")


def make(query: Query) -> Table:
    rows = []
    for device in query.devices.values():
        facts = device.facts or {}
        rows.append((
            device.name, device.provenance, device.transport, device.device_class or Missing("no class was stated"),
            float(device.slowdown), *(_fact(facts, key) for key in _PROBED), _runtimes(facts), _energy(facts)))
    found = ordered(device.provenance for device in query.devices.values())
    notes = ("Slowdown: the stated factor by which an emulated device is slower than the machine that it runs on.",)
    return Table(titled("Devices", found), _COLUMNS, tuple(rows), notes, found)


def _fact(facts: dict[str, Any], key: str) -> Cell:
    value = facts.get(key)
    if value is None:
        return Missing("the device was not probed" if not facts else f"the probe could not tell ({key})")
    return value if isinstance(value, int | float) else str(value)


def _runtimes(facts: dict[str, Any]) -> Cell:
    engines = facts.get("engines") or {}
    found = sorted({str(entry["runtime"]) for entry in engines.values() if entry.get("runtime")
                    and OVER not in str(entry["runtime"])})             # a wrapper of one that is named
    return ", ".join(found) or Missing("the probe found no runtime" if engines else "the device was not probed")


def _energy(facts: dict[str, Any]) -> Cell:
    meters = facts.get("energy") or {}
    found = [f"{name} ({entry.get('scope')}, {entry.get('provenance')})" for name, entry in sorted(meters.items())]
    return ", ".join(found) or Missing("no energy meter that can be read" if facts else "the device was not probed")
