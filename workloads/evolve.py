"""The evolve form of a bundle: recipes from which a device derives each branch out of the parent's weights.

Called by adaspring's offline half; device_agents/engines/onnxruntime_evolve.py reads what is written here. Where each
tensor of a branch comes from is not stated by the networks but found: a twin of the parent, whose parameters hold
their own places, is extracted like the parent, and what arrives says where it came from. A recipe adds the branch's own
BatchNorm statistics (build.py recalibrates each) and its exported ONNX file less the tensors. Refuses networks whose
branches are no slices of the parent, and recipes that do not give the exported branch again.
"""
import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from torch import nn

from device_agents import registry
from device_agents.seams import Engine, UserError
from device_agents.wire import BranchBundle, canonical_json, sha256_of
from workloads import export, train
from workloads.bundle import BundleFolder, open_bundle, pointed, read_training, write_bundle, write_file
from workloads.derive import evaluation
from workloads.models.operators import Concat
from workloads.parent import load_parent
from workloads.recipe import load_task
from workloads.seams import Floats, Progress, Report
from workloads.supernet import SuperNet

FORMAT = "edgefleet-evolve-1"                   # the engine's
WEIGHTS, RECIPE = "weights.bin", ".recipe"
CHECK_SAMPLES = 8


class Evolved(NamedTuple):
    """A bundle in the evolve form. `seconds` and `worst` (difference from the exported branches) are its making's."""

    folder: BundleFolder
    recipes_b: int
    weights_b: int
    seconds: float
    worst: float


def evolve_bundle(home: Path, parent: BundleFolder, plugin_dirs: Sequence[str], report: Report) -> Evolved:
    """The parent's float32 branches in the evolve form, made or found again. Raises UserError."""
    key = sha256_of({"parent": parent.bundle.id, "source": sha256(Path(__file__).read_bytes()).hexdigest()})
    pointer = home / "bundles" / "evolved" / f"{key}.json"
    if path := pointed(home, pointer):
        return _described(open_bundle(path))
    folder = _build(home, parent, plugin_dirs, report)
    write_file(pointer, (canonical_json({"bundle": folder.bundle.id}) + "\n").encode("ascii"))
    return _described(folder)


def _described(folder: BundleFolder) -> Evolved:
    facts = read_training(folder, "seconds", "export_worst")
    return Evolved(folder, sum(branch.size_b for branch in folder.bundle.branches),
                   folder.files[folder.bundle.files[WEIGHTS]].stat().st_size, facts["seconds"], facts["export_worst"])


def _build(home: Path, parent: BundleFolder, plugin_dirs: Sequence[str], report: Report) -> BundleFolder:
    began, bundle = time.monotonic(), parent.bundle
    if any(branch.kind == "imported" for branch in bundle.branches):
        raise UserError(f"bundle {bundle.id[:12]} was imported: its branches share no parent to derive them from")
    net = load_parent(home, parent, plugin_dirs)
    data = load_task(bundle.task, plugin_dirs).load()
    exported = {branch.id: parent.files[branch.artifact].read_bytes() for branch in bundle.branches
                if branch.precision == "float32"}
    plains: dict[str, nn.Module] = {}
    for number, spec in enumerate(net.specs, 1):
        plains[spec.id] = net.extract(spec)
        train.recalibrate(plains[spec.id], data.train)
        per_s = number / max(1e-9, time.monotonic() - began)
        report(Progress("recalibrate", number, len(net.specs), per_s, (len(net.specs) - number) / per_s, spec.id))
    files = evolve_files(net, plains, exported)
    with TemporaryDirectory() as store:
        worst = check_same(files, exported, data.val.x[:CHECK_SAMPLES], bundle, Path(store))
    branches = tuple(branch for branch in bundle.branches if branch.id in exported)
    return write_bundle(
        home,
        bundle._replace(branches=branches, training={**bundle.training, "parent": bundle.id, "form": "evolve"}),
        {branch: files[branch + RECIPE] for branch in exported}, evaluation(parent),
        {"seconds": time.monotonic() - began, "export_worst": worst}, files)


