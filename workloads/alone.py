"""One branch's shape trained alone: what joint training is compared with, epoch for epoch, and the operator table.

The same loop, settings, data, order and augmentation as the joint run; only the loss differs: cross-entropy on the
labels. Weights are kept beside the joint ones, so that a comparison that was killed, or is asked again, trains nothing
twice. Called by benchmarks and overhead.py. Accuracies are of the validation split.
"""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from device_agents.seams import UserError
from device_agents.wire import sha256_of
from workloads import train
from workloads.branches import BranchSpec, trained
from workloads.parent import load_weights, save_weights, weights_path
from workloads.recipe import Recipe, load_plugin, load_task
from workloads.seams import Dataset, Model, Report, Task
from workloads.settings import resolve
from workloads.supernet import SuperNet


class Alone(NamedTuple):
    """What one branch reached by itself: validation accuracy 0..1, and what that cost."""

    branch: str
    accuracy: float
    passes: int
    seconds: float


def net_for(task: Task, model: Model, spec: BranchSpec, seed: int) -> SuperNet:
    """An untrained network with this branch. The full branch comes with every network, and stays untrained."""
    torch.manual_seed(seed)
    full = model.branches()[0]
    return model.build(task.shape, task.classes, (full,) if spec == full else (full, spec))


def is_kept(home: Path, recipe: Recipe, branch: str, plugin_dirs: Sequence[str] = ()) -> bool:
    """Whether train_each would train nothing for this branch."""
    return weights_path(home, _digest(recipe, branch, plugin_dirs)).is_file()


def train_each(home: Path, recipe: Recipe, branches: Sequence[str], data: Dataset, report: Report,
               plugin_dirs: Sequence[str] = ()) -> Iterator[Alone]:
    """Train each named branch alone for the recipe's epochs, one after the other; what is kept is only judged.

    Raises UserError: a name that is no branch, or none that is trained; a diverging run; a full disk.
    """
    task = load_task(recipe.task, plugin_dirs)
    model: Model = load_plugin("models", recipe.model, Model, plugin_dirs)()
    settings, specs = resolve(model.training, recipe.training), {one.id: one for one in trained(model.branches())}
    unknown = [name for name in branches if name not in specs]
    if unknown:
        raise UserError(f"{recipe.model} trains no branch {unknown[0]!r}; it trains: {', '.join(specs)}")
    for name in branches:
        digest = _digest(recipe, name, plugin_dirs)
        net = net_for(task, model, specs[name], recipe.seed)
        log = load_weights(home, digest, net)
        if log is None:
            checkpoint = home / "cache" / f"train-{digest}.pt"
            loss_of = train.alone_loss(net, specs[name], settings)
            log = train.fit(net, loss_of, data.train, settings, recipe.seed, report, checkpoint, task.augment)
            save_weights(home, digest, net, log)
            checkpoint.unlink(missing_ok=True)
        plain = net.extract(specs[name])
        train.recalibrate(plain, data.train)
        yield Alone(name, train.accuracy(plain, data.val), log.passes, log.seconds)


def _digest(recipe: Recipe, branch: str, plugin_dirs: Sequence[str]) -> str:
    return sha256_of({"joint": recipe.weights_digest(plugin_dirs), "alone": branch})
