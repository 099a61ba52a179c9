"""Bundles: named by content, verified on opening, written whole or not at all, found again without torch."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from device_agents.seams import UserError
from device_agents.wire import Branch, BranchBundle
from workloads.bundle import (
    BundleFolder,
    find_bundle,
    imported_names,
    open_bundle,
    recipe_path,
    write_bundle,
    write_policy,
)
from workloads.recipe import Recipe
from workloads.seams import Split

EVALUATION = Split(np.arange(8, dtype=np.float32).reshape(4, 2), np.array([0, 1, 1, 0], np.int64))


def written(home: Path, seconds: float = 1.0) -> BundleFolder:
    branches = (Branch("full", "", 0.9, 10, 5, 0, "float32", "full"),
                Branch("exit1", "", 0.8, 4, 2, 0, "float32", "exit"))
    bundle = BranchBundle("", "t", "m", 1, 2, (2,), "float32", "", "", 0, branches, {"settings": {"epochs": 1}})
    return write_bundle(home, bundle, {"full": b"FULL", "exit1": b"EXIT"}, EVALUATION, {"seconds": seconds})


def test_the_name_is_the_content(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a", seconds=1.0), written(tmp_path / "b", seconds=2.0)
    assert one.bundle == other.bundle
    assert one.path.name == one.bundle.id
    assert (one.path / "manifest.json").read_bytes() == (other.path / "manifest.json").read_bytes()


def test_opening_gives_everything_that_a_device_needs(tmp_path: Path) -> None:
    folder = written(tmp_path)
    bundle = folder.bundle
    assert set(folder.files) == {bundle.id, bundle.samples, bundle.labels, *(one.artifact for one in bundle.branches)}
    assert (bundle.count, bundle.branches[0].size_b) == (4, 4)
    assert np.array_equal(np.frombuffer(folder.files[bundle.samples].read_bytes(), "<f4"), EVALUATION.x.ravel())
    assert json.loads(folder.files[bundle.labels].read_text()) == [0, 1, 1, 0]


def test_policies_lie_beside_the_id(tmp_path: Path) -> None:
    folder = write_policy(written(tmp_path), "adascale", {"pareto": ["full"]})
    again = open_bundle(folder.path)
    assert again.bundle.id == folder.bundle.id
    assert again.policies == {"adascale": {"pareto": ["full"]}}


def test_writing_again_repairs_and_keeps_policies(tmp_path: Path) -> None:
    folder = write_policy(written(tmp_path), "fixed", {"branch": "full"})
    (folder.path / "full.onnx").write_bytes(b"half")
    assert written(tmp_path).policies == {"fixed": {"branch": "full"}}
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == [folder.bundle.id]


@pytest.mark.parametrize("name", ["full.onnx", "samples.bin", "labels.json"])
def test_a_changed_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path)
    (folder.path / name).write_bytes(b"changed")
    with pytest.raises(UserError, match=name):
        open_bundle(folder.path)
    (folder.path / name).unlink()
    with pytest.raises(UserError, match=name):
        open_bundle(folder.path)


def test_a_changed_manifest_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    manifest = folder.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("0.9", "0.99"))
    with pytest.raises(UserError, match="was changed"):
        open_bundle(folder.path)
    manifest.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        open_bundle(folder.path)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no bundle"):
        open_bundle(tmp_path)


def test_a_broken_policy_is_refused(tmp_path: Path) -> None:
    folder = write_policy(written(tmp_path), "fixed", {})
    (folder.path / "policies" / "fixed.json").write_text("{")
    with pytest.raises(UserError, match=r"fixed\.json"):
        open_bundle(folder.path)


def test_nothing_is_left_when_the_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "bundles").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot write"):
        written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bundles"]


def test_a_recipe_finds_its_bundle(tmp_path: Path) -> None:
    recipe = Recipe("digits", "resnet_digits", 1)
    assert find_bundle(tmp_path, recipe) is None
    folder = written(tmp_path)
    pointer = recipe_path(tmp_path, recipe)
    pointer.parent.mkdir()
    pointer.write_text(json.dumps({"bundle": folder.bundle.id}))
    found = find_bundle(tmp_path, recipe)
    assert found is not None and found.bundle == folder.bundle
    assert find_bundle(tmp_path, Recipe("digits", "resnet_digits", 2)) is None
    assert find_bundle(tmp_path, Recipe("digits", "resnet_digits", 1, {"epochs": 2})) is None


DAMAGED = (b"", b"not json", b'{"bundle": "01', b"[1]", b"3", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"bundle": 3}',
           b'{"bundle": "."}', b'{"bundle": "0123"}', b'{"bundle": "\\ud800"}', b'{"bundle": "%s"}' % (b"a" * 5000),
           b'{"bundle": "%s"}' % (b"0" * 64))


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_pointer_of_a_recipe_means_not_built(text: bytes, tmp_path: Path) -> None:
    recipe = Recipe("digits", "resnet_digits", 1)
    pointer = recipe_path(tmp_path, recipe)
    pointer.parent.mkdir(parents=True)
    (tmp_path / "bundles" / "manifest.json").touch()
    pointer.write_bytes(text)
    assert find_bundle(tmp_path, recipe) is None


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_pointer_of_an_import_is_named(text: bytes, tmp_path: Path) -> None:
    for name, content in (("digits-my-net.json", text), ("digits-sound.json", b'{"bundle": "0", "model": "sound"}'),
                          ("stray.json", text)):
        (tmp_path / "bundles" / "imported").mkdir(parents=True, exist_ok=True)
        (tmp_path / "bundles" / "imported" / name).write_bytes(content)
    assert imported_names(tmp_path) == ["my-net", "sound"]
    with pytest.raises(UserError, match=r"digits-my-net\.json is damaged, .* import the files of 'my-net' again"):
        find_bundle(tmp_path, Recipe("digits", "my-net", 1))


@pytest.mark.parametrize("recipe", [Recipe("digit", "resnet_digits", 1), Recipe("digits", "resnet_digit", 1)])
def test_unknown_names_list_what_there_is(recipe: Recipe) -> None:
    with pytest.raises(UserError, match=r"there is: .*digits"):
        recipe.digest()


def test_a_recipe_of_a_plugin_changes_with_its_text(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    model = tmp_path / "models" / "mine.py"
    model.write_text("X = 1\n")
    first = Recipe("digits", "mine", 1).digest([str(tmp_path)])
    model.write_text("X = 2\n")
    assert Recipe("digits", "mine", 1).digest([str(tmp_path)]) != first


@pytest.mark.parametrize(("library", "trains_anew"), [
    ("torch", True), ("numpy", True), ("onnx", False), ("onnxruntime", False)])
def test_a_library_of_another_version_makes_another_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                           library: str, trains_anew: bool) -> None:
    recipe = Recipe("digits", "resnet_digits", 1)
    before, weights = recipe.digest(), recipe.weights_digest()
    facts = tmp_path / f"{library}-99.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert recipe.digest() != before
    assert (recipe.weights_digest() != weights) == trains_anew


def test_planning_needs_no_torch() -> None:
    code = ("import sys; from workloads.recipe import Recipe; import workloads.bundle, workloads.trace_file\n"
            "Recipe('digits', 'resnet_digits', 1).digest()\n"
            "print([name for name in ('torch', 'sklearn', 'onnx', 'onnxruntime') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
