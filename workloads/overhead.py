"""Training overhead: joint training of N branches against training each of them alone, as a curve over N.

Both sides use the same loop, settings and epochs, and stop early: the joint run when its validation accuracy has not
risen for `patience` epochs in which all branches trained, a branch alone as soon as it is as accurate as the joint run
made it. Costs are sample passes, floating-point operations (2 a multiply-accumulate forwards, 4 backwards; at full
resolution) and seconds, validation included. AdaScale's abstract (arXiv 2412.00724) gives -66.89 % for its own
training; against what, could not be read, so it is printed beside, not compared.
"""
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from workloads import train
from workloads.alone import net_for
from workloads.branches import BranchSpec, trained
from workloads.joint_cost import FLOPS_A_MAC, path_macs
from workloads.seams import Dataset, Model, Report, Task
from workloads.settings import TrainSettings
from workloads.size import measure
from workloads.supernet import SuperNet

PUBLISHED_PCT = -66.89


class Effort(NamedTuple):
    """What a training run cost, and what it reached: validation accuracy by branch."""

    passes: int
    flops: float
    seconds: float
    epochs: int
    accuracy: dict[str, float]


class Point(NamedTuple):
    """One point of the curve. `missed` = branches that alone did not reach the joint run's accuracy in time."""

    branches: int
    joint: Effort
    alone: Effort
    missed: tuple[str, ...]

    def saved_pct(self, cost: str) -> float:
        """Change of a cost (passes, flops, seconds) by joint training, in %; below 0 is a saving."""
        return 100.0 * (getattr(self.joint, cost) / getattr(self.alone, cost) - 1.0)


def curve(task: Task, model: Model, settings: TrainSettings, seed: int, counts: Sequence[int], report: Report,
          patience: int = 3) -> list[Point]:
    """One point for each number of branches in `counts`: the model's first N, the full one included."""
    data, specs = task.load(), trained(model.branches())
    points = []
    for count in sorted({min(count, len(specs)) for count in counts}):
        chosen = specs[:count]
        joint = train_jointly(task, model, chosen, data, settings, seed, report, patience)
        runs = [train_alone(task, model, spec, data, settings, seed, report, joint.accuracy[spec.id])
                for spec in chosen]
        missed = tuple(spec.id for spec, run in zip(chosen, runs, strict=True)
                       if run.accuracy[spec.id] < joint.accuracy[spec.id])
        points.append(Point(count, joint, _sum(runs), missed))
    return points


def train_jointly(task: Task, model: Model, specs: Sequence[BranchSpec], data: Dataset, settings: TrainSettings,
                  seed: int, report: Report, patience: int) -> Effort:
    """Joint training that stops when the mean validation accuracy has not risen for `patience` joint epochs."""
    torch.manual_seed(seed)
    net = model.build(task.shape, task.classes, specs)
    loss_of, flops = train.joint_loss(net, task.shape, settings), _FlopCount(net, task.shape)
    # The first epochs may train the full branch alone (joint_loss): the others, at chance then, say nothing of the end.
    before_joint = int(settings.full_share * settings.epochs) if len(specs) > 1 else 0
    best, best_epoch = dict.fromkeys((spec.id for spec in specs), 0.0), before_joint

    def stop(epoch: int) -> bool:
        nonlocal best, best_epoch
        if epoch <= before_joint:
            return False
        found = _accuracies(net, specs, data)
        if sum(found.values()) > sum(best.values()):
            best, best_epoch = found, epoch
        return epoch - best_epoch >= patience

    began = time.monotonic()                    # the log's seconds leave out what comes after the last epoch
    log = train.fit(net, loss_of, data.train, settings, seed, report, None, task.augment, stop)
    return Effort(log.passes, flops.total, time.monotonic() - began, log.epochs, best)


def train_alone(task: Task, model: Model, spec: BranchSpec, data: Dataset, settings: TrainSettings, seed: int,
                report: Report, target: float) -> Effort:
    """One branch's shape from scratch, until its validation accuracy reaches `target` or the epochs are over."""
    net = net_for(task, model, spec, seed)
    macs, reached = measure(net.extract(spec), task.shape).macs, 0.0

    def stop(_epoch: int) -> bool:
        nonlocal reached
        reached = max(reached, _accuracies(net, [spec], data)[spec.id])
        return reached >= target

    began = time.monotonic()
    log = train.fit(net, train.alone_loss(net, spec, settings), data.train, settings, seed, report, None, task.augment,
                    stop)
    return Effort(log.passes, float(FLOPS_A_MAC * macs * log.passes), time.monotonic() - began, log.epochs,
                  {spec.id: reached})


class _FlopCount:
    """Operations of joint steps: parts that branches share are computed once, and counted once."""

    def __init__(self, net: SuperNet, shape: tuple[int, ...]) -> None:
        self.total = 0.0
        self._parts = {spec.id: path_macs(net, spec, shape) for spec in net.specs}
        net.register_forward_pre_hook(self._count)

    def _count(self, _net: torch.nn.Module, inputs: tuple[torch.Tensor, Sequence[BranchSpec]]) -> None:
        x, specs = inputs
        parts = {path: macs for spec in specs for path, macs in self._parts[spec.id].items()}
        self.total += FLOPS_A_MAC * sum(parts.values()) * len(x)


def _accuracies(net: SuperNet, specs: Sequence[BranchSpec], data: Dataset) -> dict[str, float]:
    """Validation accuracy of every branch, recalibrated on a copy; the network trains on."""
    found = {}
    for spec in specs:
        plain = net.extract(spec)
        train.recalibrate(plain, data.train)
        found[spec.id] = train.accuracy(plain, data.val)
    net.train()
    return found


def _sum(runs: Sequence[Effort]) -> Effort:
    return Effort(sum(run.passes for run in runs), sum(run.flops for run in runs), sum(run.seconds for run in runs),
                  sum(run.epochs for run in runs), {key: value for run in runs for key, value in run.accuracy.items()})
