"""Preparations on a simulated device, from resolve to what is kept: what they follow from, survive and are billed."""
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.store import Store
from device_agents import profiler
from device_agents.wire import Branch, BranchBundle, Cost
from harness.driver import _bench, record_plan
from harness.home import FOLDERS, Home
from harness.preparation import Preparation
from harness.prepare import LOADS, PEAK_RUNS, prepare_missing, profile_s
from harness.resolve import Resolved, resolve
from workloads.bundle import BundleFolder, imported_path, write_bundle, write_policy
from workloads.seams import Split

CAMPAIGN = """
name = "here"
plugins = "plugins"
[matrix]
device = ["sim"]
task = ["digits"]
model = ["brought"]
method = ["{method}"]
trace = ["mine", "bursty"]
[trial]
engine = "replay"
duration_s = 1.0
warmup_s = 0.0
[tuning]
configurations = 2
arrivals = 50
training_trials = 1
"""
FLEET = """
[devices.sim]
transport = "simulated"
simulate = { full_ms = 20.0 }
"""
#: Makes a bundle for each device: the parent's first branch under another name
SHRUNK = '''"""A derived bundle."""
from workloads.bundle import write_bundle
from workloads.seams import Method, Prepared, Range, Split
import numpy as np


class Shrunk(Method):
    per_device = True
    space = {"boldness": Range(0.5, 2.0)}

    def policy(self, bundle):
        return {}

    def prepare(self, case, report):
        one = case.parent.bundle.branches[0]._replace(id="mine")
        bundle = case.parent.bundle._replace(id="", branches=(one,), training={"parent": case.parent.bundle.id})
        evaluation = Split(np.zeros((4, 1, 2, 2), np.float32), np.arange(4))
        return Prepared({"branch": "mine"}, write_bundle(case.home, bundle, {"mine": b"mine"}, evaluation, {}), None,
                        {"search_s": 1.0, "device_s": 2.0})
'''
STAYS = '''"""One branch."""
from device_agents.adapters.fixed import Fixed


class Stays(Fixed):
    pass
'''


class Kit:
    """A folder with a campaign, a fleet, plug-ins and a home that holds an imported bundle of two branches."""

    def __init__(self, folder: Path, method: str) -> None:
        self.folder, self.home, self.method = folder, Home(folder / "home"), method
        for name in FOLDERS:
            (self.home.path / name).mkdir(parents=True)
        for name in ("traces", "methods", "adapters"):
            (folder / "plugins" / name).mkdir(parents=True)
        for half in ("methods", "adapters"):
            learner = Path(__file__).parents[1] / "plugins" / half / "learner.py"
            (folder / "plugins" / half / "learner.py").write_text(learner.read_text())
        self.trace = folder / "plugins" / "traces" / "mine.csv"
        self.trace.write_text("t_x,cpu_pct\n0,10\n")
        (folder / "plugins" / "methods" / "shrunk.py").write_text(SHRUNK)
        (folder / "plugins" / "adapters" / "shrunk.py").write_text(STAYS)
        (folder / "fleet.toml").write_text(FLEET)
        (folder / "c.toml").write_text(CAMPAIGN.format(method=method))
        self.parent = self._bundle()

    def _bundle(self) -> BundleFolder:
        branches = tuple(Branch(name, "", accuracy, macs, 10, 0) for name, accuracy, macs in (
            ("full", 0.9, 1000), ("half", 0.8, 400)))
        bundle = BranchBundle("", "digits", "brought", 0, 10, (1, 2, 2), "float32", "", "", 0, branches, {})
        made = write_bundle(self.home.path, bundle, {"full": b"full", "half": b"half"},
                            Split(np.zeros((4, 1, 2, 2), np.float32), np.arange(4)), {})
        pointer = imported_path(self.home.path, "digits", "brought")
        pointer.parent.mkdir()
        pointer.write_text(json.dumps({"bundle": made.bundle.id, "model": "brought"}))
        for method, policy in (("learner", {"learn": False}), ("shrunk", {})):
            made = write_policy(made, method, policy)
        return made

    def resolved(self) -> Resolved:
        return resolve(self.folder / "c.toml", self.folder / "fleet.toml", self.home, ask="unseen")

    def prepared(self) -> Preparation:
        """What `run` does before it runs anything."""
        with Store.open(self.home.results) as store:
            resolved = self.resolved()
            record_plan(resolved, store)
            (made,), _ = prepare_missing(resolved, self.home, store, silent)
            record_plan(self.resolved(), store)
        return made


