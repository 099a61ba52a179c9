"""ResNet20 for CIFAR (He et al., CVPR 2016, section 4.2): stages of 16, 32 and 64 channels, three blocks each.

Deviation: shortcuts that change the shape are 1x1 convolutions (option B), not padding. Operators may replace stage 2,
stage 3 or both, by three layers and a max-pool as in resnet18; that placement is ours. Sixteen branches.
"""
from collections.abc import Sequence

from torch import nn

from workloads.branches import BranchSpec, early_exit, eight_bit, full, narrow, operators, uniform
from workloads.models.operators import OPERATORS, chain
from workloads.seams import Model
from workloads.supernet import Shape, SuperNet, residual

CHANNELS = (16, 32, 64)


class Resnet20(Model):
    # The full branch alone first, at half resolution, then at full: such an epoch takes half the time of a joint one or
    # less, and on a network this small every branch takes from the full one what it shares with it. The tail gives the
    # others back some of what they lost to it, and costs the full one little: 0.1 points on validation data.
    training = {"epochs": 40, "batch": 128, "lr": 0.15, "sampled": 2, "branch_weight": 0.5,  # noqa: RUF012
                "half_epochs": 10, "full_share": 0.5, "tail_epochs": 6, "tail_lr": 0.06, "tail_weight": 0.3}
    slots = (2, 3)

    def branches(self) -> tuple[BranchSpec, ...]:
        return (full(3), early_exit(2), early_exit(1), narrow(0.5, 3), narrow(0.5, 3, depth=2),
                *(uniform(3, name, self.slots) for name in OPERATORS),
                operators(3, stage2="dpconv", stage3="inception2"), operators(3, stage2="inception2", stage3="dpconv"),
                operators(3, stage3="inception2"), operators(3, stage3="dpconv"), operators(3, stage3="svd"),
                eight_bit(3))

    def build(self, shape: tuple[int, ...], classes: int, specs: Sequence[BranchSpec]) -> SuperNet:
        look = Shape(16, CHANNELS, blocks=(3, 3, 3), strides=((1, 1), (2, 2), (2, 2)), kernel=(3, 3),
                     operator=_operator)
        return residual(look, specs, shape[0], classes)


def _operator(name: str, stage: int) -> nn.Module:
    cin, cout = CHANNELS[stage - 2], CHANNELS[stage - 1]
    return chain(name, (cin, cout, cout, cout), pool=(2, 2))
