"""Size of a network: parameters, multiply-accumulates, storage and activation memory, by one forward pass.

Our convention counts the multiply-accumulates of convolutions and dense layers, and nothing else. Convention "thop"
counts as that tool does, with which the author database was made: in addition four operations an element for an
affine BatchNorm, and for adaptive pooling one an element read and one an element written. Used by describe.py, by
training (which branch is the smallest) and for the manifest.
"""
import math
from typing import NamedTuple

import torch
from torch import nn

CONVENTIONS = ("ours", "thop")


class Size(NamedTuple):
    """For one sample. `activations_b` is the largest sum of one layer's input and output, in float32."""

    params: int
    macs: int
    storage_b: int
    activations_b: int


def measure(net: nn.Module, shape: tuple[int, ...], convention: str = "ours") -> Size:
    """Size of a plain network (batch axis added here). `net` is left as it was."""
    macs = activations = 0
    leaves = [module for module in net.modules() if not list(module.children())]

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs, activations
        macs += layer_macs(module, inputs[0], output, convention)
        activations = max(activations, 4 * (inputs[0].numel() + output.numel()))

    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    was_training = net.training
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, *shape, device=device))
    finally:
        net.train(was_training)
        for handle in handles:
            handle.remove()
    params = sum(parameter.numel() for parameter in net.parameters())
    # Running statistics are stored too, until export folds them away.
    stored = sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
    return Size(params, macs, stored, activations)


def layer_macs(module: nn.Module, x: torch.Tensor, y: torch.Tensor, convention: str) -> int:
    """Multiply-accumulates of one layer that turned `x` into `y`."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return y.numel() * (module.in_channels // module.groups) * math.prod(module.kernel_size)
    if isinstance(module, nn.Linear):
        return y.numel() * module.in_features
    if convention == "thop":
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            return 4 * x.numel() if module.affine else 2 * x.numel()
        if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d):
            return y.numel() * (x[0, 0].numel() // y[0, 0].numel() + 1)
    return 0
