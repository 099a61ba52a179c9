"""`edgefleet doctor`: what each device is, can measure and run. Every finding ends in a command to type.

Asks every device of the fleet at once (the agent's read-only probe), times the cable to each, and stores nothing;
of the results that are here it reads which phones have run a network.
"""
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
    """Say what each device is, can measure and run.

    Every finding ends in a command to type.

    Exit 3 when a device does not answer or can run nothing.

    \b
    Examples:
      edgefleet doctor
      edgefleet doctor 'jetson-*' tag:phone --fleet bench.toml
    """
    from device_agents import registry
    from harness.findings import examine
    from harness.fleet import FLEET_FILE, host_only, load_fleet
    from harness.link_check import check_links
    from harness.roll_call import ask_devices

    path = fleet or (Path(FLEET_FILE) if Path(FLEET_FILE).is_file() else None)
    spec = load_fleet(path) if path else host_only()
    _output.words(f"fleet: {path.absolute()}" if path else f"fleet: this machine (there is no {FLEET_FILE} here)")
    chosen = spec.select(devices or ["*"], str(path or "the fleet"))
    facts, silent = ask_devices(chosen, registry.names("device_agents.engines"), None)
    for name, link in check_links(chosen, facts).items():
        facts[name] = {**facts[name], "link": link}
    named = str(fleet) if fleet else None
    proven = _proven()
    reports = [(one, facts.get(one.name),
                examine(one, facts.get(one.name), silent.get(one.name), named, one.name in proven)) for one in chosen]
    if as_json:
        _output.data({"fleet": str(path) if path else None, "devices": [_document(*report) for report in reports]})
    else:
        _print(reports)
    if any(finding.level == "error" for _, _, findings in reports for finding in findings):
        raise typer.Exit(DEVICE_TROUBLE)


def _proven() -> set[str]:
    """Devices on which a trial with a runtime is done, by the results that are here."""
    from db.errors import StoreError
    from db.store import Store
    from harness.findings import STATED_ONLY
    from harness.home import Home, find_home

    path = find_home(Path.cwd())
    if path is None or not Home(path).has_results():
        return set()
    try:
        with Store.read_only(Home(path).results) as store:
            done = store.read("trial", ("device", "engine"), state="done")
    except StoreError:                          # of another version, or damaged: no news of a device
        return set()
    return {row["device"] for row in done if row["engine"] not in STATED_ONLY}


def _document(spec: "DeviceSpec", facts: dict[str, Any] | None, findings: "list[Finding]") -> dict[str, Any]:
    return {"name": spec.name, "transport": spec.transport, "provenance": spec.provenance, "slowdown": spec.slowdown,
            "answers": facts is not None, "facts": facts, "findings": [one._asdict() for one in findings]}


def _print(reports: "list[tuple[DeviceSpec, dict[str, Any] | None, list[Finding]]]") -> None:
    """A line a device, then a paragraph each."""
    from harness.findings import runs
    from harness.portrait import cable, clocks, details, measures, thermal, told, what

    rows = []
    for spec, facts, findings in reports:
        known = facts or {}
        free_mb = known.get("disk_free_mb")
        rows.append([spec.name, spec.transport, what(known) if facts else None, runs(known) if facts else None,
                     thermal(known), None if free_mb is None else f"{free_mb / 1024:.1f}", cable(known),
                     sum(one.level != "note" for one in findings) or None])
    _output.table(("device", "by", "is", "runs", "heat", "GiB free>", "link", "trouble>"), rows)
    for spec, facts, findings in reports:
        lines = [f"{spec.name}: {details(facts)}; times are {spec.provenance}", f"    clocks: {clocks(facts)}",
                f"    can read: {measures(spec, facts)}"] if facts and told(facts) else []
        lines += [f"{spec.name}: {one.level}: {one.text}\n    fix: {one.fix}" for one in findings]
        typer.echo(_output.clean("\n".join(lines)) + "\n")
    if not any(findings for _, _, findings in reports):
        _output.words("nothing to mend")
