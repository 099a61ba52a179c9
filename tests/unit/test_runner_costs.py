"""What a trial's rate and deadline refer to: the campaign's engine on the parent's bundle, whatever a method brings.

And what the runner leaves on a device at its end.
"""
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agents.wire import Branch, BranchBundle, Cost, Order, Trial
from harness.config import PreflightSpec
from harness.device import Device
from harness.errors import DeviceUnreachable
from harness.fleet import DeviceSpec, FleetSpec
from harness.home import FOLDERS, Home
from harness.roll_call import ask_devices, runtime_of
from harness.runner import Bench, Runner
from harness.seams import CostKey, TrialResult
from tests.fakes import sample_trial
from workloads.bundle import BundleFolder, write_bundle
from workloads.seams import Split

CAMPAIGNS = ("campaigns_engine", "campaigns_engine 1")
KNOBS = '{"processor":"gpu"}'                   # of the campaign's engine; a method's own, here, has none
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
    return "sim", folder.bundle.id, engine, runtime, KNOBS if (engine, runtime) == CAMPAIGNS else "{}"


def costs_of(ms: float) -> tuple[Cost, ...]:
    return (Cost("full", "any", ms, ms, 0.0, None, None, "stated"),)


def opened(home: Home, folder: BundleFolder, costs: dict[CostKey, tuple[Cost, ...]]) -> tuple[Runner, Trial]:
    """A trial of the replay engine, in a campaign of another engine, and who is to run it."""
    spec = DeviceSpec(name="sim", transport="simulated", simulate={"full_ms": STATED_MS})
    runtime = str(runtime_of(ask_devices([spec], ["replay"], home)[0]["sim"], "replay"))
    trial = sample_trial(device="sim", bundle=folder.bundle.id, engine="replay", runtime=runtime, knobs={},
                         method="fixed", settings={"branch": "full"}, duration_s=0.3, warmup_s=0.0,
                         deadline={"x_full": 2.0}, arrival={"kind": "periodic", "rate": {"utilisation": 0.5}})
    return Runner(Bench(str(home.path), FleetSpec(devices={"sim": spec}), {folder.bundle.id: str(folder.path)}, costs,
                        {"sim": 1}, PreflightSpec(), (), reference={"sim": (*CAMPAIGNS, KNOBS)})), trial


def begun(home: Home, folder: BundleFolder, costs: dict[CostKey, tuple[Cost, ...]]) -> tuple[TrialResult, str]:
    """What is reported when it begins; replay's runtime."""
    runner, trial = opened(home, folder, costs)
    told: list[TrialResult] = []
    runner.run_trial(trial, 1, told.append)
    runner.close()
    return told[0], trial.runtime


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


def test_what_was_profiled_before_the_device_was_lost_is_told_by_the_retry(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = home_in(tmp_path)
    folder = bundle_in(home, {})
    runner, trial = opened(home, folder, {})
    profile, engines = Device.profile, list[str]()

    def lost_once(device: Device, order: Order, deadline_s: float) -> tuple[Cost, ...]:
        engines.append(order.trial.engine)
        if len(engines) == 2:
            raise DeviceUnreachable("sim: gone")
        return profile(device, order, deadline_s)

    monkeypatch.setattr(Device, "profile", lost_once)
    told: list[TrialResult] = []
    with pytest.raises(DeviceUnreachable):
        runner.run_trial(trial, 1, told.append)
    runner.run_trial(trial, 2, told.append)
    runner.close()
    assert engines[:2] == ["replay", CAMPAIGNS[0]] and told[0].attempt == 2
    assert set(told[0].costs) == {key_of(folder, "replay", trial.runtime), key_of(folder, *CAMPAIGNS)}


@pytest.mark.parametrize("busy", [False, True])
def test_at_the_end_stored_folders_go_but_not_while_the_device_is_in_a_trial(tmp_path: Path, busy: bool) -> None:
    home = home_in(tmp_path)
    runner, trial = opened(home, bundle_in(home, {}), {})
    runner.run_trial(trial, 1, lambda _result: None)
    runner.stored("sim", trial.id, 1)
    if busy:
        runner._busy.add("sim")
    runner.close()
    left = [path.name for path in home.device("sim").glob("trials/*")]
    assert left == ([f"{trial.id}.1"] if busy else [])
