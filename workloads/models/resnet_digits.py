"""A residual network of three stages for 32x32 images of little variety, such as digits; eight branches.

Shape: basic blocks (He et al., CVPR 2016), wide, shallow and halved in size early, so that an inference is long enough
to be measured and a training run short enough to be waited for. Stage 3 can be replaced by operator chains, each
stage can be left by an exit, and a slice of half the channels runs alone.
"""
from workloads.branches import BranchSpec, early_exit, full, narrow, operators
from workloads.models.operators import chain
from workloads.seams import Model
from workloads.supernet import Block, Stage, Stem, SuperNet, widths_of

STEM = 32
CHANNELS = (64, 128, 256)
BLOCKS = (1, 1, 2)
KERNEL = (3, 3)


class ResnetDigits(Model):
    training = {"epochs": 6, "batch": 32, "lr": 0.05, "warmup": 0.2, "sampled": 2}  # noqa: RUF012

    def branches(self) -> tuple[BranchSpec, ...]:
        return (full(3), early_exit(2), narrow(0.5, 3), narrow(0.5, 3, depth=2),
                operators(3, stage3="dpconv"), operators(3, stage3="fire"), operators(3, stage3="svd"),
                operators(3, stage2="svd", stage3="dpconv"))

    def build(self, shape: tuple[int, ...], classes: int) -> SuperNet:
        specs = self.branches()
        widths = widths_of(specs)
        stages, cin = [], STEM
        for number, (channels, blocks) in enumerate(zip(CHANNELS, BLOCKS, strict=True), 1):
            layers = [Block(cin if index == 0 else channels, channels, KERNEL, (2, 2) if index == 0 else (1, 1), widths)
                      for index in range(blocks)]
            names = {name for spec in specs for stage, name in spec.operators if stage == number}
            chains = {name: chain(name, (cin, channels), (2, 2)) for name in sorted(names)}
            stages.append(Stage(layers, chains, {"": channels, **dict.fromkeys(names, channels)}))
            cin = channels
        return SuperNet(Stem(shape[0], STEM, KERNEL, (1, 1), widths), stages, specs, classes)
