"""8-bit static quantisation of an exported branch, calibrated on training samples. Called by build.py.

Weights a channel, activations a tensor, both signed, as QuantizeLinear/DequantizeLinear pairs: every runtime since
onnxruntime 1.10 turns them into integer kernels where it has some. Whether that is faster is for measurements on the
device to say; on a CPU without integer dot products it often is not. The file is deterministic.
"""
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from device_agents.seams import UserError
from workloads.export import INPUT, OUTPUT, session_of, strip
from workloads.seams import Floats, Split

CALIBRATION_SAMPLES = 128
PRECISION = "int8"
#: What is worth quantising; everything else stays in float32.
OPERATORS = ["Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "Concat"]


class _Reader(CalibrationDataReader):
    """Samples one by one, as the quantiser wants them."""

    def __init__(self, samples: Floats) -> None:
        self._samples: Iterator[Floats] = iter(samples)

    def get_next(self) -> dict[str, Any] | None:
        sample = next(self._samples, None)
        return None if sample is None else {INPUT: sample[None]}


def to_int8(data: bytes, train: Split, branch: str) -> bytes:
    """The quantised file of an exported branch's. Raises UserError when the result cannot be run."""
    rows = np.linspace(0, len(train.y) - 1, min(CALIBRATION_SAMPLES, len(train.y))).astype(int)
    level = logging.getLogger().level
    with tempfile.TemporaryDirectory(prefix="edgefleet-") as folder:
        target = Path(folder) / "int8.onnx"
        try:
            logging.getLogger().setLevel(logging.ERROR)     # advice on preprocessing, on the root logger
            quantize_static(onnx.load_model_from_string(data), str(target), _Reader(train.x[rows]),
                            quant_format=QuantFormat.QDQ, op_types_to_quantize=OPERATORS, per_channel=True,
                            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8)
            model = onnx.load(str(target))
        finally:
            logging.getLogger().setLevel(level)
    strip(model)
    made = bytes(model.SerializeToString(deterministic=True))
    logits = session_of(made).run([OUTPUT], {INPUT: train.x[:1]})[0]
    if not np.isfinite(logits).all():
        raise UserError(f"branch {branch!r}: its 8-bit form gives no finite numbers")
    return made


def accuracy_of(data: bytes, split: Split) -> float:
    """Share of samples that an ONNX file of one input classifies rightly, 0..1."""
    session = session_of(data)
    name = session.get_inputs()[0].name
    found = [int(session.run(None, {name: sample[None]})[0].argmax()) for sample in split.x]
    return float(np.mean(np.asarray(found) == split.y))
