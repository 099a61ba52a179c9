"""`edgefleet plan`: the trials of a campaign, which of them are done, and the time that the rest needs.

Touches nothing: it reads the store and the bundle cache, and asks devices that were never seen for their runtimes.
"""
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import _output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from device_agents.wire import Trial
    from harness.campaign import Excluded
    from harness.home import Home
    from harness.resolve import Resolved

ORDER = 40


def plan(
    campaign: Annotated[Path, typer.Argument(help="Campaign file (TOML).")],
    fleet: Annotated[Path | None, typer.Option(help=_output.FLEET_HELP)] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no device, not even a new one.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help=_output.JSON_HELP)] = False,
) -> None:
    """Show the trials and the time that they need; touches nothing.

    A trial whose bundle is not built yet, or whose device never answered, has no id yet.

    \b
    Examples:
      edgefleet plan workloads/campaigns/quickstart.toml
      edgefleet plan mine.toml --fleet bench.toml --json | jq '.trials[].id'
    """
    from harness.resolve import resolve

    home = _output.home_if_any()
    resolved = resolve(campaign, fleet, home, ask="never" if offline else "unseen")
    value = described(resolved, home)
    if as_json:
        _output.data(value)
    else:
        _output.table(("id", "device", "task", "model", "method", "trace", "repeat>", "seconds>", "state"),
                      [[one[key] for key in ("id", "device", "task", "model", "method", "trace", "repeat", "seconds",
                                             "state")] for one in value["trials"]])
    _tell(value, resolved, campaign)


def described(resolved: "Resolved", home: "Home | None") -> dict[str, Any]:
    """The plan as JSON: every trial with its id and state, what is left out, what is left to do."""
    from harness.driver import FINISHED
    from harness.estimate import needed_s, window_s
    from harness.resolve import known_states

    states = known_states(home, [trial.id for trial in resolved.plan.trials])
    spec = resolved.campaign
    left = [(trial.device, window_s(trial)) for trial in resolved.plan.trials if states.get(trial.id) not in FINISHED]
    seconds = spec.trial.warmup_s + spec.trial.duration_s
    left += [(one.cell.device, seconds) for one in resolved.plan.unnamed]
    return {
        "campaign": spec.name,
        "fleet": str(resolved.fleet_path) if resolved.fleet_path else None,
        "home": str(home.path) if home else None,
        "trials": [_row(trial, states.get(trial.id, "pending")) for trial in resolved.plan.trials]
        + [{"id": None, **one.cell._asdict(), "adapter": spec.method(one.cell.method).adapter, "repeat": one.repeat,
            "seconds": seconds, "state": "unnamed", "reason": one.reason}
           for one in resolved.plan.unnamed],
        "excluded": [one._asdict() for one in resolved.plan.excluded],
        "notes": [*resolved.plan.notes, *(f"{name}: {why}" for name, why in resolved.silent.items())],
        **{state: sum(one == state for one in states.values()) for state in FINISHED},
        "remaining": len(left),
        "needed_s": round(needed_s(left, resolved.fleet, spec.preflight.cooldown_s), 1),
    }


def _row(trial: "Trial", state: str) -> dict[str, Any]:
    return {"id": trial.id, "device": trial.device, "task": trial.task, "model": trial.model, "bundle": trial.bundle,
            "method": trial.label, "adapter": trial.method, "trace": trial.trace.name, "runtime": trial.runtime,
            "repeat": trial.repeat, "block": trial.block, "seconds": trial.warmup_s + trial.duration_s, "state": state}


def _tell(value: dict[str, Any], resolved: "Resolved", campaign: Path) -> None:
    for note in value["notes"]:
        _output.words(f"note: {note}")
    for line in _excluded(resolved.plan.excluded):
        _output.words(f"excluded: {line}")
    for reason in dict.fromkeys(one.reason for one in resolved.plan.unnamed):
        _output.words(f"no ids yet: {reason}")
    if len(resolved.bundles) < len(resolved.recipes):
        _output.words(f"build what is missing with: edgefleet build {campaign}")
    first = ", after what must be built or prepared" if resolved.plan.unnamed else ""
    ended = "".join(f", {value[state]} {state}" for state in ("failed", "skipped") if value[state])
    _output.words(f"{len(value['trials'])} trials: {value['done']} done{ended}, {value['remaining']} to run"
                  + (f", about {_output.in_words(value['needed_s'])}{first}" if value["needed_s"] else ""))


def _excluded(cells: "Iterable[Excluded]") -> list[str]:
    """A line for what is left out for one reason: a method and a network, devices, and on each the same traces."""
    traces: dict[tuple[str, ...], dict[str, None]] = {}
    for one in cells:
        traces.setdefault((one.method, one.task, one.model, one.reason, one.device), {})[one.trace] = None
    devices: dict[tuple[str, ...], list[str]] = {}
    for (*what, device), found in traces.items():
        devices.setdefault((*what, " and ".join(found)), []).append(device)
    return [f"{method} on {' and '.join(found)}, {task}/{model}, {there}: {reason}"
            for (method, task, model, reason, there), found in devices.items()]
