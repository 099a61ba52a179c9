"""What a person pastes into an issue after a run on real devices: one block of Markdown a campaign. Called by `status`.

Made of the store alone: facts of the last probe, the runtime, sensors and energy sources with their provenance, trials
done and failed with their reasons, medians over runs. Pure. It prints no host name, address, serial or path: an issue
is public. It refuses to hide what is missing: a device that never answered is a line, too.
"""
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.findings import runs
from harness.portrait import what

Row = Mapping[str, Any]
METRICS = ("latency_median_ms", "miss_pct", "accuracy", "energy_mj_per_inference")
REASON_MAX = 160                                # characters


def issue_block(campaign: str, version: str, devices: Sequence[Row], trials: Sequence[Row],
                summaries: Mapping[str, Sequence[Row]]) -> str:
    """`devices` and `trials` are rows of the store, `summaries` rows of the table summary by trial id."""
    lines = [f"### {campaign}: edgefleet {version}", ""]
    for device in devices:
        own = [trial for trial in trials if trial["device"] == device["name"]]
        if own:
            lines += [*_about(device, own), "", *_medians(own, summaries), *_reasons(device["name"], own), ""]
    return "\n".join(lines)


def _about(device: Row, trials: Sequence[Row]) -> list[str]:
    facts = device["facts"] or {}
    states = Counter(trial["state"] for trial in trials)
    return [
        f"**{device['name']}** ({device['transport']}, times are {device['provenance']})",
        "",
        f"- device: {_facts(device, facts)}",
        f"- agent: {(facts.get('agent') or '')[:12] or 'never answered'}, Python {facts.get('python') or '?'}",
        f"- runtime: {runs(facts)}; trials ran with {', '.join(sorted({trial['runtime'] for trial in trials}))} on "
        f"{', '.join(sorted({trial['processor'] for trial in trials}))}",
        f"- sensors: {_sensors(facts)}",
        f"- energy: {_energy(facts)}",
        f"- trials: {', '.join(f'{number} {state}' for state, number in sorted(states.items()))}",
    ]


def _facts(device: Row, facts: Row) -> str:
    memory = facts.get("mem_total_mb")
    hardware = facts.get("hardware") or {}
    parts = [what(facts) if facts.get("board") or hardware.get("model") else None, hardware.get("system"),
             hardware.get("power_mode"), device["device_class"], facts.get("machine"), facts.get("kernel"),
             None if facts.get("cores") is None else f"{facts['cores']} cores",
             None if memory is None else f"{memory:.0f} MiB", facts.get("governor")]
    return ", ".join(str(part) for part in parts if part) or "no facts"


def _sensors(facts: Row) -> str:
    read = [f"{metric} = {one['value']:g} ({one.get('source') or 'no source'})"
            for metric, one in sorted(facts.get("sensors", {}).items()) if one.get("value") is not None]
    return "; ".join(read) or "none"


def _energy(facts: Row) -> str:
    return "; ".join(f"{name}: {one['scope']}, {one['provenance']}"
                     for name, one in sorted(facts.get("energy", {}).items())) or "none"


def _medians(trials: Sequence[Row], summaries: Mapping[str, Sequence[Row]]) -> list[str]:
    """A line for each method under a trace: the median over its runs, and what kind of number each is."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for trial in trials:
        if trial["state"] == "done":
            groups.setdefault((trial["label"], trial["trace"]), []).append(trial)
    if not groups:
        return ["no trial is done"]
    lines = [f"| method | trace | runs | {' | '.join(METRICS)} |", "|---|---|---:|" + "---:|" * len(METRICS)]
    for (label, trace), members in sorted(groups.items()):
        cells = [_cell([row for one in members for row in summaries.get(one["id"], ()) if row["metric"] == metric])
                 for metric in METRICS]
        lines.append(f"| {label} | {trace} | {len(members)} | {' | '.join(cells)} |")
    return lines


def _cell(rows: Sequence[Row]) -> str:
    """Numbers of two provenances are never put together."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["value"] is not None:
            values.setdefault(row["provenance"], []).append(row["value"])
    return ", ".join(f"{statistics.median(found):.4g} {kind}" for kind, found in sorted(values.items())) or "-"


def _reasons(device: str, trials: Sequence[Row]) -> list[str]:
    """What did not work; addresses and paths in it are the person's to strike out, so it is short."""
    why = Counter((trial["state"], trial["error"] or "", " ".join((trial["reason"] or "").split())[:REASON_MAX])
                  for trial in trials if trial["state"] != "done" and (trial["error"] or trial["reason"]))
    found = [f"- {number} {state}: {' '.join(filter(None, (error, reason)))}"
             for (state, error, reason), number in why.items()]
    return ["", f"What did not work on {device} (strike out what nobody should read):", *found] if found else []
