"""What training reaches: full branches on whole test splits, and jointly trained branches beside the same shapes alone.

Run by `make bench`; needs $EDGEFLEET_DATA. Weights are kept in the home, so that only the first run trains: minutes for
har and fsdd, hours on two cores for cifar10. `--only cifar10` asks about one task, `--kept` about what is trained
already. A test split is read here because no choice follows from it. Nothing is asserted.
"""
import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from device_agents.seams import UserError
from harness.home import make_home
from workloads import train
from workloads.alone import is_kept, train_each
from workloads.branches import trained
from workloads.build import build_bundle
from workloads.bundle import read_training
from workloads.parent import load_parent, weights_path
from workloads.recipe import Recipe, load_plugin, load_task
from workloads.seams import Model, Progress, Task

COMMAND = "make bench (python tests/benchmarks/record.py accuracy)"
DEADLINE_S = 6 * 3600                            # read by record.py: this one trains
MOST_BELOW = 4.0                                 # points that joint training may cost a branch


class Case(NamedTuple):
    """`alone`: branches that are trained alone as well; none named = all."""

    task: str
    model: str
    seed: int
    least_pct: float
    alone: tuple[str, ...] = ()


CASES = (
    Case("digits", "resnet_digits", 7, 98.5),
    Case("har", "har_conv1d", 1, 92.0),
    Case("fsdd", "audio_net", 1, 97.0),
    Case("cifar10", "resnet20", 7, 90.0, ("exit2", "width50", "dpconv")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[case.task for case in CASES], action="append")
    parser.add_argument("--kept", action="store_true", help="Train nothing; say what is left out.")
    asked = parser.parse_args()
    home = make_home(Path.cwd())
    for case in CASES:
        if asked.only and case.task not in asked.only:
            continue
        for line in figures(home, case, asked.kept):
            print(json.dumps(line | {"command": COMMAND}), flush=True)


def figures(home: Path, case: Case, kept_only: bool) -> Iterator[dict[str, Any]]:
    recipe, what = Recipe(case.task, case.model, case.seed), f"{case.task}/{case.model}"
    try:
        if kept_only and not weights_path(home, recipe.weights_digest()).is_file():
            raise UserError("not trained yet")
        task: Task = load_task(case.task)
        folder = build_bundle(home, recipe, [], tell).folder
        data = task.load()
    except UserError as error:
        yield {"figure": what, "value": None, "target": "", "unit": "", "note": f"not measured: {error}"}
        return
    net = load_parent(home, folder)
    plain = net.extract(net.specs[0])
    train.recalibrate(plain, data.train)
    facts, settings = read_training(folder, "epochs", "seconds"), folder.bundle.training["settings"]
    before = int(settings["full_share"] * settings["epochs"])
    yield {"figure": f"{what}, full branch, test accuracy", "target": f">= {case.least_pct}", "unit": "%",
           "value": round(100 * train.accuracy(plain, data.test), 2),
           "note": f"{len(data.test.y)} samples; seed {case.seed}, {facts['epochs'] - before} joint epochs of "
                   f"{len(net.specs)} branches{f', after {before} of the full one,' if before else ''} in "
                   f"{facts['seconds'] / 60:.0f} min"}
    model: Model = load_plugin("models", case.model, Model)()
    joint = {branch.id: branch.accuracy for branch in folder.bundle.branches}
    branches = case.alone or tuple(spec.id for spec in trained(model.branches()))
    left_out = [name for name in branches if kept_only and not is_kept(home, recipe, name)]
    for name in left_out:
        yield {"figure": f"{what}, {name}: joint training below the same shape alone", "unit": "points", "value": None,
               "target": f"<= {MOST_BELOW:g}", "note": "not measured: not trained alone yet"}
    for alone in train_each(home, recipe, [name for name in branches if name not in left_out], data, tell):
        yield {"figure": f"{what}, {alone.branch}: joint training below the same shape alone", "unit": "points",
               "value": round(100 * (alone.accuracy - joint[alone.branch]), 2), "target": f"<= {MOST_BELOW:g}",
               "note": f"validation accuracy {100 * joint[alone.branch]:.2f} % joint, {100 * alone.accuracy:.2f} % "
                       f"alone, as many epochs, {alone.seconds / 60:.1f} min"}


def tell(progress: Progress) -> None:
    """One line, rewritten, where a person watches."""
    if sys.stderr.isatty():
        print(f"\r{progress.step} {progress.done}/{progress.total} {progress.note}", end="", file=sys.stderr)


if __name__ == "__main__":
    main()
