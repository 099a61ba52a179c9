"""A 1-D residual network for windows of inertial signals, shape (channels, 1, time); eleven branches. No paper: ours.

Convolutions run along time alone (kernel 1x5), which onnxruntime executes like any 2-D convolution. Operators come in
their 1-D form (operators.py) and may replace stage 2, stage 3 or both.
"""
from collections.abc import Sequence

from torch import nn

from workloads.branches import BranchSpec, early_exit, eight_bit, full, narrow, operators, uniform
from workloads.models.operators import OPERATORS, chain
from workloads.seams import Model
from workloads.supernet import Shape, SuperNet, residual

CHANNELS = (32, 64, 128)


class HarConv1d(Model):
    training = {"epochs": 15, "batch": 32, "lr": 0.03, "sampled": 3, "weight_decay": 1e-3}  # noqa: RUF012
    slots = (2, 3)

    def branches(self) -> tuple[BranchSpec, ...]:
        return (full(3), early_exit(2), narrow(0.5, 3), narrow(0.5, 3, depth=2),
                *(uniform(3, name, self.slots) for name in OPERATORS), operators(3, stage2="dpconv", stage3="svd"),
                eight_bit(3))

    def build(self, shape: tuple[int, ...], classes: int, specs: Sequence[BranchSpec]) -> SuperNet:
        look = Shape(32, CHANNELS, blocks=(1, 2, 2), strides=((1, 2),) * 3, kernel=(1, 5), operator=_operator)
        return residual(look, specs, shape[0], classes)


def _operator(name: str, stage: int) -> nn.Module:
    return chain(name, CHANNELS[stage - 2:stage], pool=(1, 2), dims=1)
