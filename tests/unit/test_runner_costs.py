"""What a trial's rate and deadline refer to: the campaign's engine on the parent's bundle, whatever a method brings."""
from pathlib import Path
from typing import Any

import numpy as np

from device_agents.wire import Branch, BranchBundle, Cost
from harness.config import PreflightSpec
from harness.fleet import DeviceSpec, FleetSpec
from harness.home import FOLDERS, Home
from harness.roll_call import ask_devices, runtime_of
from harness.runner import Bench, Runner
from harness.seams import CostKey, TrialResult
from tests.fakes import sample_trial
from workloads.bundle import BundleFolder, write_bundle
from workloads.seams import Split

CAMPAIGNS = ("campaigns_engine", "campaigns_engine 1")
STATED_MS, REFERENCE_MS = 20.0, 50.0            # of the full branch: by whatever is profiled; by the campaign's engine


def home_in(folder: Path) -> Home:
    for name in FOLDERS:
        (folder / name).mkdir()
    return Home(folder)


def bundle_in(home: Home, training: dict[str, Any]) -> BundleFolder:
    bundle = BranchBundle("", "t", "m", 0, 10, (1, 2, 2), "float32", "", "", 0,
                          (Branch("full", "", 0.9, 1000, 10, 0),), training)
    samples = Split(np.zeros((4, 1, 2, 2), np.float32), np.arange(4))
    return write_bundle(home.path, bundle, {"full": b"full"}, samples, {})


def key_of(folder: BundleFolder, engine: str, runtime: str) -> CostKey:
    return "sim", folder.bundle.id, engine, runtime, "{}"


def costs_of(ms: float) -> tuple[Cost, ...]:
    return (Cost("full", "any", ms, ms, 0.0, None, None, "stated"),)


def begun(home: Home, folder: BundleFolder, costs: dict[CostKey, tuple[Cost, ...]]) -> tuple[TrialResult, str]:
    """What is reported when a trial of the replay engine begins, in a campaign of another engine; replay's runtime."""
    spec = DeviceSpec(name="sim", transport="simulated", simulate={"full_ms": STATED_MS})
    runtime = str(runtime_of(ask_devices([spec], ["replay"], home)[0]["sim"], "replay"))
    trial = sample_trial(device="sim", bundle=folder.bundle.id, engine="replay", runtime=runtime, knobs={},
                         method="fixed", settings={"branch": "full"}, duration_s=0.3, warmup_s=0.0,
                         deadline={"x_full": 2.0}, arrival={"kind": "periodic", "rate": {"utilisation": 0.5}})
    told: list[TrialResult] = []
    runner = Runner(Bench(str(home.path), FleetSpec(devices={"sim": spec}), {folder.bundle.id: str(folder.path)}, costs,
                          {"sim": 1}, PreflightSpec(), (), reference={"sim": CAMPAIGNS}))
    runner.run_trial(trial, 1, told.append)
    runner.close()
    return told[0], runtime


def test_an_engine_of_its_own_sets_no_deadline_of_its_own(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    folder = bundle_in(home, {})
    result, runtime = begun(home, folder, {key_of(folder, "a_quick_engine", "1"): costs_of(1.0),
                                           key_of(folder, *CAMPAIGNS): costs_of(REFERENCE_MS)})
    assert (result.period_ms, result.deadline_ms) == (REFERENCE_MS / 0.5, REFERENCE_MS * 2.0)
    assert list(result.costs) == [key_of(folder, "replay", runtime)]           # its own were still to be profiled


def test_a_derived_bundle_refers_to_its_parent_on_the_campaigns_engine(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    parent = bundle_in(home, {})
    child = bundle_in(home, {"parent": parent.bundle.id})
    result, _ = begun(home, child, {key_of(parent, "a_quick_engine", "1"): costs_of(1.0),
                                    key_of(child, *CAMPAIGNS): costs_of(2.0),
                                    key_of(parent, *CAMPAIGNS): costs_of(REFERENCE_MS)})
    assert (result.period_ms, result.deadline_ms) == (REFERENCE_MS / 0.5, REFERENCE_MS * 2.0)


def test_a_reference_that_nobody_profiled_is_profiled_and_told(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    folder = bundle_in(home, {})
    result, runtime = begun(home, folder, {})
    assert set(result.costs) == {key_of(folder, "replay", runtime), key_of(folder, *CAMPAIGNS)}
    again, _ = begun(home, folder, {**result.costs, key_of(folder, "replay", runtime): costs_of(1.0)})
    assert again.costs == {} and again.deadline_ms == result.deadline_ms == STATED_MS * 2.0
