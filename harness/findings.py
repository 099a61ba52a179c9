"""What a probe's facts mean: findings about a device, each with its fix. Pure; called by doctor.

An error is what keeps every trial from running there, a warning what makes results poorer, a note what cannot be had.
"""
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.fleet import DeviceSpec

LOW_DISK_MB = 200.0
LOW_MEMORY_MB = 150.0
CLOCK_SKEW_S = 2.0
STATED_ONLY = ("replay", "remote")              # engines that run no network themselves: no sign of a usable device


class Finding(NamedTuple):
    """`level` is error, warning or note."""

    level: str
    text: str
    fix: str


def examine(spec: DeviceSpec, facts: Mapping[str, Any] | None, silence: str | None, now_ns: int) -> list[Finding]:
    """Everything that a person should know about a device. `facts` None: it did not answer, `silence` says why."""
    if facts is None:
        return [Finding("error", silence or "no answer", _reach(spec))]
    return [*_engines(spec, facts), *_phone(spec), *_sensors(facts), *_energy(spec, facts), *_room(facts),
            *_clock(spec, facts, now_ns)]


def runs(facts: Mapping[str, Any]) -> str:
    """The inference runtimes of a device, e.g. "onnxruntime 1.31.1"."""
    answers = [one for name, one in facts.get("engines", {}).items() if name not in STATED_ONLY]
    return ", ".join(dict.fromkeys(str(one["runtime"]) for one in answers if one.get("runtime"))) or "nothing"


def measures(facts: Mapping[str, Any]) -> str:
    """The metrics that a device can read, and its energy sources with their scope."""
    metrics = [name for name, one in facts.get("sensors", {}).items() if one.get("value") is not None]
    energy = [f"{name} ({one['scope']})" for name, one in facts.get("energy", {}).items()]
    return ", ".join(sorted(metrics) + sorted(energy)) or "nothing"


def _reach(spec: DeviceSpec) -> str:
    if spec.transport == "local":
        return "set `python` of this device in fleet.toml to a Python >= 3.6 of this machine"
    return f"check its cable, power and address ({spec.host or spec.serial or spec.name}), then run doctor again"


def _engines(spec: DeviceSpec, facts: Mapping[str, Any]) -> list[Finding]:
    answers = {name: one for name, one in facts.get("engines", {}).items() if name not in STATED_ONLY}
    if spec.transport == "simulated" or any(one.get("runtime") for one in answers.values()):
        return []
    reasons = "; ".join(f"{name}: {one.get('reason') or 'no runtime'}" for name, one in answers.items())
    return [Finding("error", f"no inference runtime ({reasons or 'no engine'})",
                    "point `python` in fleet.toml to one that has numpy and onnxruntime, or type: "
                    f"edgefleet device provision {spec.name}")]


def _phone(spec: DeviceSpec) -> list[Finding]:
    if spec.transport != "adb":
        return []
    return [Finding("note", "phone inference unproven: the runtime was tried under emulation and on the virtual lab, "
                            "and no real phone has run it yet",
                    "run workloads/campaigns/fleet-smoke.toml on it and report its block (docs/devices.md)")]


def _sensors(facts: Mapping[str, Any]) -> list[Finding]:
    def lacks(metric: str) -> bool:
        return facts.get("sensors", {}).get(metric, {}).get("value") is None

    found = []
    if lacks("temp_c"):
        found.append(Finding("note", "no temperature sensor can be read, so preflight passes it as \"unknown\"",
                             "none on a virtual machine; on a board, check /sys/class/thermal and its permissions"))
    if lacks("freq_mhz"):
        found.append(Finding("note", "no CPU frequency can be read",
                             "none on a virtual machine; on a board, load its cpufreq driver"))
    return found


def _energy(spec: DeviceSpec, facts: Mapping[str, Any]) -> list[Finding]:
    real = [name for name, one in facts.get("energy", {}).items() if one.get("provenance") != "modelled"]
    if real or spec.transport == "simulated":
        return []
    if spec.power_model is not None:
        return [Finding("note", "joules are modelled from power_model and enter no comparison",
                        "attach a meter or a board with a power sensor to measure them")]
    return [Finding("note", "no energy source, so tables have no joules of it",
                    "state power_model = { idle_w, busy_w, source } in fleet.toml for modelled joules; for RAPL, "
                    "let your user read /sys/class/powercap/intel-rapl:0/energy_uj (sudo chmod a+r)")]


def _room(facts: Mapping[str, Any]) -> list[Finding]:
    found = []
    disk_mb, memory_mb = facts.get("disk_free_mb"), facts.get("mem_total_mb")
    if disk_mb is not None and disk_mb < LOW_DISK_MB:
        found.append(Finding("warning", f"only {disk_mb:.0f} MiB are free on its disk", "free some space there"))
    if memory_mb is not None and memory_mb < LOW_MEMORY_MB:
        found.append(Finding("warning", f"only {memory_mb:.0f} MiB of memory", 'use residency = "one" or "cache:2"'))
    return found


def _clock(spec: DeviceSpec, facts: Mapping[str, Any], now_ns: int) -> list[Finding]:
    wall_ns = facts.get("wall_ns")
    skew_s = 0.0 if wall_ns is None or spec.transport == "simulated" else abs(wall_ns - now_ns) / 1e9
    if skew_s <= CLOCK_SKEW_S:
        return []
    return [Finding("warning", f"its wall clock differs by {skew_s:.0f} s (durations do not depend on it)",
                    "set it: timedatectl set-ntp true on Linux, automatic date and time on a phone")]
