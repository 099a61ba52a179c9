"""The smallest network that has every kind of branch; trained in seconds, so that tests need not wait."""
from collections.abc import Sequence

from torch import nn

from workloads.branches import BranchSpec, early_exit, full, narrow, operators
from workloads.models.operators import chain
from workloads.seams import Model
from workloads.supernet import Shape, SuperNet, residual


class Tiny(Model):
    training = {"epochs": 1, "batch": 64, "sampled": 1}  # noqa: RUF012
    slots = (2,)

    def branches(self) -> tuple[BranchSpec, ...]:
        return (full(2), early_exit(1), narrow(0.5, 2), operators(2, stage2="dpconv"))

    def build(self, shape: tuple[int, ...], classes: int, specs: Sequence[BranchSpec]) -> SuperNet:
        look = Shape(8, (8, 16), blocks=(1, 1), strides=((2, 2), (2, 2)), kernel=(3, 3), operator=_operator,
                     stem_stride=(2, 2))
        return residual(look, specs, shape[0], classes)


def _operator(name: str, stage: int) -> nn.Module:
    return chain(name, (8, 16), (2, 2))
