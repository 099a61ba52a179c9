"""Training overhead on digits: the joint network against each branch alone, as a curve over the number of branches.

Run by `make bench`; takes some minutes. `--task`, `--model`, `--counts` and `--epochs` ask about others, for example
`--task fsdd --model audio_net --counts 2 6 10`. Nothing is asserted.
"""
import argparse
import json

from workloads.overhead import PUBLISHED_PCT, Point, curve
from workloads.recipe import load_plugin, load_task
from workloads.seams import Model
from workloads.settings import resolve

COMMAND = "make bench (python tests/benchmarks/record.py training)"
PUBLISHED_AT = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="digits")
    parser.add_argument("--model", default="resnet_digits")
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    model: Model = load_plugin("models", asked.model, Model)()
    settings = resolve(model.training, {} if asked.epochs is None else {"epochs": asked.epochs})
    for point in curve(load_task(asked.task), model, settings, asked.seed, asked.counts, lambda _: None):
        for line in figures(point, f"{asked.task}/{asked.model}"):
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
