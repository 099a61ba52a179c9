"""A residual network of three stages for 32x32 images of little variety, such as digits; eight branches.

Shape: basic blocks (He et al., CVPR 2016), wide, shallow and halved in size early, so that an inference is long enough
to be measured and a training run short enough to be waited for. Stages 2 and 3 can be replaced by one operator layer
and a pool each, stage 2 can be left by an exit, and a slice of half the channels runs alone.
"""
from collections.abc import Sequence

from torch import nn

from workloads.branches import BranchSpec, early_exit, full, narrow, operators, uniform
from workloads.models.operators import chain
from workloads.seams import Model
from workloads.supernet import Shape, SuperNet, residual

STEM, CHANNELS = 32, (64, 128, 256)


class ResnetDigits(Model):
    training = {"epochs": 6, "batch": 32, "lr": 0.05, "warmup": 0.2, "sampled": 2, "distill": 1.0}  # noqa: RUF012
    slots = (2, 3)

    def branches(self) -> tuple[BranchSpec, ...]:
        return (full(3), early_exit(2), narrow(0.5, 3), narrow(0.5, 3, depth=2),
                *(uniform(3, name, self.slots) for name in ("dpconv", "fire", "svd")),
                operators(3, stage2="svd", stage3="dpconv"))

    def build(self, shape: tuple[int, ...], classes: int, specs: Sequence[BranchSpec]) -> SuperNet:
        look = Shape(STEM, CHANNELS, blocks=(1, 1, 2), strides=((2, 2),) * 3, kernel=(3, 3), operator=_operator)
        return residual(look, specs, shape[0], classes)


def _operator(name: str, stage: int) -> nn.Module:
    return chain(name, CHANNELS[stage - 2:stage], pool=(2, 2))
