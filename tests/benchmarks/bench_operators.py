"""The operator table: ResNet18 on CIFAR-100 with one operator each, beside the authors' database.

Run by `make bench`. Parameters and MACs are counted anywhere; accuracy needs training, which needs an accelerator
(hours) and $EDGEFLEET_DATA: without them the rows say so. `--batches 2` takes two steps an operator on a processor, to
see that it works; such accuracies say nothing. Each operator is trained alone, as one network. Nothing is asserted.
"""
import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from device_agents.seams import UserError
from harness.home import make_home
from tests.author_database import RESNET18_CIFAR100
from workloads.alone import train_each
from workloads.describe import describe
from workloads.recipe import Recipe, load_task
from workloads.seams import Dataset, Split

COMMAND = "make bench (python tests/benchmarks/record.py operators)"
DEADLINE_S = 12 * 3600                           # read by record.py: this one trains where it can
BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, help="Train on so many batches for one epoch, whatever the machine.")
    parser.add_argument("--only", choices=list(RESNET18_CIFAR100), action="append")
    asked = parser.parse_args()
    for operator in asked.only or list(RESNET18_CIFAR100):
        for line in figures(make_home(Path.cwd()), operator, asked.batches):
            print(json.dumps(line | {"target": "", "command": COMMAND}), flush=True)


def figures(home: Path, operator: str, batches: int | None) -> Iterator[dict[str, Any]]:
    what, theirs = f"resnet18 with {operator}, 100 classes", RESNET18_CIFAR100[operator]
    for convention, label in (("ours", ""), ("thop", ", counted as thop does")):
        size = describe("resnet18", operator, classes=100, convention=convention).size
        yield {"figure": f"{what}, MACs{label}", "value": round(size.macs / 1e6, 2), "unit": "M",
               "note": f"author database {theirs.macs_m}"}
    yield {"figure": f"{what}, parameters", "value": round(size.params / 1e6, 2), "unit": "M",
           "note": f"author database {theirs.params_m}"}
    accuracy, note = _accuracy(home, operator, batches)
    yield {"figure": f"{what}, validation accuracy, trained alone", "value": accuracy, "unit": "%",
           "note": f"{note}; author database {theirs.accuracy_pct}, under a training that it does not describe"}


def _accuracy(home: Path, operator: str, batches: int | None) -> tuple[float | None, str]:
    if batches is None and not torch.cuda.is_available():
        return None, "not trained: no accelerator"
    try:
        data = load_task("cifar100").load()
        if batches is None:
            done = next(train_each(home, Recipe("cifar100", "resnet18", 7), [operator], data, lambda _: None))
            return round(100 * done.accuracy, 2), f"{done.seconds / 60:.0f} min, {done.passes} passes"
        some = Dataset(*(Split(split.x[:batches * BATCH], split.y[:batches * BATCH]) for split in data))
        with TemporaryDirectory() as folder:    # its weights must never be taken for those of a whole training
            recipe = Recipe("cifar100", "resnet18", 7, {"epochs": 1, "batch": BATCH})
            done = next(train_each(Path(folder), recipe, [operator], some, lambda _: None))
        return round(100 * done.accuracy, 2), f"only {batches} steps, {done.passes} passes: no result"
    except UserError as error:
        return None, f"not trained: {error}"


if __name__ == "__main__":
    main()
