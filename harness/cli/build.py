"""`edgefleet build`: the offline half of a campaign: train, export, write bundles. Cached by content.

`build_missing` is also what `run` calls first. torch is imported only where a bundle is missing.
"""
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import _output

if TYPE_CHECKING:
    from harness.home import Home
    from harness.resolve import Resolved
    from workloads.seams import Report

ORDER = 30
TOLD_EVERY_S = 60.0                             # where there is no terminal


def build(
    campaign: Annotated[Path, typer.Argument(help="Campaign file (TOML).")],
    fleet: Annotated[Path | None, typer.Option(help=_output.FLEET_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help=_output.JSON_HELP)] = False,
) -> None:
    """Train, export and write the bundles of a campaign.

    Says what it reuses: bundles are cached by content.

    \b
    Examples:
      edgefleet build workloads/campaigns/quickstart.toml
    """
    from harness.resolve import resolve

    home = _output.new_home()
    resolved = resolve(campaign, fleet, home, ask="never")
    if build_missing(resolved, home):
        resolved = resolve(campaign, fleet, home, ask="never")
    found = resolved.bundles.items()
    if as_json:
        _output.data({"home": str(home.path), "bundles": [
            {"task": task, "model": model, "seed": seed, "bundle": one.bundle.id, "folder": str(one.path),
             "branches": [branch._asdict() for branch in one.bundle.branches], "methods": sorted(one.policies)}
            for (task, model, seed), one in found]})
    else:
        _output.table(("task", "model", "seed>", "branches>", "best accuracy>", "bundle", "folder"), [
            (*key, len(one.bundle.branches), f"{max(branch.accuracy for branch in one.bundle.branches):.4f}",
             one.bundle.id[:12], one.path) for key, one in found])


def build_missing(resolved: "Resolved", home: "Home") -> bool:
    """Build the campaign's bundles that are missing, bring all policies up to date; whether anything changed.

    Tells on stderr what is reused and how a build goes on. Raises UserError.
    """
    from workloads.build import build_bundle

    changed = False
    for key, recipe in resolved.recipes.items():
        name = f"{key[0]}/{key[1]}, seed {key[2]}"
        with progress(f"bundle {name}") as report:
            made = build_bundle(home.path, recipe, resolved.methods_with_policy, report, resolved.campaign.plugin_dirs)
        before, after = resolved.bundles.get(key), made.folder
        changed |= before is None or (before.bundle.id, before.policies) != (after.bundle.id, after.policies)
        for line in made.log:
            _output.words(f"{name}: {line}")
        if not made.reused:
            _output.words(f"{name}: built {after.bundle.id[:12]} in {_output.in_words(made.seconds)}")
    return changed


@contextmanager
def progress(name: str) -> "Iterator[Report]":
    """A live line on a terminal; elsewhere one line a step and one a minute, so that a log says how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    steps: dict[str, Any] = {}
    told_s: dict[str, float] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
               TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        def report(progress: Any) -> None:
            now_s = time.monotonic()
            if progress.step not in steps:
                steps[progress.step] = bar.add_task(f"{name}: {progress.step}", total=progress.total, note="", rate="")
                told_s[progress.step] = now_s
                if not console.is_terminal:
                    _output.words(f"{name}: {progress.step} ...")
            elif not console.is_terminal and now_s - told_s[progress.step] >= TOLD_EVERY_S:
                told_s[progress.step] = now_s
                _output.words(f"{name}: {in_numbers(progress)}")
            bar.update(steps[progress.step], completed=progress.done, total=progress.total, note=progress.note,
                       rate=_rate(progress.per_s))

        yield report


def in_numbers(progress: Any) -> str:
    """'train 1200 of 90000, 411/s, 3 min 36 s left, epoch 1/2, loss 2.100'."""
    parts = [f"{progress.step} {progress.done} of {progress.total}"]
    left = "" if progress.left_s is None else f"{_output.in_words(progress.left_s)} left"
    return ", ".join(part for part in (*parts, _rate(progress.per_s), left, progress.note) if part)


def _rate(per_s: float) -> str:
    return f"{per_s:.{0 if per_s >= 10 else 2}f}/s" if per_s else ""
