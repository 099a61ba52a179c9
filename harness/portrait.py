"""A device in words, from a probe's facts: what it is, its clocks and heat, what it can measure.

Called by doctor and findings.py; pure. Findings say what is wrong, this says what is there. Refuses to
guess: what is not known is left out.
"""
from collections.abc import Mapping
from typing import Any

from harness.fleet import DeviceSpec

Facts = Mapping[str, Any]
_MADE = ("synthetic", "emulated")               # how the agent begins the source of what is not measured


def sensed(facts: Facts, metric: str) -> Any:
    """The value that a sensor has now."""
    return facts.get("sensors", {}).get(metric, {}).get("value")


def made_up(facts: Facts) -> bool:
    """Whether its sensors are fixtures: a device of the virtual lab."""
    sources = (str(one.get("source") or "") for one in facts.get("sensors", {}).values())
    return any(source.startswith("synthetic: ") for source in sources)


def told(facts: Facts) -> bool:
    """Whether its agent did. Where no Python starts, the reason is all that is known."""
    return "sensors" in facts


def what(facts: Facts) -> str:
    """E.g. "Raspberry Pi 4 Model B Rev 1.5" or "Google Pixel 6 (gs101)"."""
    if facts.get("hardware") is None and not facts.get("board"):
        return str(facts.get("machine") or "not known")
    hardware = facts.get("hardware") or {}
    name, soc = facts.get("board") or hardware.get("model"), hardware.get("soc")
    return f"{name or 'generic Linux'}{f' ({soc})' if soc else ''}"


def details(facts: Facts) -> str:
    """System, processor, memory, Python."""
    memory_mb, python = facts.get("mem_total_mb"), facts.get("python")
    parts = [(facts.get("hardware") or {}).get("system"), facts.get("machine"),
             f"{facts['cores']} cores" if facts.get("cores") else None,
             None if memory_mb is None else f"{memory_mb:.0f} MiB", f"Python {python}" if python else None,
             None if skew_s(facts) is None else f"clock {skew_s(facts):+.1f} s"]
    return ", ".join(str(part) for part in parts if part)


def skew_s(facts: Facts) -> float | None:
    """Its wall clock against ours, as it answered."""
    told_ns, answered_ns = facts.get("wall_ns"), facts.get("answered_ns")
    return None if told_ns is None or answered_ns is None else (told_ns - answered_ns) / 1e9


def clocks(facts: Facts) -> str:
    """E.g. "cores 0 1 2 3: 600-1800 MHz by ondemand", a part each cluster."""
    hardware = facts.get("hardware") or {}
    parts = []
    for one in hardware.get("clocks", ()):
        span = "-".join(f"{one[name]:.0f}" for name in ("min_mhz", "max_mhz") if one.get(name) is not None)
        limit_mhz = one.get("limit_mhz")
        capped = f" of {limit_mhz:.0f}" if limit_mhz and one.get("max_mhz") and one["max_mhz"] < limit_mhz else ""
        cores = f"cores {one['cpus']}" if one.get("cpus") else one["policy"]
        parts.append(f"{cores}: {span or '?'}{capped} MHz by {one.get('governor')}")
    mode = hardware.get("power_mode")
    return "; ".join(parts + ([f"power mode {mode}"] if mode else [])) or "not known"


def thermal(facts: Facts) -> str | None:
    """E.g. "41 C, throttled"; None where neither can be read."""
    temp_c, throttled = sensed(facts, "temp_c"), sensed(facts, "throttled")
    words = [None if temp_c is None else f"{temp_c:.0f} C",
             None if throttled is None else "throttled" if throttled else "not throttled"]
    return ", ".join(filter(None, words)) or None


def measures(spec: DeviceSpec, facts: Facts) -> str:
    """What it can read, by provenance: metrics, and energy sources with their scope."""
    found: dict[str, list[str]] = {}
    for metric, one in sorted(facts.get("sensors", {}).items()):
        if one.get("value") is not None:
            kind = str(one.get("source") or "").partition(": ")[0]
            usual = "simulated" if spec.provenance == "simulated" else "measured"
            found.setdefault(kind if kind in _MADE else usual, []).append(metric)
    for name, one in sorted(facts.get("energy", {}).items()):
        found.setdefault(one["provenance"], []).append(f"joules by {name} (scope {one['scope']})")
    return "; ".join(f"{', '.join(names)} ({kind})" for kind, names in sorted(found.items())) or "nothing"


def cable(facts: Facts) -> str | None:
    """E.g. "1.2 ms, 45 MB/s"."""
    link = facts.get("link") or {}
    parts = [f"{link[key]:.3g} {unit}" for key, unit in (("rtt_ms", "ms"), ("push_mb_s", "MB/s"))
             if link.get(key) is not None]
    return ", ".join(parts) or None
