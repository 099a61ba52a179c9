"""The evolve form: what a device derives from the parent's weights is what was exported, for every kind of branch."""
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from device_agents import registry
from device_agents.seams import Engine, UserError
from tests.network_kit import HALVES, two_stages, write_plugins
from workloads.branches import early_exit, full, narrow, uniform
from workloads.build import build_bundle
from workloads.bundle import MANIFEST, TRAINING, BundleFolder, open_bundle
from workloads.evolve import RECIPE, WEIGHTS, evolve_bundle, evolve_files
from workloads.export import session_of, to_onnx
from workloads.methods.adaspring import Adaspring
from workloads.models.operators import OPERATORS, chain
from workloads.recipe import Recipe
from workloads.seams import DeviceCase, Prepared
from workloads.supernet import Shape, SuperNet, residual

torch.set_num_threads(1)                        # tiny networks: a second thread only waits
BRANCHES = ("full(2), eight_bit(2), early_exit(1), narrow(0.5, 2), narrow(0.5, 2, depth=1), "
            "*(uniform(2, name, self.slots) for name in OPERATORS),")


@pytest.fixture
def built(tmp_path: Path) -> tuple[BundleFolder, tuple[str, ...]]:
    texts = {"tasks/halves.py": HALVES, "models/every.py": two_stages(BRANCHES, epochs=1)}
    plugins = (write_plugins(tmp_path / "my_plugins", texts),)
    return build_bundle(tmp_path, Recipe("halves", "every", 1), [], lambda _: None, plugins).folder, plugins


def prepared(home: Path, parent: BundleFolder, plugins: Sequence[str], **settings: Any) -> Prepared:
    return Adaspring().prepare(DeviceCase(home, parent, "host", {}, None, 0.0, settings, 1, tuple(plugins)),
                               lambda _: None)


def opened(folder: BundleFolder, store: Path) -> Any:
    """The engine on a store as the push makes it."""
    store.mkdir()
    for digest, path in folder.files.items():
        (store / digest).write_bytes(path.read_bytes())
    engine = registry.load("device_agents.engines", "onnxruntime_evolve", Engine)()
    engine.open(folder.bundle, str(store), {})
    return engine


def test_every_derived_branch_is_the_exported_one(tmp_path: Path, built: Any) -> None:
    parent, plugins = built
    made = prepared(tmp_path, parent, plugins, form="evolve")
    folder = made.bundle
    assert folder is not None
    assert open_bundle(folder.path) == folder
    engine = opened(folder, tmp_path / "store")
    samples = np.frombuffer(folder.files[folder.bundle.samples].read_bytes(), "<f4").reshape(-1, 1, 1, 8, 8)
    exported = {branch.id: branch for branch in parent.bundle.branches if branch.precision == "float32"}
    assert [branch.id for branch in folder.bundle.branches] == list(exported)
    for branch in folder.bundle.branches:
        source = exported[branch.id]
        assert branch == source._replace(artifact=branch.artifact, size_b=branch.size_b)
        sessions = [session_of(data) for data in (parent.files[source.artifact].read_bytes(), engine.derive(branch.id))]
        one, other = ([session.run(None, {"input": sample})[0] for sample in samples] for session in sessions)
        assert np.allclose(one, other, rtol=1e-4, atol=1e-5), branch.id
        parts = engine.load(branch.id, {})
        assert not parts["cold"]                # derive() above was the first time
        assert min(parts["derive_ms"], parts["session_ms"]) > 0
        assert [engine.infer(branch.id, number) for number in range(3)] == [int(one[n].argmax()) for n in range(3)]
    assert opened(folder, tmp_path / "again").load("full", {})["cold"]


def test_what_the_bundle_says_and_costs(tmp_path: Path, built: Any) -> None:
    parent, plugins = built
    made = prepared(tmp_path, parent, plugins, form="evolve")
    folder = made.bundle
    assert folder is not None
    bundle = folder.bundle
    assert bundle.training["parent"] == parent.bundle.id
    assert bundle.training["form"] == "evolve"
    assert (bundle.samples, bundle.labels, bundle.count) == (
        parent.bundle.samples, parent.bundle.labels, parent.bundle.count)
    assert set(bundle.files) == {WEIGHTS, *(branch.id + RECIPE for branch in bundle.branches)}
    assert set(bundle.files.values()) < set(folder.files)          # so that they are pushed
    assert not list(folder.path.glob("*.onnx"))
    assert made.budget["bytes"] == sum(folder.files[digest].stat().st_size for digest in bundle.files.values())
    assert made.budget["search_s"] > 0
    samples = made.budget["passes"] / len(bundle.branches)          # that recalibrated each branch: whole batches
    assert 0 < samples <= parent.bundle.training["samples"]["train"]
    assert made.budget["flops"] == 2 * samples * sum(branch.macs for branch in bundle.branches)
    assert made.settings == {"branches": [branch.id for branch in bundle.branches]}
    assert any("leaves out int8" in line for line in made.log)
    assert "files" not in (parent.path / "manifest.json").read_text()   # ids of other bundles stay what they were


