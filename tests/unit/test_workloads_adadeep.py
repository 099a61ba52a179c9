"""AdaDeep's offline half on a tiny task and model of one's own: what it picks, derives, repeats and leaves alone."""
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from device_agents import registry
from device_agents.seams import UserError
from device_agents.wire import Cost
from tests.network_kit import EVERY_KIND, HALVES, two_stages, write_plugins
from workloads.build import build_bundle
from workloads.bundle import SEARCHES, TRAINING, BundleFolder, open_bundle, write_policy
from workloads.derive import derive
from workloads.methods.adadeep import DEFAULTS, ONLINE, Adadeep
from workloads.recipe import Recipe
from workloads.seams import DeviceCase, Prepared, Progress

torch.set_num_threads(1)                        # tiny networks: a second thread only waits

BRANCHES = EVERY_KIND + ' operators(2, stage1="dpconv", stage2="svd"),'
#: made up; "full" takes 10 ms
COSTS_MS = {"full": 10.0, "int8": 9.0, "exit1": 4.0, "width50": 5.0, "fire-s2": 6.0, "dpconv-s1-svd-s2": 3.0}
QUICK = {"episodes": 60, "finetune_epochs": 1}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BundleFolder, str]:
    home = tmp_path_factory.mktemp("home")
    texts = {"tasks/halves.py": HALVES, "models/small.py": two_stages(BRANCHES, slots=(1, 2))}
    plugins = write_plugins(home / "plugins", texts)
    return home, build_bundle(home, Recipe("halves", "small", 3), [], lambda _: None, [plugins]).folder, plugins


