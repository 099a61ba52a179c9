"""The multi-branch network that all models are made of: slices, exits and operator slots over shared weights.

A stage holds residual blocks whose channels can be sliced, and operator chains that may replace them. Branches of
one width are computed together and share every prefix of their paths, so that exits and operators cost little in
training. `extract` copies one branch out as a plain network of torch layers: that is what is measured, recalibrated
and exported. Each width has BatchNorm parameters of its own; each branch has its own head.
Used by models and train.py.
"""
import copy
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from workloads.branches import BranchSpec, check


def scaled(channels: int, width: float) -> int:
    """Channels that a slice of `width` keeps, at least one."""
    return max(1, round(channels * width))


class SlimConv(nn.Module):
    """Convolution without bias, then BatchNorm; the leading channels of both ends run alone at a lower width."""

    def __init__(self, cin: int, cout: int, kernel: tuple[int, int], stride: tuple[int, int],
                 widths: Iterable[float], *, slice_input: bool = True) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norms = nn.ModuleDict({_key(width): nn.BatchNorm2d(scaled(cout, width)) for width in sorted(widths)})
        self.slice_input = slice_input

    def _weight(self, width: float) -> torch.Tensor:
        cin = scaled(self.conv.in_channels, width) if self.slice_input else self.conv.in_channels
        return self.conv.weight[:scaled(self.conv.out_channels, width), :cin]

    def forward(self, x: torch.Tensor, width: float) -> torch.Tensor:
        stride = self.conv.stride
        if self.conv.kernel_size == (1, 1) and stride != (1, 1):
            # The same numbers, and no crash: torch 2.13's backward pass of a strided 1x1 convolution writes outside its
            # memory on a CPU when channels are few, the layout is channels_last and batches differ in size.
            x, stride = x[..., ::stride[0], ::stride[1]], (1, 1)
        # A slice of a 1x1 kernel in channels_last has ambiguous strides; contiguous() keeps the fast path.
        y = F.conv2d(x, self._weight(width).contiguous(), None, stride, self.conv.padding)
        return self.norms[_key(width)](y)

    def extract(self, width: float) -> nn.Sequential:
        weight = self._weight(width).detach()
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], self.conv.kernel_size, self.conv.stride,
                         self.conv.padding, bias=False)
        conv.weight.data.copy_(weight)
        return nn.Sequential(conv, copy.deepcopy(self.norms[_key(width)]))


