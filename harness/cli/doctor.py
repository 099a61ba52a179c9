"""`edgefleet doctor`: what each device can measure and run. Every finding ends in its fix.

Asks every device of the fleet at once (the agent's read-only probe) and stores nothing.
"""
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import _output
from harness.cli._exit import DEVICE_TROUBLE

if TYPE_CHECKING:
    from harness.findings import Finding
    from harness.fleet import DeviceSpec

ORDER = 10


def doctor(
    devices: Annotated[list[str] | None, typer.Argument(help="Names, globs or tag:x; default: all.")] = None,
    fleet: Annotated[Path | None, typer.Option(help="Fleet file; default: ./fleet.toml, else this machine.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help=_output.JSON_HELP)] = False,
) -> None:
    """Say what each device can measure and run.

    Every finding ends in its fix.

    Exit 3 when a device does not answer or can run nothing.

    \b
    Examples:
      edgefleet doctor
      edgefleet doctor 'jetson-*' tag:phone --fleet bench.toml
    """
    from device_agents import registry
    from harness.findings import examine
    from harness.fleet import FLEET_FILE, host_only, load_fleet
    from harness.roll_call import ask_devices

    path = fleet or (Path(FLEET_FILE) if Path(FLEET_FILE).is_file() else None)
    spec = load_fleet(path) if path else host_only()
    _output.words(f"fleet: {path.absolute()}" if path else f"fleet: this machine (there is no {FLEET_FILE} here)")
    chosen = spec.select(devices or ["*"], str(path or "the fleet"))
    facts, silent = ask_devices(chosen, registry.names("device_agents.engines"), None)
    now_ns = time.time_ns()
    reports = [(one, facts.get(one.name), examine(one, facts.get(one.name), silent.get(one.name), now_ns))
               for one in chosen]
    if as_json:
        _output.data({"fleet": str(path) if path else None, "devices": [_document(*report) for report in reports]})
    else:
        _print(reports)
    if any(finding.level == "error" for _, _, findings in reports for finding in findings):
        raise typer.Exit(DEVICE_TROUBLE)


def _document(spec: "DeviceSpec", facts: dict[str, Any] | None, findings: "list[Finding]") -> dict[str, Any]:
    return {"name": spec.name, "transport": spec.transport, "provenance": spec.provenance, "slowdown": spec.slowdown,
            "answers": facts is not None, "facts": facts, "findings": [one._asdict() for one in findings]}


def _print(reports: "list[tuple[DeviceSpec, dict[str, Any] | None, list[Finding]]]") -> None:
    from harness.findings import measures, runs

    rows = []
    for spec, facts, _ in reports:
        told = facts or {}
        memory = told.get("mem_total_mb")
        rows.append([spec.name, spec.transport, spec.provenance, told.get("machine"), told.get("python"),
                     told.get("cores"), None if memory is None else f"{memory:.0f}", runs(told), measures(told)])
    _output.table(("device", "transport", "times are", "machine", "python", "cores>", "MiB>", "runs", "measures"), rows)
    for spec, _, findings in reports:
        for one in findings:
            typer.echo(_output.clean(f"{spec.name}: {one.level}: {one.text}\n    fix: {one.fix}"))
    if not any(findings for _, _, findings in reports):
        _output.words("nothing to mend")