@pytest.fixture(autouse=True)
def sealed(built: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TEST_SPLIT_SEALED", "1")
    yield


def case_of(built: tuple[Path, BundleFolder, str], deadline_ms: float | None = 20.0, co_cpu_pct: float = 0.0,
            energy_mj: Any = None, **settings: Any) -> DeviceCase:
    home, folder, plugins = built
    costs = {name: Cost(name, "replay", ms, ms, 1.0, None, (energy_mj or {}).get(name), "profile")
             for name, ms in COSTS_MS.items()}
    return DeviceCase(home, folder, "board", costs, deadline_ms, co_cpu_pct, {**QUICK, **settings}, 5, (plugins,))


def prepared(*arguments: Any, **settings: Any) -> Prepared:
    return Adadeep().prepare(case_of(*arguments, **settings), lambda _: None)


def pick_of(made: Prepared) -> str:
    assert made.bundle is not None
    return str(made.bundle.bundle.training["pick"])


def test_the_derived_bundle_shares_full_and_samples_with_its_parent(built: Any) -> None:
    parent, made = built[1].bundle, prepared(built)
    assert made.bundle is not None
    bundle = made.bundle.bundle
    assert open_bundle(made.bundle.path).bundle == bundle
    assert [branch.id for branch in bundle.branches] == ["full", "adadeep"]
    assert bundle.branches[0] == parent.branches[0]
    assert (bundle.samples, bundle.labels, bundle.count) == (parent.samples, parent.labels, parent.count)
    assert (bundle.task, bundle.model, bundle.seed) == (parent.task, parent.model, parent.seed)
    assert bundle.training["parent"] == parent.id != bundle.id
    assert made.settings == {"branch": "adadeep"}


def test_an_imported_bundle_is_refused_for_want_of_weights(built: Any) -> None:
    case = case_of(built)
    branches = tuple(branch._replace(kind="imported") for branch in case.parent.bundle.branches)
    imported = case.parent._replace(bundle=case.parent.bundle._replace(branches=branches, model="mine"))
    with pytest.raises(UserError, match=r"adadeep needs trained weights, but bundle \w+ was imported"):
        Adadeep().prepare(case._replace(parent=imported), lambda _: None)


def test_a_tighter_deadline_picks_cheaper_operators(built: Any) -> None:
    loose, tight = prepared(built, 20.0, energy_weight=0.0), prepared(built, 3.5, energy_weight=0.0)
    macs = [made.bundle.bundle.branches[1].macs for made in (loose, tight) if made.bundle]
    assert macs[1] < macs[0]
    assert pick_of(tight) == "dpconv-s1-svd-s2"
    assert any("of all 9 combinations" in line for line in tight.log)


def test_load_tightens_the_deadline(built: Any) -> None:
    idle = prepared(built, 6.0, 100.0, energy_weight=0.0)
    loaded = prepared(built, 6.0, 100.0, energy_weight=0.0, budgets="load")
    assert any("latency budget 6 ms;" in line for line in idle.log)
    assert any("latency budget 3 ms = 6 ms / (1 + 100 %);" in line for line in loaded.log)
    assert pick_of(loaded) == "dpconv-s1-svd-s2"


def test_storage_and_energy_budgets_bind(built: Any) -> None:
    small = prepared(built, None, storage_x=0.3, energy_weight=0.0)
    assert small.bundle is not None
    full, adadeep = small.bundle.bundle.branches
    assert adadeep.params <= 0.35 * full.params             # BatchNorm, which storage leaves out, is among params
    assert any("latency budget none" in line for line in small.log)
    joules = dict.fromkeys(COSTS_MS, 50.0)
    frugal = prepared(built, None, energy_mj={**joules, "fire-s2": 10.0}, energy_x=0.25, energy_weight=0.0)
    assert pick_of(frugal) == "fire-s2"
    assert any("energy is profiled" in line for line in frugal.log)


def test_what_cannot_be_kept_is_said_and_missed_by_the_least(built: Any) -> None:
    made = prepared(built, 1.0)
    assert pick_of(made) == "exit1-dpconv-s1"               # the quickest, by the model of parts
    assert any("keeps the budgets" in line and "by the least" in line for line in made.log)


def test_the_same_case_gives_the_same_bundle_and_keeps_each_search(built: Any) -> None:
    one = prepared(built)
    forget(built)
    other = prepared(built)
    assert one.bundle is not None and other.bundle is not None
    assert one.bundle.bundle == other.bundle.bundle
    assert one.log == other.log
    elsewhere = Adadeep().prepare(case_of(built)._replace(device="phone"), lambda _: None)
    assert elsewhere.bundle is not None and elsewhere.bundle.bundle.id == one.bundle.bundle.id
    found = [json.loads(path.read_text()) for path in (one.bundle.path / SEARCHES).iterdir()]
    assert {"board", "phone"} <= {search["device"] for search in found}
    curve = found[0]["curve"]
    assert [row[0] for row in curve] == list(range(1, QUICK["episodes"] + 1))
    assert curve[-1][2] == max(row[1] for row in curve)


def test_what_another_search_found_is_taken_over_and_billed(built: Any) -> None:
    forget(built)
    told: list[Progress] = []
    alone = Adadeep().prepare(case_of(built), told.append)
    assert {progress.step for progress in told} == {"search", "train"}
    judged = list((built[0] / "cache" / "judged").iterdir())
    took_s = sum(seconds for _, seconds in json.loads(judged[0].read_text()).values())
    told.clear()
    after = Adadeep().prepare(case_of(built)._replace(device="phone"), told.append)
    assert {progress.step for progress in told} == {"search"}
    assert after.bundle is not None and alone.bundle is not None and after.bundle.bundle == alone.bundle.bundle
    assert {name: value for name, value in after.budget.items() if name != "search_s"} == {
        name: value for name, value in alone.budget.items() if name != "search_s"}
    assert after.budget["search_s"] > took_s
    judged[0].write_text("cut sho")              # damaged: found anew
    assert prepared(built).settings == alone.settings


def forget(built: Any) -> None:
    """Whatever searches left for others."""
    for path in (*(built[0] / "cache").glob("judged/*"), *(built[0] / "cache" / "weights").iterdir()):
        if path.stem != trained_digest(built):
            path.unlink()


def trained_digest(built: Any) -> str:
    return str(json.loads((built[1].path / TRAINING).read_text())["weights"])


def test_full_itself_not_tuned_keeps_its_bytes(built: Any) -> None:
    made = prepared(built, None, energy_weight=0.0, finetune_epochs=0)
    assert made.bundle is not None and pick_of(made) == "full"     # of equals the first that was seen stays
    full, adadeep = made.bundle.bundle.branches
    assert (adadeep.artifact, adadeep.id, adadeep.kind) == (full.artifact, "adadeep", "derived")
    assert made.budget["finetune_epochs"] == 0 and made.budget["bytes"] == full.size_b


def test_the_budget_is_the_whole_one(built: Any) -> None:
    plain, tuned = prepared(built, finetune_epochs=0), prepared(built, finetune_epochs=2)
    judged, = (int(found.group(1)) for line in plain.log if (found := re.search(r"judged (\d+) combinations", line)))
    once = 96 + 32                              # the training samples recalibrate, the validation samples judge
    assert plain.budget["passes"] == (judged + 1) * once
    assert tuned.budget["passes"] == plain.budget["passes"] + once + 2 * 96
    assert plain.bundle is not None
    macs = plain.bundle.bundle.branches[1].macs
    assert tuned.budget["flops"] - plain.budget["flops"] == macs * (2 * once + 6 * 2 * 96)
    assert tuned.budget["search_s"] > 0 and tuned.budget["finetune_epochs"] == 2
    assert "device_s" not in tuned.budget       # the profile is everybody's: prepare.py bills it
    assert tuned.bundle is not None
    assert tuned.budget["bytes"] == sum(branch.size_b for branch in tuned.bundle.bundle.branches)


def energy_of(made: Prepared) -> float:
    """Predicted, of the pick."""
    found = [re.search(r"^picked .* energy ([\d.]+) of full", line) for line in made.log]
    return next(float(match.group(1)) for match in found if match)


def test_own_space_prunes_and_factors(built: Any) -> None:
    """Where nothing but energy counts."""
    shared, own = (prepared(built, None, space=space, energy_weight=1.0, episodes=150) for space in ("shared", "own"))
    assert energy_of(own) < energy_of(shared)
    assert "+" in pick_of(own) and "+" not in pick_of(shared)
    assert any("pool already" in line for line in own.log)


def test_a_search_without_the_weights_or_costs_says_what_to_do(built: Any) -> None:
    with pytest.raises(UserError, match="profile it first"):
        Adadeep().prepare(case_of(built)._replace(costs={}), lambda _: None)
    with pytest.raises(UserError, match="gone or do not fit"):
        Adadeep().prepare(case_of(built)._replace(home=built[0] / "elsewhere"), lambda _: None)


@pytest.mark.parametrize("settings, words", [
    ({"budget": "idle"}, "Did you mean 'budgets'"), ({"budgets": "busy"}, "idle, load"), ({"space": 3}, "shared, own"),
    ({"storage_x": 0}, "storage_x"), ({"episodes": 2.5}, "whole"), ({"energy_weight": True}, "energy_weight")])
def test_bad_settings_are_named(built: Any, settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        prepared(built, **settings)


def test_a_name_that_full_has_is_refused(built: Any) -> None:
    full = built[1].bundle.branches[0]
    with pytest.raises(UserError, match="may not be called 'full'"):
        derive(built[0], built[1], [full], {"full": b""}, {}, {})


def test_policies_outlive_a_bundle_that_is_written_again(built: Any) -> None:
    made = prepared(built)
    assert made.bundle is not None
    write_policy(made.bundle, "fixed", {"branch": "adadeep"})
    again = prepared(built)
    assert again.bundle is not None and again.bundle.policies == {"fixed": {"branch": "adadeep"}}


def test_both_halves_know_the_same_settings() -> None:
    online = registry.load_module("device_agents.adapters", "adadeep")
    assert set(online._OFFLINE) == set(DEFAULTS) and set(online._DEFAULTS) == set(ONLINE)