def test_it_is_made_once(tmp_path: Path, built: Any) -> None:
    parent, plugins = built
    first = evolve_bundle(tmp_path, parent, plugins, lambda _: None)
    told: list[Any] = []
    assert evolve_bundle(tmp_path, parent, plugins, told.append) == first
    assert not told
    [pointer] = (tmp_path / "bundles" / "evolved").iterdir()
    sound = pointer.read_bytes()
    for text in (sound[:20], b"[]", b"{}", b'{"bundle": 1}', b"\xff"):
        pointer.write_bytes(text)
        assert evolve_bundle(tmp_path, parent, plugins, told.append).folder == first.folder
        assert told and pointer.read_bytes() == sound
        told.clear()
    (first.folder.path / MANIFEST).unlink()
    again = evolve_bundle(tmp_path, parent, plugins, told.append)
    assert told and again.folder == first.folder
    (first.folder.path / TRAINING).write_text("{}")
    with pytest.raises(UserError, match=r"training\.json is missing or damaged; delete .* and build again"):
        evolve_bundle(tmp_path, parent, plugins, told.append)
    shutil.rmtree(first.folder.path)
    assert evolve_bundle(tmp_path, parent, plugins, told.append).folder == first.folder


def test_selecting_needs_nothing_and_other_forms_are_named(tmp_path: Path, built: Any) -> None:
    parent, plugins = built
    assert prepared(tmp_path, parent, plugins) == prepared(tmp_path, parent, plugins, form="select") == Prepared()
    with pytest.raises(UserError, match="select, evolve"):
        prepared(tmp_path, parent, plugins, form="evolved")


def test_statistics_that_are_not_the_exported_ones_are_refused(tmp_path: Path, built: Any,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    parent, plugins = built
    monkeypatch.setattr("workloads.train.recalibrate", lambda net, _: net.eval())
    before = sorted((tmp_path / "bundles").iterdir())
    with pytest.raises(UserError, match="differs from its exported file"):
        evolve_bundle(tmp_path, parent, plugins, lambda _: None)
    assert sorted((tmp_path / "bundles").iterdir()) == before


def test_an_imported_bundle_has_no_parent_to_derive_from(tmp_path: Path, built: Any) -> None:
    folder, plugins = built
    branches = tuple(branch._replace(kind="imported") for branch in folder.bundle.branches)
    imported = folder._replace(bundle=folder.bundle._replace(branches=branches))
    with pytest.raises(UserError, match="was imported"):
        evolve_bundle(tmp_path, imported, plugins, lambda _: None)


class Turning(SuperNet):
    """Branches with channels in another order are no slice of the parent."""

    def extract(self, spec: Any) -> nn.Sequential:
        plain = super().extract(spec)
        plain[0][0].weight.data = plain[0][0].weight.data.flip(0)
        return plain


def test_a_network_whose_branches_are_no_slices_is_refused() -> None:
    specs = (full(1), narrow(0.5, 1))
    net = residual(Shape(4, (4,), (1,), ((1, 1),), (3, 3), lambda name, stage: nn.Identity()), specs, 1, 2)
    net.__class__ = Turning
    plains = {spec.id: net.extract(spec).eval() for spec in specs}
    with pytest.raises(UserError, match="no slice of the parent's weights"):
        evolve_files(net, plains, {branch: to_onnx(plain, (1, 8, 8)) for branch, plain in plains.items()})


def test_a_file_with_other_tensors_is_refused() -> None:
    specs = (full(2), early_exit(1), *(uniform(2, name, (2,)) for name in OPERATORS))
    net = residual(Shape(4, (4, 8), (1, 1), ((1, 1), (2, 2)), (3, 3), lambda name, stage: chain(name, (4, 8), (2, 2))),
                   specs, 1, 2)
    plains = {spec.id: net.extract(spec).eval() for spec in specs}
    exported = {branch: to_onnx(plain, (1, 8, 8)) for branch, plain in plains.items()}
    model = onnx.load_model_from_string(exported["full"])
    model.graph.initializer[0].name = "mine"
    with pytest.raises(UserError, match="'mine'"):
        evolve_files(net, plains, {**exported, "full": model.SerializeToString()})
