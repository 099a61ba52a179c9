"""The compression operators svd, fire, dpconv, inception1 and inception2, as layers that replace a stage's blocks.

Definitions follow the author code (CrowdHMT/Model-Performance-Evaluation, src/model_code/Resnet_ope.py): with
`k = int(beta * cin)`, every convolution has a bias, and BatchNorm and ReLU come once, at the end. The 1-D forms
(`dims=1`, for signals of shape (channels, 1, time)) are ours: a kernel loses its first axis, so that a 3x1
convolution becomes 1x1. Width and depth scaling are slices of the network itself and live in supernet.py and
branches.py. Used by models; not a network by itself.
"""
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

BETA = 0.25                                     # the author code's default shrink ratio


class Concat(nn.Module):
    """Parallel convolutions whose outputs are joined along the channels."""

    def __init__(self, *parts: nn.Conv2d) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(x) for part in self.parts], dim=1)


def _conv(cin: int, cout: int, kernel: tuple[int, int], dims: int, groups: int = 1, padding: int = -1) -> nn.Conv2d:
    """A convolution that keeps the size of the map for odd kernels; `padding` -1 = half of each kernel."""
    if dims == 1:
        kernel = (1, kernel[1])
    pads = tuple(size // 2 if padding < 0 else min(padding, size - 1) for size in kernel)
    return nn.Conv2d(cin, cout, kernel, padding=pads, groups=groups)


def _finish(cout: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(cout), nn.ReLU()


def svd(cin: int, cout: int, beta: float = BETA, dims: int = 2) -> nn.Sequential:
    """Low-rank factorisation: conv 1x3 to k channels, conv 3x1 to cout."""
    k = max(1, int(beta * cin))
    return nn.Sequential(_conv(cin, k, (1, 3), dims), _conv(k, cout, (3, 1), dims), *_finish(cout))


def fire(cin: int, cout: int, beta: float = BETA, dims: int = 2) -> nn.Sequential:
    """Channel merging (SqueezeNet): squeeze to k, expand through 1x1 and 3x3 halves."""
    k = max(1, int(beta * cin))
    half = cout // 2
    return nn.Sequential(_conv(cin, k, (1, 1), dims),
                         Concat(_conv(k, half, (1, 1), dims), _conv(k, cout - half, (3, 3), dims)), *_finish(cout))


def dpconv(cin: int, cout: int, beta: float = BETA, dims: int = 2, kernel: int = 3) -> nn.Sequential:  # noqa: ARG001
    """Depthwise separable: depthwise kernel x kernel with padding 1, then 1x1. Has no use for beta."""
    return nn.Sequential(_conv(cin, cin, (kernel, kernel), dims, groups=cin, padding=1),
                         _conv(cin, cout, (1, 1), dims), *_finish(cout))


def inception1(cin: int, cout: int, beta: float = BETA, dims: int = 2) -> nn.Sequential:
    """Bottleneck: 1x1 to k, 3x3 on k, 1x1 to cout."""
    k = max(1, int(beta * cin))
    return nn.Sequential(_conv(cin, k, (1, 1), dims), _conv(k, k, (3, 3), dims), _conv(k, cout, (1, 1), dims),
                         *_finish(cout))


def inception2(cin: int, cout: int, beta: float = BETA, dims: int = 2) -> nn.Sequential:  # noqa: ARG001
    """Parallel asymmetric convolutions: 1x3 and 3x1 halves. Has no use for beta."""
    half = cout // 2
    return nn.Sequential(Concat(_conv(cin, half, (1, 3), dims), _conv(cin, cout - half, (3, 1), dims)),
                         *_finish(cout))


OPERATORS: dict[str, Callable[..., nn.Sequential]] = {
    "svd": svd, "fire": fire, "dpconv": dpconv, "inception1": inception1, "inception2": inception2,
}


def chain(name: str, channels: tuple[int, ...], pool: tuple[int, int], beta: float = BETA,
          dims: int = 2) -> nn.Sequential:
    """Operator layers from channels[0] to channels[1] and so on, then a max-pool of `pool` ((1, 1) = none)."""
    layers: list[nn.Module] = [OPERATORS[name](cin, cout, beta, dims)
                               for cin, cout in pairwise(channels)]
    if pool != (1, 1):
        layers.append(nn.MaxPool2d(pool, pool))
    return nn.Sequential(*layers)
