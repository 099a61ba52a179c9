"""A residual network for log-mel pictures of short sounds, shape (1, bands, frames); eleven branches. Ours, no paper.

The stem halves both axes, because neighbouring bands and frames say much the same. Operators may replace stage 2,
stage 3 or both.
"""
from collections.abc import Sequence

from torch import nn

from workloads.branches import BranchSpec, early_exit, eight_bit, full, narrow, operators, uniform
from workloads.models.operators import OPERATORS, chain
from workloads.seams import Model
from workloads.supernet import Shape, SuperNet, residual

CHANNELS = (32, 64, 128)


class AudioNet(Model):
    training = {"epochs": 15, "batch": 32, "lr": 0.05, "sampled": 3}  # noqa: RUF012
    slots = (2, 3)

    def branches(self) -> tuple[BranchSpec, ...]:
        return (full(3), early_exit(2), narrow(0.5, 3), narrow(0.5, 3, depth=2),
                *(uniform(3, name, self.slots) for name in OPERATORS), operators(3, stage2="dpconv", stage3="svd"),
                eight_bit(3))

    def build(self, shape: tuple[int, ...], classes: int, specs: Sequence[BranchSpec]) -> SuperNet:
        look = Shape(16, CHANNELS, blocks=(1, 1, 2), strides=((1, 1), (2, 2), (2, 2)), kernel=(3, 3),
                     operator=_operator, stem_stride=(2, 2))
        return residual(look, specs, shape[0], classes)


def _operator(name: str, stage: int) -> nn.Module:
    return chain(name, CHANNELS[stage - 2:stage], pool=(2, 2))
