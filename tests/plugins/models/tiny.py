"""The smallest network that has every kind of branch; trained in seconds, so that tests need not wait. A user's plug-in."""
from workloads.branches import BranchSpec, early_exit, full, narrow, operators
from workloads.models.operators import chain
from workloads.seams import Model
from workloads.supernet import Block, Stage, Stem, SuperNet, widths_of


class Tiny(Model):
    training = {"epochs": 1, "batch": 64, "sampled": 1}  # noqa: RUF012

    def branches(self) -> tuple[BranchSpec, ...]:
        return (full(2), early_exit(1), narrow(0.5, 2), operators(2, stage2="dpconv"))

    def build(self, shape: tuple[int, ...], classes: int) -> SuperNet:
        specs = self.branches()
        widths = widths_of(specs)
        chains = {"dpconv": chain("dpconv", (8, 16), (2, 2))}
        stages = [Stage([Block(8, 8, (3, 3), (2, 2), widths)], {}, {"": 8}),
                  Stage([Block(8, 16, (3, 3), (2, 2), widths)], chains, {"": 16, "dpconv": 16})]
        return SuperNet(Stem(shape[0], 8, (3, 3), (2, 2), widths), stages, specs, classes)
