"""`edgefleet run`: run what is missing of a campaign. Builds bundles that are missing first; resumes by itself."""
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import _output

if TYPE_CHECKING:
    from db.store import Store
    from harness.driver import Ended
    from harness.home import Home
    from harness.resolve import Resolved

ORDER = 50


def run(
    campaign: Annotated[Path, typer.Argument(help="Campaign file (TOML).")],
    fleet: Annotated[Path | None, typer.Option(help="Fleet file; default: the campaign's, ./fleet.toml, this machine.")
                     ] = None,
    scheduler: Annotated[str, typer.Option(help="ray, or inline: one trial after the other.")] = "ray",
    ray_address: Annotated[str, typer.Option(help="A Ray cluster that reaches your sites; local: our own.")] = "local",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also run trials again that failed or were "
                                               "skipped.")] = False,
) -> None:
    """Run what is missing; live progress; Ctrl-C is safe.

    Trials that are done are never run again. When this command dies, devices go on; the next run collects their trials.

    \b
    Examples:
      edgefleet run workloads/campaigns/quickstart.toml
      edgefleet run mine.toml --fleet bench.toml
      edgefleet run mine.toml --scheduler inline --retry-failed
    """
    from db.store import Store
    from harness.cli._progress import Progress
    from harness.driver import missing, record_plan, run_missing
    from harness.errors import ConfigError
    from harness.scheduler import SCHEDULERS

    if scheduler not in SCHEDULERS:             # before hours of training, and also when nothing is left to run
        raise ConfigError.unknown("scheduler", scheduler, SCHEDULERS, "--scheduler")
    home = _output.new_home()
    resolved = _resolved(campaign, fleet, home)
    retry = ("failed", "skipped") if retry_failed else ()
    with Store.open(home.results) as store:
        record_plan(resolved, store)
        if resolved.waiting:
            resolved = _prepared(resolved, fleet, home, store)
            record_plan(resolved, store)
        todo = missing(resolved, store, retry)
        with Progress(todo, resolved.fleet, resolved.campaign.preflight.cooldown_s) as progress:
            ended = run_missing(resolved, home, store, scheduler, progress.show, retry, ray_address)
    raise typer.Exit(_told(ended, resolved, campaign))


def _resolved(campaign: Path, fleet: Path | None, home: "Home") -> "Resolved":
    """The plan, with every bundle built."""
    from harness.cli.build import build_missing
    from harness.resolve import resolve

    resolved = resolve(campaign, fleet, home, ask="all")
    if build_missing(resolved, home):
        resolved = resolve(campaign, fleet, home, ask="all")
    for note in resolved.plan.notes:
        _output.words(f"note: {note}")
    for device, reason in resolved.silent.items():
        _output.words(f"no answer: {device}: {reason}")
    return resolved


def _prepared(resolved: "Resolved", fleet: Path | None, home: "Home", store: "Store") -> "Resolved":
    """The plan again, with everything prepared that depends on a device."""
    from harness.cli.build import progress
    from harness.prepare import prepare_missing
    from harness.resolve import resolve

    made, unprepared = prepare_missing(resolved, home, store, progress)
    networks = {folder.bundle.id: key for key, folder in resolved.bundles.items()}
    for one in made:
        task, model, seed = networks[one.parent]
        for line in one.log:
            _output.words(f"{one.label} on {one.device}, {task}/{model} seed {seed}: {line}")
    for row in unprepared:
        _output.words(f"not prepared: {row.label} on {row.device}: {row.reason}")
    return resolve(resolved.campaign_path, fleet, home, ask="never")


def _told(ended: "Ended", resolved: "Resolved", campaign: Path) -> int:
    """Say how it ended; the exit code."""
    states, unnamed = ended.states, len(resolved.plan.unnamed)
    total = sum(states.values())
    if not ended.attempted and states.get("done", 0) == total and not unnamed:
        _output.words(f"all {total} trials of {resolved.campaign.name} are done; nothing to run")
    else:
        _output.words(f"{resolved.campaign.name}: " + ", ".join(f"{n} {state}" for state, n in states.items()))
    if unnamed:
        _output.words(f"{unnamed} trials could not be planned: {resolved.plan.unnamed[0].reason}")
    if states.get("failed") or states.get("skipped"):
        _output.words(f"why: edgefleet status {campaign}")
    if unnamed or states.get("pending") or states.get("running"):
        return 3
    return 1 if states.get("failed") else 0
