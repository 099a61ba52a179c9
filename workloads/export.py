"""A trained plain network -> one ONNX file, the same bytes from any folder, checked against torch.

BatchNorm is folded into the convolutions first. The TorchScript exporter writes opset 15 and IR 8, which onnxruntime
1.10 (the last for Python 3.6, a stock Jetson Nano) loads; the newer exporter writes opset 18 and more. Called by
build.py. Refuses a file whose outputs differ from torch's by more than 1e-4.
"""
import copy
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from device_agents.seams import UserError
from workloads.models.operators import Concat
from workloads.seams import Floats

OPSET = 15
IR_VERSION = 8
TOLERANCE = 1e-4                                 # largest difference from torch, absolute, on outputs of size 1
INPUT, OUTPUT = "input", "logits"


def folded(net: nn.Module) -> nn.Module:
    """A copy in eval mode without BatchNorm, where one follows a convolution or parallel convolutions."""
    net = copy.deepcopy(net).eval()
    for parent in net.modules():
        if isinstance(parent, nn.Sequential):
            for index in range(len(parent) - 1):
                before, norm = parent[index], parent[index + 1]
                if isinstance(norm, nn.BatchNorm2d) and isinstance(before, nn.Conv2d | Concat):
                    parent[index], parent[index + 1] = _fused(before, norm), nn.Identity()
    return net


def to_onnx(net: nn.Module, shape: tuple[int, ...]) -> bytes:
    """The file's bytes, for one sample at a time. Metadata that could tell where and when it was made is stripped."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")          # the exporter announces its own retirement at every call
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(folded(net), (torch.zeros(1, *shape),), buffer, dynamo=False, opset_version=OPSET,
                          input_names=[INPUT], output_names=[OUTPUT])
    model = onnx.load_model_from_string(buffer.getvalue())
    strip(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def strip(model: onnx.ModelProto) -> None:
    """Remove documentation, producers and metadata, in place; state the IR version that old runtimes know."""
    model.ir_version = min(model.ir_version, IR_VERSION)
    model.producer_name, model.producer_version, model.doc_string = "edgefleet", "", ""
    model.graph.name = "branch"
    del model.metadata_props[:]
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info,
                 *model.graph.initializer):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]


def check_same(data: bytes, net: nn.Module, samples: Floats, branch: str) -> float:
    """Largest difference between the file's and the network's logits, relative to max(1, largest logit).

    Raises UserError above TOLERANCE, naming the branch.
    """
    session = session_of(data)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(samples)).numpy()
    found = np.concatenate([session.run([OUTPUT], {INPUT: sample[None]})[0] for sample in samples])
    worst = float(np.max(np.abs(found - expected)) / max(1.0, float(np.max(np.abs(expected)))))
    if not worst <= TOLERANCE:                   # not <=, so that NaN is refused too
        raise UserError(f"branch {branch!r}: the exported file differs from torch by {worst:.2g} (allowed "
                        f"{TOLERANCE:.0e}); the network uses something that does not survive export")
    return worst


def session_of(data: bytes) -> onnxruntime.InferenceSession:
    """A single-threaded session, for checks."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _fused(before: nn.Conv2d | Concat, norm: nn.BatchNorm2d) -> nn.Module:
    """`before` and `norm` in one: a convolution, or parallel convolutions with their part of the norm each."""
    if isinstance(before, nn.Conv2d):
        return fuse_conv_bn_eval(before, norm)
    return Concat(*(fuse_conv_bn_eval(conv, part) for conv, part in split_norm(before, norm)))


def split_norm(concat: Concat, norm: nn.BatchNorm2d) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each of the parallel convolutions with its part of the norm, in evaluation mode."""
    start = 0
    for conv in concat.parts:
        end = start + conv.out_channels
        part = nn.BatchNorm2d(conv.out_channels, eps=norm.eps).eval()
        for name, value in norm.state_dict().items():
            if value.ndim == 1:
                getattr(part, name).data.copy_(value[start:end])
        yield conv, part
        start = end
