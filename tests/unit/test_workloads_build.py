"""From a user's own task, model and method, a file each, to a bundle: built once, reused, resumed, never half there."""
import shutil
from pathlib import Path

import pytest
import torch

from device_agents.seams import UserError
from tests.network_kit import HALVES, two_stages, write_plugins
from workloads.build import build_bundle
from workloads.bundle import TRAINING, open_bundle
from workloads.parent import load_parent
from workloads.recipe import Recipe
from workloads.seams import Progress

torch.set_num_threads(1)                        # tiny networks: a second thread only waits

METHOD = '''"""No paper."""
from workloads.seams import Method

class Best(Method):
    def policy(self, bundle):
        return {"branch": max(bundle.branches, key=lambda one: one.accuracy).id}
'''
BRANCHES = ["full", "int8", "exit1", "width50", "fire-s2"]
RECIPE = Recipe("halves", "small", 3)


@pytest.fixture
def plugins(tmp_path: Path) -> list[str]:
    pools = {f"models/pool{size}.py": two_stages().replace("(stage, stage))", f"({size}, {size}))") for size in (8, 16)}
    texts = {"tasks/halves.py": HALVES, "models/small.py": two_stages(), "methods/best.py": METHOD, **pools}
    return [write_plugins(tmp_path / "my_plugins", texts)]


def test_a_users_task_and_model_become_a_bundle_and_are_found_again(tmp_path: Path, plugins: list[str]) -> None:
    told: list[Progress] = []
    made = build_bundle(tmp_path, RECIPE, ["best", "adascale"], told.append, plugins)
    bundle = made.folder.bundle
    assert not made.reused
    assert [one.id for one in bundle.branches] == BRANCHES
    assert (bundle.task, bundle.model, bundle.seed, bundle.count, bundle.shape) == ("halves", "small", 3, 24, (1, 8, 8))
    assert min(branch.accuracy for branch in bundle.branches) >= 0.7
    assert {one.step for one in told} == {"train", "export"}
    int8 = bundle.branches[1]
    assert (int8.precision, int8.macs) == ("int8", bundle.branches[0].macs)
    assert set(made.folder.policies) == {"best", "adascale"}
    assert open_bundle(made.folder.path) == made.folder

    again = build_bundle(tmp_path, RECIPE, ["best"], told.append, plugins)
    assert again.reused
    assert again.folder == made.folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["weights"]    # no checkpoint is left


def test_an_export_that_is_made_anew_trains_nothing(tmp_path: Path, plugins: list[str]) -> None:
    first = build_bundle(tmp_path, RECIPE, [], lambda _: None, plugins)
    shutil.rmtree(tmp_path / "bundles")
    steps: list[Progress] = []
    second = build_bundle(tmp_path, RECIPE, [], steps.append, plugins)
    assert {step.step for step in steps} == {"export"}
    assert any("reused the trained weights" in line for line in second.log)
    assert second.folder.bundle == first.folder.bundle
    net = load_parent(tmp_path, second.folder, plugins)
    facts = second.folder.path / TRAINING
    kept = facts.read_text()
    for damaged in ("", "[]", None):
        facts.unlink() if damaged is None else facts.write_text(damaged)
        with pytest.raises(UserError, match=r"training\.json is missing or damaged; delete .* and build again"):
            load_parent(tmp_path, second.folder, plugins)
    facts.write_text(kept)
    next((tmp_path / "cache" / "weights").iterdir()).write_bytes(b"cut sho")
    with pytest.raises(UserError, match=r"gone or do not fit; delete .* and build again"):
        load_parent(tmp_path, second.folder, plugins)
    assert net.specs[0].id == "full"


def test_the_same_recipe_gives_the_same_bundle_elsewhere(tmp_path: Path, plugins: list[str]) -> None:
    one, other = (build_bundle(tmp_path / name, RECIPE, [], lambda _: None, plugins).folder for name in ("a", "b/c"))
    assert one.bundle.id == other.bundle.id


def test_a_method_can_be_added_to_a_bundle_that_is_there(tmp_path: Path, plugins: list[str]) -> None:
    first = build_bundle(tmp_path, RECIPE, [], lambda _: None, plugins)
    second = build_bundle(tmp_path, RECIPE, ["fixed"], lambda _: None, plugins)
    assert second.reused
    assert second.folder.bundle.id == first.folder.bundle.id
    assert second.folder.policies == {"fixed": {"branch": "full"}}


def test_a_killed_build_leaves_no_bundle_and_goes_on(tmp_path: Path, plugins: list[str],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.checkpoint.CHECKPOINT_EVERY_S", 0.0)
    whole = build_bundle(tmp_path / "whole", RECIPE, [], lambda _: None, plugins)

    def killed(progress: Progress) -> None:
        if progress.step == "train" and progress.done == progress.total:    # in the last epoch, which is not saved
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_bundle(tmp_path, RECIPE, [], killed, plugins)
    assert not (tmp_path / "bundles").exists()
    resumed = build_bundle(tmp_path, RECIPE, [], lambda _: None, plugins)
    assert any("went on from epoch" in line for line in resumed.log)
    assert resumed.folder.bundle.id == whole.folder.bundle.id


@pytest.mark.parametrize(("recipe", "methods", "says"), [
    (RECIPE._replace(training={"epoch": 1}), [], "Did you mean 'epochs'"),
    (RECIPE._replace(task="quarters"), [], "halves"),
    (RECIPE._replace(model="operators", task="digits"), [], "exactly one class"),
    (RECIPE, ["bets"], "best"),
    (RECIPE._replace(model="pool16"), [], r"pool16 cannot take samples of halves \(1x8x8\): .*Choose another model"),
    (RECIPE._replace(model="pool8", training={"half_epochs": 1}), [],
     r"pool8 cannot take samples of halves \(1x4x4 at half resolution, which training\.half_epochs asks for\)"),
])
def test_mistakes_leave_nothing_behind(tmp_path: Path, plugins: list[str], recipe: Recipe, methods: list[str],
                                       says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_bundle(tmp_path, recipe, methods, lambda _: None, plugins)
    left = [path.name for path in tmp_path.iterdir() if path.name != "my_plugins"]
    assert not left
