"""A user's own ONNX files become a bundle, or are refused with the reason before anything is written."""
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from device_agents.seams import UserError
from workloads.bundle import find_bundle, imported_names
from workloads.export import INPUT, OUTPUT
from workloads.import_onnx import import_bundle, macs_of
from workloads.quantise import to_int8
from workloads.recipe import Recipe
from workloads.seams import Split

SHAPE = (1, 1, 32, 32)


def network(shape: tuple[object, ...] = SHAPE, classes: int = 10, opset: int = 13, hidden: int = 1,
            operator: str = "Flatten", domain: str = "", dtype: int = TensorProto.FLOAT,
            outputs: int = 1) -> onnx.ModelProto:
    """Flatten and one dense layer; `hidden` widens it, so that two files differ in MACs."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal((1024, 4 * hidden)).astype(np.float32)
    second = rng.standard_normal((classes, 4 * hidden)).astype(np.float32)
    nodes = [helper.make_node(operator, ["x"], ["flat"], domain=domain),
             helper.make_node("MatMul", ["flat", "first"], ["middle"]),
             helper.make_node("Gemm", ["middle", "second"], ["y"], transB=1)]
    values = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (shape[0], classes)),
              helper.make_tensor_value_info("middle", TensorProto.FLOAT, (shape[0], 4 * hidden))][:outputs]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", dtype, shape)], values,
                              [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")])
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def shapeless() -> onnx.ModelProto:
    model = network()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def saved(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_files_become_branches_largest_first(tmp_path: Path) -> None:
    files = [saved(tmp_path / "small.onnx", network()), saved(tmp_path / "large.onnx", network(hidden=4))]
    home = tmp_path / "home"
    folder = import_bundle(home, files, "digits", "mine", lambda _: None).folder
    large, small = folder.bundle.branches
    assert (large.id, small.id) == ("large", "small")
    assert (large.macs, small.macs) == (16 * 1024 + 16 * 10, 4 * 1024 + 4 * 10)
    assert small.params == 4 * 1024 + 4 * 10
    assert {branch.kind for branch in folder.bundle.branches} == {"imported"}
    assert 0.0 <= small.accuracy <= 0.5             # random weights
    assert folder.files[small.artifact].read_bytes() == files[0].read_bytes()
    found = find_bundle(home, Recipe("digits", "mine", 5))
    assert found is not None and found.bundle.id == folder.bundle.id
    assert imported_names(home) == ["mine"]


def test_a_float_file_comes_before_its_8_bit_form(tmp_path: Path) -> None:
    model, rng = network(), np.random.default_rng(0)
    large = saved(tmp_path / "large.onnx", model)
    calibration = Split(rng.standard_normal((4, *SHAPE[1:])).astype(np.float32), np.arange(4))
    model.graph.input[0].name = model.graph.node[0].input[0] = INPUT
    model.graph.output[0].name = model.graph.node[-1].output[0] = OUTPUT
    int8 = tmp_path / "int8.onnx"
    int8.write_bytes(to_int8(model.SerializeToString(), calibration, "int8"))
    folder = import_bundle(tmp_path / "home", [int8, large], "digits", "mine", lambda _: None).folder
    first, second = folder.bundle.branches
    assert first.macs == second.macs
    assert (first.id, first.precision, second.id, second.precision) == ("large", "float32", "int8", "int8")


def test_importing_twice_is_the_same_bundle(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.onnx", network())
    first, second = (import_bundle(tmp_path / "home", [path], "digits", "mine", lambda _: None) for _ in range(2))
    assert first.folder.bundle == second.folder.bundle


def test_a_file_too_new_for_old_devices_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.onnx", network(opset=18))
    notes = import_bundle(tmp_path / "home", [path], "digits", "mine", lambda _: None).notes
    assert "opset 18" in notes[0]


@pytest.mark.parametrize(("model", "says"), [
    (network(shape=("batch", 1, 32, 32)), r"dynamic shape \(\?, 1, 32, 32\); export it with fixed sizes"),
    (network(shape=(1, 1, 16, 64)), "takes 1x1x16x64, but one sample of the task is 1x1x32x32"),
    (network(classes=7), "the task has 10 classes"),
    (network(operator="Flatten2"), "operator Flatten2 is unknown"),
    (network(operator="Magic", domain="my.company"), r"operator my\.company\.Magic is unknown"),
    (network(dtype=TensorProto.DOUBLE), "not float32"),
    (network(outputs=2), "1 inputs and 2 outputs"),
    (shapeless(), "y is no tensor of a stated shape; export it with fixed sizes"),
])
def test_what_does_not_fit_is_refused(tmp_path: Path, model: onnx.ModelProto, says: str) -> None:
    good, bad = saved(tmp_path / "good.onnx", network()), saved(tmp_path / "bad.onnx", model)
    with pytest.raises(UserError, match=says) as caught:
        import_bundle(tmp_path / "home", [good, bad], "digits", "mine", lambda _: None)
    assert str(bad) in str(caught.value)
    assert not (tmp_path / "home").exists()


def test_a_graph_that_cannot_run_is_refused(tmp_path: Path) -> None:
    model = network()
    model.graph.initializer[0].dims[0] = 1000       # its data no longer fit its shape
    with pytest.raises(UserError, match="cannot run it"):
        import_bundle(tmp_path / "home", [saved(tmp_path / "a.onnx", model)], "digits", "mine", lambda _: None)


def test_weights_elsewhere_are_refused(tmp_path: Path) -> None:
    model = network()
    onnx.save(model, str(tmp_path / "a.onnx"), save_as_external_data=True, size_threshold=0)
    with pytest.raises(UserError, match="another file"):
        import_bundle(tmp_path / "home", [tmp_path / "a.onnx"], "digits", "mine", lambda _: None)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\x08"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(UserError, match="is no ONNX file"):
        import_bundle(tmp_path / "home", [tmp_path / "a.onnx"], "digits", "mine", lambda _: None)


def test_names_that_clash_or_mislead_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, other = saved(tmp_path / "a.onnx", network()), saved(tmp_path / "other" / "a.onnx", network(hidden=2))
    for files, name, says in (([one, other], "mine", "two files are called a"), ([], "mine", "at least one"),
                              ([one], "resnet20", "built from source"), ([one], "../x", "cannot be a name"),
                              ([tmp_path / "none.onnx"], "mine", "cannot be read")):
        with pytest.raises(UserError, match=says):
            import_bundle(tmp_path / "home", files, "digits", name, lambda _: None)


def test_macs_of_convolutions_count_groups() -> None:
    weight = numpy_helper.from_array(np.zeros((8, 2, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=4, pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8, 5, 5))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 5, 5))], [weight])
    assert macs_of(helper.make_model(graph)) == 8 * 25 * 2 * 9
