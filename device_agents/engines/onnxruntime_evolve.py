"""onnxruntime on the CPU, with weights derived on the device: sliced from the parent's, BatchNorm folded in, in numpy.

A branch's artifact is a recipe (workloads/evolve.py writes it): one line of JSON, the branch's own BatchNorm
statistics as float32, and an ONNX file cut apart wherever a tensor goes. The parent's tensors lie once in the store,
in one file of float32, mapped. load() derives the tensors, joins the pieces and starts a session from those bytes; it
returns what that took: derive_ms, session_ms, and `cold`, true the first time (the recipe is then read as well).
Refuses (UserError) bundles of whole ONNX files, and recipes that do not fit their weights.
"""
import json
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from device_agents.onnx_engine import OnnxEngine, mapped
from device_agents.seams import UserError
from device_agents.wire import BranchBundle

FORMAT = "edgefleet-evolve-1"


class Recipe(NamedTuple):
    """`layers` say which part of the parent each is; `holes` = (layer, 0 weight | 1 bias) between the `pieces`."""
    weights: str                                # sha256 of the file with the parent's tensors
    layers: List[Dict[str, Any]]
    holes: List[Tuple[int, int]]
    statistics: Any                             # float32, of this branch's BatchNorms
    pieces: List[bytes]


class OnnxruntimeEvolve(OnnxEngine):
    def open(self, bundle: BranchBundle, store: str, settings: Dict[str, Any]) -> None:
        if bundle.training.get("form") != "evolve":
            raise UserError("engine onnxruntime_evolve needs a bundle in the evolve form, and %s is none: state "
                            "form = \"evolve\" for a method that makes one (adaspring), or engine onnxruntime_cpu"
                            % bundle.id[:12])
        super().open(bundle, store, settings)
        self._recipes: Dict[str, Recipe] = {}
        self._weights: Dict[str, Any] = {}      # mapped files by sha256; a bundle has one

    def load(self, branch: str, knobs: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        options, cold = self.options(knobs), branch not in self._recipes
        begun = time.perf_counter()
        model = self.derive(branch)
        derived = time.perf_counter()
        self.start_session(branch, model, options)
        return {"derive_ms": (derived - begun) * 1e3, "session_ms": (time.perf_counter() - derived) * 1e3, "cold": cold}

    def derive(self, branch: str) -> bytes:
        """The branch as an ONNX file, made now."""
        try:
            if branch not in self._recipes:
                self._recipes[branch] = _read(self.path(branch))
            recipe = self._recipes[branch]
            if recipe.weights not in self._weights:
                self._weights[recipe.weights] = mapped(self.store_path(recipe.weights))
            return _filled(recipe, self._weights[recipe.weights])
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise UserError("the recipe of branch %s is damaged or does not fit its weights (%s); build the bundle "
                            "again" % (branch, error))


def _read(path: str) -> Recipe:
    import numpy
    with open(path, "rb") as file:
        head = json.loads(file.readline().decode("ascii"))
        if head["format"] != FORMAT:
            raise ValueError("not of format %s" % FORMAT)
        statistics = numpy.frombuffer(file.read(4 * head["statistics"]), "<f4")
        pieces = [file.read(size_b) for size_b in head["pieces"]]
    return Recipe(head["weights"], head["layers"], head["holes"], statistics, pieces)


def _filled(recipe: Recipe, weights: Any) -> bytes:
    made = [_tensors(layer, recipe.statistics, weights) for layer in recipe.layers]
    parts = [recipe.pieces[0]]
    for (layer, part), piece in zip(recipe.holes, recipe.pieces[1:]):
        parts += (made[layer][part].tobytes(), piece)
    return b"".join(parts)


def _tensors(layer: Dict[str, Any], statistics: Any, weights: Any) -> Tuple[Any, Any]:
    """Weight and bias of one layer. Places count elements; a tensor is a view of the weights until it is computed."""
    import numpy
    start, shape, strides = layer["weight"]
    weight = numpy.ndarray(shape, "<f4", weights, 4 * start, [4 * step for step in strides])
    outputs, norm = shape[0], layer.get("norm")

    def vector(at: int) -> Any:
        return numpy.frombuffer(weights, "<f4", outputs, 4 * at)

    bias = numpy.zeros(outputs, "<f4") if layer.get("bias") is None else vector(layer["bias"])
    if norm is None:
        return weight, bias
    mean, variance = statistics[norm["statistics"]:][:2 * outputs].reshape(2, outputs)
    factor = vector(norm["scale"]) / numpy.sqrt(variance + numpy.float32(norm["eps"]))
    return weight * factor.reshape((outputs,) + (1,) * (len(shape) - 1)), (bias - mean) * factor + vector(norm["shift"])
