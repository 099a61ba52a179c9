"""Figure of the export: sixteen branches of resnet20 folded, written, and checked against torch; imports excluded.

Run by `make bench`. The int8 branch is quantised and calibrated, not compared with torch. Nothing is asserted.
"""
import json
import time

import numpy as np
import torch

from workloads import quantise
from workloads.branches import parent, trained
from workloads.export import check_same, to_onnx
from workloads.models.resnet20 import Resnet20
from workloads.seams import Split

SHAPE, CLASSES, CHECK_SAMPLES, CALIBRATION = (3, 32, 32), 10, 8, 128
COMMAND = "make bench (python tests/benchmarks/record.py export)"


def main() -> None:
    torch.manual_seed(0)
    model, rng = Resnet20(), np.random.default_rng(0)
    specs = model.branches()
    net = model.build(SHAPE, CLASSES, trained(specs)).eval()
    x = rng.standard_normal((CALIBRATION, *SHAPE)).astype(np.float32)
    calibration = Split(x, np.zeros(CALIBRATION, np.int64))
    to_onnx(net.extract(specs[0]), SHAPE)        # the exporter imports half of torch on first use
    files: dict[str, bytes] = {}
    worst, began = 0.0, time.perf_counter()
    for spec in trained(specs):
        plain = net.extract(spec).eval()
        files[spec.id] = to_onnx(plain, SHAPE)
        worst = max(worst, check_same(files[spec.id], plain, x[:CHECK_SAMPLES], spec.id))
    for spec in specs:
        if spec.id not in files:
            files[spec.id] = quantise.to_int8(files[parent(spec, specs).id], calibration, spec.id)
    seconds = time.perf_counter() - began
    print(json.dumps({"figure": f"export of {len(files)} branches of resnet20", "value": round(seconds, 2),
                      "target": "<= 10", "unit": "s", "command": COMMAND}))
    print(json.dumps({"figure": "largest difference of an exported branch from torch", "value": float(f"{worst:.1e}"),
                      "target": "<= 0.0001", "unit": "relative to the largest logit", "command": COMMAND}))


if __name__ == "__main__":
    main()
