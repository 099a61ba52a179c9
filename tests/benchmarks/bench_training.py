"""Training overhead on digits: the joint network against each branch alone, as a curve over the number of branches.

Run by `make bench`; takes some ten minutes. The network is resnet_digits with more widths, exits and operators, up to
sixteen branches. `--task`, `--model`, `--counts` and `--epochs` ask about others, for example
`--task fsdd --model audio_net --counts 2 6 10`. Nothing is asserted.
"""
import argparse
import json

from workloads.branches import BranchSpec, early_exit, narrow, operators, uniform
from workloads.models.resnet_digits import ResnetDigits
from workloads.overhead import PUBLISHED_PCT, Point, curve
from workloads.recipe import load_plugin, load_task
from workloads.seams import Model
from workloads.settings import resolve

DEADLINE_S = 1 * 3600                            # read by record.py: this one trains
COMMAND = "make bench (python tests/benchmarks/record.py training)"
PUBLISHED_AT = 16


class SixteenBranches(ResnetDigits):
    """resnet_digits and eight branches more."""

    def branches(self) -> tuple[BranchSpec, ...]:
        return (*super().branches(), early_exit(1), narrow(0.75, 3), narrow(0.75, 3, depth=2), narrow(0.25, 3),
                *(uniform(3, name, self.slots) for name in ("inception1", "inception2")),
                operators(3, stage2="fire", stage3="dpconv"), operators(3, stage3="dpconv"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="digits")
    parser.add_argument("--model", help="In workloads/models/; by default the network of sixteen branches.")
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 4, 6, 8, 16])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    model: Model = load_plugin("models", asked.model, Model)() if asked.model else SixteenBranches()
    settings = resolve(model.training, {} if asked.epochs is None else {"epochs": asked.epochs})
    for point in curve(load_task(asked.task), model, settings, asked.seed, asked.counts, lambda _: None):
        for line in figures(point, f"{asked.task}/{asked.model or 'resnet_digits'}"):
            print(json.dumps(line))


def figures(point: Point, what: str) -> list[dict[str, object]]:
    note = f"joint {point.joint.passes} passes, alone {point.alone.passes}"
    if point.missed:
        note += f"; alone {', '.join(point.missed)} stayed below the joint accuracy"
    if point.branches == PUBLISHED_AT:
        note += f"; AdaScale's abstract says {PUBLISHED_PCT} % of an overhead that it defines elsewhere"
    return [{"figure": f"joint training of {point.branches} branches of {what} against each alone, {cost}",
             "value": round(point.saved_pct(cost), 1), "target": "", "unit": "%", "command": COMMAND, "note": note}
            for cost in ("passes", "flops", "seconds")]


if __name__ == "__main__":
    main()
