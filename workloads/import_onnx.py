"""A user's own ONNX files -> a bundle, checked like ours; a function for scripts and notebooks.

Each file becomes a branch, named like the file. It must take one float32 sample of the task's shape at a time, with
fixed sizes, give one score a class, and consist of operators that onnxruntime knows; whatever does not fit is refused
with what to do about it, before anything is written. Accuracy is measured here, on the task's validation split.
"""
import math
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from device_agents import registry
from device_agents.seams import UserError
from device_agents.wire import Branch, BranchBundle, canonical_json
from workloads.bundle import BundleFolder, imported_path, write_bundle, write_file
from workloads.checked import load_checked
from workloads.evaluation import evaluation_samples
from workloads.export import IR_VERSION, OPSET, session_of
from workloads.quantise import accuracy_of
from workloads.recipe import load_task
from workloads.seams import Progress, Report, Task

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
QUANTISED = ("QuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger", "QLinearMatMul")
HOW_TO_EXPORT = 'torch.onnx.export(net, (torch.zeros(1, {shape}),), "branch.onnx", dynamo=False, opset_version=15)'


class Imported(NamedTuple):
    """`notes` are for people: what may matter on old devices."""

    folder: BundleFolder
    notes: tuple[str, ...]


def import_bundle(home: Path, files: Sequence[Path], task: str, name: str, report: Report,
                  plugin_dirs: Sequence[str] = ()) -> Imported:
    """Make a bundle of these files; campaigns of this home then find it as `model = ["<name>"]`. Raises UserError."""
    check_name(name)
    if name in registry.names("workloads.models", plugin_dirs):
        raise UserError(f"--name {name}: a model of that name is built from source; choose another name")
    if not files:
        raise UserError("name at least one ONNX file")
    known = load_task(task, plugin_dirs)
    checked = [_checked(Path(path), known) for path in files]
    ids = [branch.id for branch, _, _ in checked]
    double = next((one for one in ids if ids.count(one) > 1), None)
    if double:
        raise UserError(f"two files are called {double}.onnx; a branch is named like its file, so rename one")
    data, branches = load_checked(task, known), []
    for number, (branch, content, _) in enumerate(checked, 1):
        branches.append(branch._replace(accuracy=accuracy_of(content, data.val)))
        report(Progress("validate", number, len(checked), 0.0, None, branch.id))
    # An 8-bit form has the MACs of its float file, which goes first: deadlines and methods take the first for full.
    branches.sort(key=lambda one: (-one.macs, one.precision != "float32", one.id))
    bundle = BranchBundle("", task, name, 0, known.classes, known.shape, "float32", "", "", 0, tuple(branches),
                          {"imported": {branch.id: sha256(content).hexdigest() for branch, content, _ in checked}})
    folder = write_bundle(home, bundle, {branch.id: content for branch, content, _ in checked},
                          evaluation_samples(data.test), {"files": [str(path) for path in files]})
    write_file(imported_path(home, task, name),
               (canonical_json({"bundle": folder.bundle.id, "model": name}) + "\n").encode("ascii"))
    return Imported(folder, tuple(note for _, _, notes in checked for note in notes))


def check_name(name: str) -> str:
    """A name that can be a file's. Raises UserError."""
    if not name or name.startswith((".", "-")) or not all(one.isascii() and (one.isalnum() or one in "-_.")
                                                          for one in name):
        raise UserError(f"{name!r} cannot be a name: use letters, digits, '-', '_' and '.'")
    return name


def _checked(path: Path, task: Task) -> tuple[Branch, bytes, list[str]]:
    """The file as a branch without accuracy, its bytes, and notes. Raises UserError."""
    try:
        content = path.read_bytes()
        model = onnx.load_model_from_string(content)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except Exception:                           # protobuf's DecodeError, which has no typed home, and others
        raise UserError(f"{path} is no ONNX file") from None
    if not model.graph.node:
        raise UserError(f"{path} is no ONNX file, or holds an empty network")
    _check_operators(path, model)
    _check_shapes(path, model, task)
    _check_runs(path, content, task)
    params = sum(math.prod(one.dims) for one in model.graph.initializer)
    kinds = {node.op_type for node in model.graph.node}
    precision = "int8" if kinds & set(QUANTISED) else "float32"
    branch = Branch(check_name(path.stem), "", 0.0, macs_of(model), params, 0, precision, "imported")
    return branch, content, _notes(path, model)


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        if (node.domain, node.op_type) not in own and (node.domain not in DOMAINS or (
                node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type))):
            what = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise UserError(f"{path}: operator {what} is unknown to onnxruntime; export the network with standard "
                            "operators only")
    if any(one.data_location == onnx.TensorProto.EXTERNAL for one in model.graph.initializer):
        raise UserError(f"{path}: its weights lie in another file; save the network with its weights inside")