def evolve_files(net: SuperNet, plains: Mapping[str, nn.Module], exported: Mapping[str, bytes]) -> dict[str, bytes]:
    """`weights.bin` and `<branch>.recipe`, for every branch of `net`.

    `plains` are its extracted branches with the statistics that they are to have, `exported` their ONNX files.
    """
    weights = b"".join(_bytes(parameter) for parameter in net.parameters())
    digest, twin = sha256(weights).hexdigest(), copy.deepcopy(net).double()
    start = 0
    for parameter in twin.parameters():
        parameter.data = torch.arange(start, start + parameter.numel(), dtype=torch.float64).reshape(parameter.shape)
        start += parameter.numel()
    files = {WEIGHTS: weights}
    for spec in net.specs:
        with _doubles():                        # float32 cannot count beyond 2**24 elements
            layers, statistics = _layers(spec.id, plains[spec.id], twin.extract(spec))
        holes, pieces = _cut(spec.id, exported[spec.id], list(layers))
        head = {"format": FORMAT, "weights": digest, "layers": list(layers.values()), "holes": holes,
                "statistics": len(statistics) // 4, "pieces": [len(piece) for piece in pieces]}
        files[spec.id + RECIPE] = b"".join([canonical_json(head).encode("ascii"), b"\n", statistics, *pieces])
    return files


def check_same(files: Mapping[str, bytes], exported: Mapping[str, bytes], samples: Floats, bundle: BranchBundle,
               store: Path) -> float:
    """Largest difference between derived and exported branches, relative to max(1, largest logit).

    The device's own engine derives them, from `files` written to the folder `store`. UserError above export.TOLERANCE.
    """
    for data in files.values():
        (store / sha256(data).hexdigest()).write_bytes(data)
    (store / "samples").write_bytes(np.zeros(bundle.shape, np.float32).tobytes())
    engine = registry.load("device_agents.engines", "onnxruntime_evolve", Engine)()
    engine.open(bundle._replace(
        training={"form": "evolve"}, samples="samples", count=1, dtype="float32",
        branches=tuple(branch._replace(artifact=sha256(files[branch.id + RECIPE]).hexdigest())
                       for branch in bundle.branches if branch.id in exported)), str(store), {})
    worst = 0.0
    for branch, data in exported.items():
        expected, found = (np.concatenate([session.run([export.OUTPUT], {export.INPUT: sample[None]})[0]
                                           for sample in samples])
                           for session in (export.session_of(data), export.session_of(engine.derive(branch))))
        differs = float(np.max(np.abs(found - expected)) / max(1.0, float(np.max(np.abs(expected)))))
        if not differs <= export.TOLERANCE:
            raise UserError(f"branch {branch!r}, derived from the parent's weights, differs from its exported file by "
                            f"{differs:.2g} (allowed {export.TOLERANCE:.0e}); build the bundle again on this machine")
        worst = max(worst, differs)
    return worst


def _layers(branch: str, plain: nn.Module, places: nn.Module) -> tuple[dict[str, dict[str, Any]], bytes]:
    """Entries of a recipe by the layer's name, and the branch's BatchNorm statistics that they point into."""
    layers: dict[str, dict[str, Any]] = {}
    statistics = b""
    for (name, _, norm), (_, place, norm_place) in zip(_units(plain), _units(places), strict=True):
        layer: dict[str, Any] = {"weight": _slice(f"{branch}: {name}", place.weight)}
        if place.bias is not None:
            layer["bias"] = _start(f"{branch}: {name}", place.bias)
        if norm is not None and norm_place is not None:
            layer["norm"] = {"scale": _start(f"{branch}: {name}", norm_place.weight), "eps": norm.eps,
                             "shift": _start(f"{branch}: {name}", norm_place.bias), "statistics": len(statistics) // 4}
            statistics += _bytes(norm.running_mean) + _bytes(norm.running_var)
        layers[name] = layer
    return layers, statistics


def _units(net: nn.Module) -> Iterator[tuple[str, Any, nn.BatchNorm2d | None]]:
    """Every convolution and dense layer by name, with the BatchNorm that export.folded() puts into it."""
    norms: dict[nn.Module, nn.BatchNorm2d] = {}
    for parent in net.modules():
        for before, norm in pairwise(parent) if isinstance(parent, nn.Sequential) else ():
            if isinstance(norm, nn.BatchNorm2d) and isinstance(before, nn.Conv2d | Concat):
                norms.update(export.split_norm(before, norm) if isinstance(before, Concat) else [(before, norm)])
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module, norms.get(module)


def _slice(name: str, places: torch.Tensor) -> tuple[int, list[int], list[int]]:
    """First element, shape and strides, in elements of the weights file, of a tensor that holds its places."""
    found = places.detach().numpy()
    start = int(found.flat[0])
    strides = [int(np.take(found, min(1, size - 1), axis).flat[0]) - start for axis, size in enumerate(found.shape)]
    grid = np.indices(found.shape, sparse=True)
    expected = start + sum(step * index for step, index in zip(strides, grid, strict=True))
    if not np.array_equal(found, expected) or any(
            size > 1 and step < 1 for size, step in zip(found.shape, strides, strict=True)):
        raise UserError(f"branch {name} is no slice of the parent's weights; this network has no evolve form")
    return start, list(found.shape), strides


def _start(name: str, places: torch.Tensor) -> int:
    start, _, strides = _slice(name, places)
    if strides not in ([1], [0]):
        raise UserError(f"branch {name}: a vector with gaps in the parent's weights; this network has no evolve form")
    return start


def _cut(branch: str, data: bytes, layers: Sequence[str]) -> tuple[list[tuple[int, int]], list[bytes]]:
    """An ONNX file cut apart where its tensors are: (layer, 0 weight | 1 bias) for each, and what lies around them."""
    holes, pieces, position = [], [], 0
    for tensor in onnx.load_model_from_string(data).graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue                            # shapes and axes: they stay
        layer, _, part = tensor.name.rpartition(".")
        tensor.ClearField("doc_string")        # the one field after the raw data
        text = bytes(tensor.SerializeToString(deterministic=True))
        at = data.find(text, position)
        if layer not in layers or part not in ("weight", "bias") or at < 0 or not text.endswith(tensor.raw_data):
            raise UserError(f"branch {branch}: tensor {tensor.name!r} of its ONNX file belongs to no layer that is "
                            "derived; this network has no evolve form")
        end = at + len(text)
        pieces.append(data[position:end - len(tensor.raw_data)])
        holes.append((layers.index(layer), int(part == "bias")))
        position = end
    return holes, [*pieces, data[position:]]


def _bytes(tensor: Any) -> bytes:
    return bytes(tensor.detach().cpu().numpy().astype("<f4").tobytes())


@contextmanager
def _doubles() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
