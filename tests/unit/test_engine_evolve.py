"""Weights derived on the device: slices, BatchNorm folded in, loads that tell their parts, recipes that do not fit."""
import json
import os
import struct
from typing import Any

import pytest

from device_agents import registry
from device_agents.seams import Engine, UserError
from device_agents.trial_folder import BadOrder, check_store
from tests.agent_kit import BRANCHES, SHAPE, make_home, onnx_bytes, order_for, put, recipe_bytes, tensors

numpy = pytest.importorskip("numpy")
pytest.importorskip("onnxruntime")
LOOK = (4, 1)                                   # channels, layers: tensors w0 (4,1,3,3), g (4,10), b (10)


def opened(tmp_path: Any, **head: Any) -> Any:
    """The engine on one branch, "full", whose recipe is `head` with the file of LOOK cut apart."""
    home = str(tmp_path / "H")
    store = os.path.join(home, "store")
    bundle = make_home(home, form="evolve")
    statistics, model, pieces, at = head.pop("statistics", b""), onnx_bytes(*LOOK, SHAPE), [], 0
    for _, _, raw in tensors(*LOOK, SHAPE):
        end = model.index(raw, at)
        pieces.append(model[at:end])
        at = end + len(raw)
    recipe = recipe_bytes(dict(head, weights=put(store, PARENT.tobytes())), statistics, [*pieces, model[at:]])
    engine = registry.load("device_agents.engines", "onnxruntime_evolve", Engine)()
    engine.open(bundle._replace(branches=(bundle.branches[0]._replace(artifact=put(store, recipe)),)), store, {})
    return engine


PARENT = numpy.random.RandomState(3).uniform(0.5, 1.5, 600).astype("<f4")
STATISTICS = numpy.array([0.1, 0.2, 0.3, 0.4, 1.0, 4.0, 9.0, 16.0], "<f4")      # mean, variance
HEAD = {"weight": [200, [4, 10], [10, 1]]}
BIAS = {"weight": [300, [10], [1]]}
#: the first 4 of 8 filters, the second of their 2 input channels; a bias, and a norm folded in
SLICED = {"weight": [9, [4, 1, 3, 3], [18, 9, 3, 1]], "bias": 500,
          "norm": {"scale": 510, "shift": 520, "statistics": 0, "eps": 1e-5}}
HOLES = [[0, 0], [1, 0], [2, 0]]


def test_a_slice_with_its_norm_is_what_the_arithmetic_says(tmp_path: Any) -> None:
    engine = opened(tmp_path, layers=[SLICED, HEAD, BIAS], holes=HOLES, statistics=STATISTICS.tobytes())
    model = engine.derive("full")
    factor = PARENT[510:514] / numpy.sqrt(STATISTICS[4:] + 1e-5)
    kernel = PARENT[:144].reshape(8, 2, 3, 3)[:4, 1:] * factor.reshape(4, 1, 1, 1)
    begin = onnx_bytes(*LOOK, SHAPE).index(tensors(*LOOK, SHAPE)[0][2])
    found = numpy.array(struct.unpack_from("<36f", model, begin)).reshape(4, 1, 3, 3)
    assert numpy.allclose(found, kernel, rtol=1e-6)
    assert len(model) == len(onnx_bytes(*LOOK, SHAPE))
    assert PARENT[200:240].tobytes() in model and PARENT[300:310].tobytes() in model


def test_the_bias_takes_the_norm_too(tmp_path: Any) -> None:
    """A norm on the last layer's ten outputs: its bias is the folded one."""
    statistics = numpy.linspace(0.1, 2.0, 20).astype("<f4")
    last = {"weight": [0, [10, 4], [4, 1]], "bias": 500, "norm": {
        "scale": 510, "shift": 520, "statistics": 0, "eps": 1e-3}}
    engine = opened(tmp_path, layers=[SLICED, HEAD, last], holes=[[0, 0], [1, 0], [2, 1]],
                    statistics=statistics.tobytes())
    factor = PARENT[510:520] / numpy.sqrt(statistics[10:] + numpy.float32(1e-3))
    expected = (PARENT[500:510] - statistics[:10]) * factor + PARENT[520:530]
    model = engine.derive("full")
    begin = onnx_bytes(*LOOK, SHAPE).index(tensors(*LOOK, SHAPE)[2][2])
    assert numpy.allclose(struct.unpack_from("<10f", model, begin), expected, rtol=1e-5)


def test_a_load_says_what_it_took_and_whether_it_was_the_first(tmp_path: Any) -> None:
    engine = opened(tmp_path, layers=[SLICED, HEAD, BIAS], holes=HOLES, statistics=STATISTICS.tobytes())
    first = engine.load("full", {})
    answers = [engine.infer("full", sample) for sample in range(5)]
    engine.unload("full")
    again = engine.load("full", {"threads": 2})
    assert (first["cold"], again["cold"]) == (True, False)
    assert min(first["derive_ms"], first["session_ms"], again["derive_ms"], again["session_ms"]) > 0
    assert [engine.infer("full", sample) for sample in range(5)] == answers


def test_it_answers_as_the_whole_files_do(tmp_path: Any) -> None:
    answers = []
    for name, form in (("onnxruntime_cpu", "onnx"), ("onnxruntime_evolve", "evolve")):
        home = str(tmp_path / form)
        bundle = make_home(home, form=form)
        engine = registry.load("device_agents.engines", name, Engine)()
        engine.open(bundle, os.path.join(home, "store"), {})
        for branch, *_ in BRANCHES:
            engine.load(branch, {})
        answers.append([engine.infer(branch, sample) for branch, *_ in BRANCHES for sample in range(bundle.count)])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("layer", [
    {"weight": [590, [4, 1, 3, 3], [9, 9, 3, 1]]}, {"weight": [-4, [4, 1, 3, 3], [9, 9, 3, 1]]}, {"weight": "no"}, {},
    dict(SLICED, norm={"scale": 599, "shift": 0, "statistics": 0, "eps": 0}),
    dict(SLICED, norm={"scale": 0, "shift": 0, "statistics": 4, "eps": 0})])
def test_a_recipe_that_does_not_fit_is_named(tmp_path: Any, layer: Any) -> None:
    engine = opened(tmp_path, layers=[layer, HEAD, BIAS], holes=HOLES, statistics=STATISTICS.tobytes())
    with pytest.raises(UserError, match="recipe of branch full"):
        engine.load("full", {})


def test_a_file_that_is_no_recipe_is_named(tmp_path: Any) -> None:
    home = str(tmp_path / "H")
    bundle = make_home(home, form="evolve")
    store = os.path.join(home, "store")
    for data in (b"\x00\xff\n", json.dumps({"format": "other"}).encode("ascii"), b""):
        engine = registry.load("device_agents.engines", "onnxruntime_evolve", Engine)()
        engine.open(bundle._replace(branches=(bundle.branches[0]._replace(artifact=put(store, data)),)), store, {})
        with pytest.raises(UserError, match="recipe of branch full"):
            engine.load("full", {})


def test_a_store_without_the_weights_is_refused(tmp_path: Any) -> None:
    home = str(tmp_path / "H")
    bundle = make_home(home, form="evolve")
    order = order_for(bundle, engine="onnxruntime_evolve")
    check_store(os.path.join(home, "store"), order)
    os.unlink(os.path.join(home, "store", bundle.files["weights.bin"]))
    with pytest.raises(BadOrder, match=bundle.files["weights.bin"]):
        check_store(os.path.join(home, "store"), order)