def _check_shapes(path: Path, model: onnx.ModelProto, task: Task) -> None:
    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise UserError(f"{path}: it has {len(inputs)} inputs and {len(model.graph.output)} outputs; "
                        "a branch takes one sample and gives one row of scores")
    how = HOW_TO_EXPORT.format(shape=", ".join(map(str, task.shape)))
    for value, expected in ((inputs[0], (1, *task.shape)), (model.graph.output[0], (1, task.classes))):
        if not value.type.tensor_type.HasField("shape"):
            raise UserError(f"{path}: {value.name} is no tensor of a stated shape; export it with fixed sizes: {how}")
        shape = _shape(value)
        if any(size is None for size in shape):
            shown = ", ".join("?" if size is None else str(size) for size in shape)
            raise UserError(f"{path}: {value.name} has a dynamic shape ({shown}); export it with fixed sizes: {how}")
        if value is inputs[0] and shape != expected:
            raise UserError(f"{path}: it takes {_by(shape)}, but one sample of the task is {_by(expected)}")
        if value is not inputs[0] and shape != expected:
            raise UserError(f"{path}: its output is {_by(shape)}, but the task has {task.classes} classes, so it must "
                            f"be {_by(expected)}")
    if inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise UserError(f"{path}: its input is not float32; export it with float32 inputs (weights may be anything)")


def _check_runs(path: Path, content: bytes, task: Task) -> None:
    try:
        session = session_of(content)
        sample = np.zeros((1, *task.shape), np.float32)
        scores = session.run(None, {session.get_inputs()[0].name: sample})[0]
    except Exception as error:                  # onnxruntime's own classes derive from Exception directly
        raise UserError(f"{path}: onnxruntime cannot run it: {str(error).splitlines()[0]}") from None
    if scores.shape != (1, task.classes) or not np.isfinite(scores).all():
        raise UserError(f"{path}: for a sample of zeros it gives {_by(scores.shape)} scores, or numbers that are not "
                        "finite")


def _notes(path: Path, model: onnx.ModelProto) -> list[str]:
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset <= OPSET and model.ir_version <= IR_VERSION:
        return []
    return [f"{path}: opset {opset}, IR {model.ir_version}: onnxruntime 1.10, the last for Python 3.6, reads only up "
            f"to opset {OPSET} and IR {IR_VERSION}"]


def macs_of(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of convolutions and dense layers, from inferred shapes; layers of unknown shape count 0."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    shapes.update((one.name, tuple(one.dims)) for one in graph.initializer)
    total = 0
    for node in graph.node:
        out = shapes.get(node.output[0], ()) if node.output else ()
        place = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "Gemm": 1, "MatMul": 1, "QLinearMatMul": 3}
        weight = shapes.get(node.input[place[node.op_type]], ()) if node.op_type in place else ()
        if not out or not weight or None in (*out, *weight):
            continue
        each = math.prod(weight[1:]) if "Conv" in node.op_type else _inner(node, weight)  # type: ignore[arg-type]
        total += math.prod(out) * each  # type: ignore[arg-type]
    return total


def _inner(node: onnx.NodeProto, weight: tuple[int, ...]) -> int:
    """Length of the sums of a matrix product."""
    turned = any(one.name == "transB" and one.i for one in node.attribute)
    return weight[-1] if turned else weight[-2] if len(weight) > 1 else weight[0]


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim)


def _by(shape: Sequence[int | None]) -> str:
    return "x".join(map(str, shape)) or "a single number"