class Residual(nn.Module):
    """A plain residual block, as extracted."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class Block(nn.Module):
    """Two convolutions and a shortcut (He et al., CVPR 2016, basic block), sliceable."""

    def __init__(self, cin: int, cout: int, kernel: tuple[int, int], stride: tuple[int, int],
                 widths: Sequence[float]) -> None:
        super().__init__()
        self.first = SlimConv(cin, cout, kernel, stride, widths)
        self.second = SlimConv(cout, cout, kernel, (1, 1), widths)
        self.shortcut = SlimConv(cin, cout, (1, 1), stride, widths) if cin != cout or stride != (1, 1) else None

    def forward(self, x: torch.Tensor, width: float) -> torch.Tensor:
        y = self.second(F.relu(self.first(x, width)), width)
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x, width)))

    def extract(self, width: float) -> nn.Module:
        body = nn.Sequential(*self.first.extract(width), nn.ReLU(), *self.second.extract(width))
        return Residual(body, nn.Identity() if self.shortcut is None else self.shortcut.extract(width))


class Stem(nn.Module):
    """First convolution: its input, the sample, is never sliced."""

    def __init__(self, cin: int, cout: int, kernel: tuple[int, int], stride: tuple[int, int],
                 widths: Sequence[float]) -> None:
        super().__init__()
        self.unit = SlimConv(cin, cout, kernel, stride, widths, slice_input=False)

    def forward(self, x: torch.Tensor, width: float) -> torch.Tensor:
        return F.relu(self.unit(x, width))

    def extract(self, width: float) -> nn.Sequential:
        return nn.Sequential(*self.unit.extract(width), nn.ReLU())


class Stage(nn.Module):
    """Residual blocks, and the operator chains that may stand in for all of them."""

    def __init__(self, blocks: Sequence[Block], operators: dict[str, nn.Module], cout: int) -> None:
        """All variants give `cout` channels, so that they combine freely across stages."""
        super().__init__()
        self.blocks, self.operators, self.cout = nn.ModuleList(blocks), nn.ModuleDict(operators), cout

    def forward(self, x: torch.Tensor, width: float, variant: str) -> torch.Tensor:
        if variant:
            return self.operators[variant](x)
        for block in self.blocks:
            x = block(x, width)
        return x

    def extract(self, width: float, variant: str) -> nn.Module:
        if variant:
            return copy.deepcopy(self.operators[variant])
        return nn.Sequential(*(block.extract(width) for block in self.blocks))


class SuperNet(nn.Module):
    """All branches of one network."""

    def __init__(self, stem: Stem, stages: Sequence[Stage], specs: Sequence[BranchSpec], classes: int) -> None:
        super().__init__()
        self.specs = check(specs, len(stages))
        self.stem, self.stages, self.classes = stem, nn.ModuleList(stages), classes
        self.heads = nn.ModuleDict({spec.id: nn.Linear(self._features(spec), classes) for spec in self.specs})

    def _features(self, spec: BranchSpec) -> int:
        last: Stage = self.stages[spec.stages - 1]
        return scaled(last.cout, spec.width)

    def forward(self, x: torch.Tensor, specs: Sequence[BranchSpec]) -> dict[str, torch.Tensor]:
        """Logits (n, classes) of each asked branch; common prefixes of their paths are computed once."""
        done: dict[tuple[object, ...], torch.Tensor] = {}
        out: dict[str, torch.Tensor] = {}
        for spec in specs:
            path: tuple[object, ...] = (spec.width,)
            if path not in done:
                done[path] = self.stem(x, spec.width)
            for number, stage in enumerate(self.stages[:spec.stages], 1):
                before, path = path, (*path, spec.variant(number))
                if path not in done:
                    done[path] = stage(done[before], spec.width, spec.variant(number))
            pooled = done[path].mean(dim=(2, 3))
            out[spec.id] = self.heads[spec.id](pooled)
        return out

    def extract(self, spec: BranchSpec) -> nn.Sequential:
        """A plain copy of one branch; shares no memory with the network."""
        parts = [self.stem.extract(spec.width)]
        parts += [stage.extract(spec.width, spec.variant(number))
                  for number, stage in enumerate(self.stages[:spec.stages], 1)]
        # New layers start on the CPU, copied ones where the network is.
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), copy.deepcopy(self.heads[spec.id])).cpu()


class Shape(NamedTuple):
    """What a residual network looks like. `operator(name, stage)` makes the layers that replace that stage."""

    stem: int                                       # channels of the first convolution
    channels: tuple[int, ...]                       # of each stage
    blocks: tuple[int, ...]                         # of each stage
    strides: tuple[tuple[int, int], ...]            # of each stage's first block
    kernel: tuple[int, int]
    operator: Callable[[str, int], nn.Module]
    stem_stride: tuple[int, int] = (1, 1)


def residual(look: Shape, specs: Sequence[BranchSpec], inputs: int, classes: int) -> SuperNet:
    """A residual network with the operator chains and widths that `specs` ask for. `inputs` = channels of a sample."""
    widths = widths_of(specs)
    stages, cin = [], look.stem
    for number, (cout, count, stride) in enumerate(zip(look.channels, look.blocks, look.strides, strict=True), 1):
        blocks = [Block(cin if index == 0 else cout, cout, look.kernel, stride if index == 0 else (1, 1), widths)
                  for index in range(count)]
        names = sorted({name for spec in specs for stage, name in spec.operators if stage == number})
        stages.append(Stage(blocks, {name: look.operator(name, number) for name in names}, cout))
        cin = cout
    return SuperNet(Stem(inputs, look.stem, look.kernel, look.stem_stride, widths), stages, specs, classes)


def _key(width: float) -> str:
    return f"w{round(1000 * width)}"                # ModuleDict keys may hold no dots


def widths_of(specs: Iterable[BranchSpec]) -> tuple[float, ...]:
    """The widths that a set of branches needs, ascending."""
    return tuple(sorted({spec.width for spec in specs}))
