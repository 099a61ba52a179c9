"""Compression of a plain network beyond operators: pruned filters, a factored dense head; and its fine-tuning.

Pruning is by magnitude and structured: whole filters inside residual blocks, the least by their Euclidean norm, go
together with the channels that read them. Single zeros would leave a file of the same size and onnxruntime just as
slow, so they would be worth nothing here. Used by offline halves; each function leaves its argument as it was, but for
finetune(), which trains in place.
"""
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from workloads import train
from workloads.seams import Report, Split
from workloads.settings import TrainSettings
from workloads.supernet import Residual


def pruned(plain: nn.Sequential, share: float) -> nn.Sequential:
    """Without `share` of the filters between the two convolutions of every residual block, at least one left."""
    plain = copy.deepcopy(plain)
    for block in plain.modules():
        if isinstance(block, Residual):
            first, norm, relu, second, *rest = block.body
            kept = max(1, round((1.0 - share) * first.out_channels))
            norms = first.weight.detach().flatten(1).norm(dim=1)
            rows = norms.sort(descending=True, stable=True).indices[:kept].sort().values
            block.body = nn.Sequential(_sliced(first, rows, slice(None)), _sliced_norm(norm, rows), relu,
                                       _sliced(second, slice(None), rows), *rest)
    return plain


def ranks(classes: int, features: int) -> list[int]:
    """Ranks of a dense layer's factors that make it smaller, among a half and a quarter of the full rank."""
    full = min(classes, features)
    return [rank for rank in sorted({max(1, full // 2), max(1, full // 4)}, reverse=True)
            if rank * (classes + features) < classes * features]


def factored(plain: nn.Sequential, rank: int) -> nn.Sequential:
    """The dense head as two of the given inner rank, by singular value decomposition."""
    plain = copy.deepcopy(plain)
    head = plain[-1]
    left, values, right = torch.linalg.svd(head.weight.detach(), full_matrices=False)
    root = values[:rank].sqrt()
    first, second = nn.Linear(head.in_features, rank, bias=False), nn.Linear(rank, head.out_features)
    first.weight.data.copy_(root[:, None] * right[:rank])
    second.weight.data.copy_(left[:, :rank] * root)
    second.bias.data.copy_(head.bias.detach())
    return nn.Sequential(*plain[:-1], first, second)


def finetune(plain: nn.Module, data: Split, settings: TrainSettings, seed: int, report: Report,
             augment: dict[str, Any]) -> train.TrainLog:
    """Cross-entropy on the labels, by the one training loop, in place."""
    def loss_of(x: torch.Tensor, y: torch.Tensor, _epoch: int, _rng: np.random.Generator) -> tuple[torch.Tensor, int]:
        return F.cross_entropy(plain(x).float(), y, label_smoothing=settings.label_smoothing), len(y)

    with _unstrided(plain):
        return train.fit(plain, loss_of, data, settings, seed, report, None, augment)


@contextmanager
def _unstrided(plain: nn.Module) -> Iterator[None]:
    """Strided 1x1 convolutions read a strided input instead, for the reason that supernet.py's SlimConv gives."""
    undo = []
    for conv in plain.modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1) and conv.stride != (1, 1):
            undo.append((conv, conv.stride, conv.register_forward_pre_hook(_every(conv.stride))))
            conv.stride = (1, 1)
    try:
        yield
    finally:
        for conv, stride, hook in undo:
            conv.stride = stride
            hook.remove()


def _every(stride: tuple[int, int]) -> Any:
    return lambda _conv, inputs: (inputs[0][..., ::stride[0], ::stride[1]],)


def _sliced(conv: nn.Conv2d, rows: Any, columns: Any) -> nn.Conv2d:
    weight = conv.weight.detach()[rows][:, columns]
    made = nn.Conv2d(weight.shape[1], weight.shape[0], conv.kernel_size, conv.stride, conv.padding, bias=False)
    made.weight.data.copy_(weight)
    return made


def _sliced_norm(norm: nn.BatchNorm2d, rows: torch.Tensor) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(len(rows), eps=norm.eps)
    made.load_state_dict({name: value[rows] if value.ndim else value for name, value in norm.state_dict().items()})
    return made
