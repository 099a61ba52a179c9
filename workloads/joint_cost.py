"""What joint training costs in floating-point operations: arithmetic from layers and settings, nothing is run or timed.

Called by build.py and overhead.py. Parts that several branches of a step share are computed once, and counted once.
Which branches a step trains is drawn (train.joint_loss), so the figure is the expectation over the draws.
"""
from collections.abc import Mapping, Sequence
from math import comb

import torch

from workloads.branches import BranchSpec
from workloads.settings import TrainSettings
from workloads.size import measure
from workloads.supernet import SuperNet

FLOPS_A_MAC = 6                                 # 2 forwards, 4 backwards: gradients of inputs and of weights

Path = tuple[object, ...]


def joint_flops(net: SuperNet, shape: tuple[int, ...], settings: TrainSettings, samples: int) -> float:
    """Of a joint training from the first epoch to the last with `samples` in each."""
    costs = {spec.id: path_macs(net, spec, shape) for spec in net.specs}
    halved = (shape[0], *(max(1, size // 2) for size in shape[1:]))
    cheaper = {spec.id: path_macs(net, spec, halved) for spec in net.specs} if settings.half_epochs else {}
    full, *others = [spec.id for spec in net.specs]
    others.sort(key=lambda name: sum(costs[name].values()))
    plain = [spec.id for spec in net.specs if not spec.operators]
    operators = [spec.id for spec in net.specs if spec.operators]
    alone, tail = int(settings.full_share * settings.epochs), max(0, settings.epochs - settings.tail_epochs)
    macs_a_sample = 0.0
    for epoch in range(settings.epochs):
        taught, drawn = (plain, operators) if epoch >= tail else ([full, *others[:1]], others[1:])
        if epoch < min(alone, tail):
            taught, drawn = [full], []
        macs_a_sample += _expected(cheaper if epoch < settings.half_epochs else costs, taught, drawn, settings.sampled)
    return FLOPS_A_MAC * macs_a_sample * samples


def path_macs(net: SuperNet, spec: BranchSpec, shape: tuple[int, ...]) -> dict[Path, int]:
    """Multiply-accumulates of a branch's parts, by the path that leads through each; branches share equal paths."""
    x, path = torch.zeros(1, *shape), (spec.width,)  # type: torch.Tensor, Path
    parts: dict[Path, int] = {}
    for number, module in enumerate(net.extract(spec).eval()):
        if number == 0:
            path = (*path, "stem")
        elif number <= spec.stages:
            path = (*path, spec.variant(number))
        else:
            path = (*path, spec.id, number)     # the head is the branch's own
        parts[path] = measure(module, tuple(x.shape[1:])).macs
        with torch.no_grad():
            x = module(x)
    return parts


def _expected(costs: Mapping[str, Mapping[Path, int]], taught: Sequence[str], drawn: Sequence[str],
              sampled: int) -> float:
    """Multiply-accumulates of a sample through `taught` and `sampled` of `drawn`, each set of them as likely."""
    macs = {path: one for name in (*taught, *drawn) for path, one in costs[name].items()}
    certain = {path for name in taught for path in costs[name]}
    sampled, total = min(sampled, len(drawn)), 0.0
    for path, one in macs.items():
        without = sum(path not in costs[name] for name in drawn)
        total += one * (1.0 if path in certain else 1.0 - comb(without, sampled) / comb(len(drawn), sampled))
    return total
