"""Export: BatchNorm folded, the same bytes from two folders, old runtimes can read it, differences are refused."""
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from device_agents.seams import UserError
from workloads.export import IR_VERSION, OPSET, check_same, folded, session_of, to_onnx
from workloads.models.operators import OPERATORS
from workloads.models.resnet_digits import ResnetDigits
from workloads.quantise import to_int8
from workloads.seams import Split

torch.set_num_threads(1)                        # tiny networks: a second thread only waits
SHAPE = (1, 16, 16)
EXPORT = """
import sys, torch
from workloads.export import to_onnx
from workloads.models.resnet_digits import ResnetDigits
torch.manual_seed(3)
net = ResnetDigits().build((1, 16, 16), 10, ResnetDigits().branches())
sys.stdout.buffer.write(to_onnx(net.extract(net.specs[5]), (1, 16, 16)))
"""


def shaken(net: nn.Module) -> nn.Module:
    """`net` in eval mode with BatchNorm statistics that matter."""
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.data.normal_()
            norm.running_var.data.uniform_(0.5, 2.0)
    return net.eval()


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_folding_keeps_the_outputs_and_leaves_no_norm(name: str) -> None:
    torch.manual_seed(1)
    net = shaken(nn.Sequential(OPERATORS[name](6, 8), nn.Flatten()))
    plain = folded(net)
    x = torch.randn(2, 6, 8, 8)
    assert torch.allclose(plain(x), net(x), atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())


def test_a_norm_with_nothing_to_fold_into_survives() -> None:
    net = shaken(nn.Sequential(nn.MaxPool2d(1), nn.BatchNorm2d(3)))
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(folded(net)(x), net(x), atol=1e-6)


def test_same_bytes_from_two_folders(tmp_path: Path) -> None:
    """Two processes that stand in, and import from, different folders."""
    root = Path(__file__).resolve().parents[2]
    running = []
    for name in ("one", "another/and deeper"):
        place = tmp_path / name
        for room in ("workloads", "device_agents"):
            shutil.copytree(root / room, place / room, ignore=shutil.ignore_patterns("__pycache__"))
        running.append(subprocess.Popen([sys.executable, "-W", "ignore", "-c", EXPORT], cwd=place,
                                        stdout=subprocess.PIPE, env={"PYTHONPATH": str(place)}))
    one, other = (process.communicate(timeout=200)[0] for process in running)
    assert one == other
    assert len(one) > 10_000


def test_old_runtimes_can_read_it_and_nothing_tells_where_it_was_made() -> None:
    torch.manual_seed(2)
    net = ResnetDigits().build(SHAPE, 10, ResnetDigits().branches())
    data = to_onnx(net.extract(net.specs[0]), SHAPE)
    model = onnx.load_model_from_string(data)
    assert model.ir_version <= IR_VERSION
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
    assert not any(node.doc_string for node in model.graph.node)
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    assert str(Path.cwd()).encode() not in data


def test_a_file_that_differs_is_refused() -> None:
    torch.manual_seed(2)
    net = ResnetDigits().build(SHAPE, 10, ResnetDigits().branches())
    plain = net.extract(net.specs[1]).eval()
    samples = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    data = to_onnx(plain, SHAPE)
    assert check_same(data, plain, samples, "exit2") <= 1e-4
    with torch.no_grad():
        plain[-1].bias[0] += 0.1
    with pytest.raises(UserError, match="exit2"):
        check_same(data, plain, samples, "exit2")


OLD = """
import sys
import numpy
import onnxruntime
runtime = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
samples = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], runtime.run(None, {runtime.get_inputs()[0].name: samples})[0])
"""


def old_python() -> Path | None:
    """The environment with Python 3.6 and onnxruntime 1.10 that `make check` sets up, where there is one."""
    path = Path(__file__).resolve().parents[2] / ".venv36" / "bin" / "python"
    found = path.exists() and subprocess.run([path, "-c", "import onnxruntime"], check=False).returncode == 0
    return path if found else None


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_last_runtime_for_python36_computes_the_same(tmp_path: Path, precision: str) -> None:
    python = old_python()
    if python is None:
        pytest.skip("no .venv36 with onnxruntime 1.10 (make check sets it up where there is a Python 3.6)")
    torch.manual_seed(2)
    net = ResnetDigits().build(SHAPE, 10, ResnetDigits().branches())
    plain = shaken(net.extract(net.specs[0]))
    samples = np.random.default_rng(0).standard_normal((4, *SHAPE)).astype(np.float32)
    data = to_onnx(plain, SHAPE)
    if precision == "int8":
        data = to_int8(data, Split(samples, np.zeros(4, np.int64)), "full")
    (tmp_path / "branch.onnx").write_bytes(data)
    np.save(tmp_path / "in.npy", samples[:1])
    subprocess.run([python, "-c", OLD, *(tmp_path / name for name in ("branch.onnx", "in.npy", "out.npy"))], check=True)
    expected = session_of(data).run(None, {"input": samples[:1]})[0]
    # Integer kernels of two runtimes may round an activation differently, by one step of a few hundred.
    largest = float(np.abs(expected).max())
    allowed = largest * (1e-4 if precision == "float32" else 0.05)
    assert np.abs(np.load(tmp_path / "out.npy") - expected).max() <= allowed