@contextmanager
def silent(_name: str) -> Iterator[Any]:
    yield lambda _progress: None


@pytest.mark.parametrize("method", ["learner", "shrunk"])
def test_what_was_made_is_found_again_and_made_again_when_it_is_gone(tmp_path: Path, method: str) -> None:
    kit = Kit(tmp_path, method)
    made = kit.prepared()
    assert not kit.resolved().waiting
    lost = kit.home.path / "learned" / str(made.learned)
    if method == "shrunk":
        lost = kit.home.bundles / made.bundle / "manifest.json"
    lost.unlink()
    assert [one.label for one in kit.resolved().waiting] == [method]       # no verb stops at what is not there
    again = kit.prepared()
    assert (again.bundle, again.learned) == (made.bundle, made.learned) and lost.is_file()
    assert not kit.resolved().waiting


def test_trials_of_a_derived_bundle_know_what_they_refer_to(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "shrunk")
    made = kit.prepared()
    with Store.open(kit.home.results) as store:
        resolved = kit.resolved()
        bench = _bench(resolved, kit.home, store, resolved.plan.trials, {})
    engine = ("replay", resolved.plan.trials[0].runtime, "{}")
    assert bench.reference == {"sim": engine} and {trial.bundle for trial in resolved.plan.trials} == {made.bundle}
    assert ("sim", made.parent, *engine) in bench.costs
    assert ("sim", made.bundle, *engine) in bench.costs               # profiled, and billed, with the preparation


def test_everybody_is_billed_one_and_the_same_profile() -> None:
    plain = Cost("full", "e", 10.0, 11.0, 4.0, 50.0, None, "profile")
    assert PEAK_RUNS == profiler._PEAK_RUNS
    assert profile_s([plain, plain]) == pytest.approx(2 * (26 * 10.0 + LOADS * 4.0) / 1e3)
    assert profile_s([plain._replace(energy_mj=3.0, load_ms=None)]) == pytest.approx(46 * 10.0 / 1e3)
    assert profile_s([plain._replace(source="stated")]) == 0.0


def test_a_derived_bundle_is_profiled_and_billed_too(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "shrunk")
    made = kit.prepared()
    assert not made.tuning and any(line.startswith("not tuned: its choices are made offline") for line in made.log)
    assert made.budget == {"search_s": 1.0, "device_s": 2.0}                # its own; the costs are stated here
    with Store.open(kit.home.results) as store:                             # as if they had been profiled
        for bundle in (made.parent, made.bundle):
            row = store.read("cost", bundle=bundle)[0]
            costs = store.costs("sim", bundle, row["engine"], row["runtime"], "{}")
            store.save_costs("sim", bundle, row["engine"], row["runtime"], "{}",
                             [cost._replace(source="profile", latency_ms=100.0, load_ms=0.0) for cost in costs])
    for file in (kit.home.path / "prepared").iterdir():
        file.unlink()
    assert kit.prepared().budget["device_s"] == pytest.approx(2.0 + (2 + 1) * 26 * 0.1)


def test_a_damaged_artifact_is_learned_again(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "learner")
    (kit.home.path / "learned" / str(kit.prepared().learned)).write_bytes(b"cut sho")
    assert kit.resolved().waiting


def test_an_edited_trace_is_prepared_for_anew(tmp_path: Path) -> None:
    kit = Kit(tmp_path, "learner")
    kit.prepared()
    kit.trace.write_text("t_x,cpu_pct\n0,10.0\n")                          # the same trace
    assert not kit.resolved().waiting
    kit.trace.write_text("t_x,cpu_pct\n0,90\n")
    assert kit.resolved().waiting


def test_what_another_twin_scored_is_tuned_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit(tmp_path, "learner")
    kit.prepared()
    assert not kit.resolved().waiting
    monkeypatch.setattr("harness.preparation.twin_files", lambda: {Path(__file__)})
    assert kit.resolved().waiting


def test_the_log_names_traces_that_the_evaluation_has_too(tmp_path: Path) -> None:
    log = Kit(tmp_path, "learner").prepared().log
    assert any("same for every seed" in line and line.endswith(": mine") for line in log)
