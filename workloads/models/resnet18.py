"""ResNet18 in the CIFAR form (He et al., CVPR 2016; 3x3 stem without pooling), with operators in stages 3 and 4.

Operator placement follows the author code (CrowdHMT/Model-Performance-Evaluation, src/model_code/Resnet_ope.py): three
operator layers replace all blocks of a stage, without a residual connection, then a max-pool of 2 in stage 3 and
none in stage 4. dpconv is a single layer, with kernel 3 in stage 3 and 2 in stage 4, and nothing pools, so that a
16x16 map ends as 17x17. `edgefleet describe` shows that the counts agree with the authors' database.

Deviation: in combinations with another operator in stage 4, dpconv in stage 3 is followed by a pool of 2
(`pooled_dpconv`); without it the combination would cost more than the network that it compresses. Training on CIFAR
needs an accelerator.
"""
from collections.abc import Sequence

from torch import nn

from workloads.branches import BranchSpec, early_exit, eight_bit, full, narrow, operators, uniform
from workloads.models.operators import OPERATORS, chain, dpconv
from workloads.seams import Model
from workloads.supernet import Shape, SuperNet, residual

CHANNELS = (64, 128, 256, 512)


class Resnet18(Model):
    training = {"epochs": 60, "batch": 128, "lr": 0.1, "sampled": 2}  # noqa: RUF012
    slots = (3, 4)

    def branches(self) -> tuple[BranchSpec, ...]:
        return (full(4), early_exit(3), early_exit(2), narrow(0.5, 4), narrow(0.5, 4, depth=3),
                *(uniform(4, name, self.slots) for name in OPERATORS),
                operators(4, stage3="pooled_dpconv", stage4="inception2"),
                operators(4, stage3="inception2", stage4="dpconv"), operators(4, stage3="fire", stage4="svd"),
                operators(4, stage4="inception2"), operators(4, stage4="dpconv"), eight_bit(4))

    def build(self, shape: tuple[int, ...], classes: int, specs: Sequence[BranchSpec]) -> SuperNet:
        look = Shape(64, CHANNELS, blocks=(2, 2, 2, 2), strides=((1, 1), (2, 2), (2, 2), (2, 2)), kernel=(3, 3),
                     operator=_operator)
        return residual(look, specs, shape[0], classes)


def _operator(name: str, stage: int) -> nn.Module:
    cin, cout = CHANNELS[stage - 2], CHANNELS[stage - 1]
    if name == "pooled_dpconv":
        return nn.Sequential(dpconv(cin, cout), nn.MaxPool2d(2, 2))
    if name == "dpconv":
        return nn.Sequential(dpconv(cin, cout, kernel=3 if stage == 3 else 2))
    return chain(name, (cin, cout, cout, cout), pool=(2, 2) if stage == 3 else (1, 1))
