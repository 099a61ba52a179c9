"""The campaigns in workloads/campaigns/: each loads, fits its own fleet, and compares what it says."""
from pathlib import Path

import pytest

import workloads
from device_agents import registry
from device_agents.wire import BranchBundle
from harness.campaign import expand, selected
from harness.config import load_campaign
from harness.errors import ConfigError
from harness.fleet import FleetSpec, load_fleet
from tests.fakes import sample_bundle
from workloads.bundle import BundleFolder
from workloads.recipe import load_plugin
from workloads.seams import Method, Model

FOLDER = Path(workloads.__path__[0]) / "campaigns"
ADAPTATION = FOLDER / "adaptation.toml"


def policies(bundle: BranchBundle) -> dict[str, dict[str, object]]:
    return {name: load_plugin("methods", name, Method)().policy(bundle) for name in registry.names("workloads.methods")}


@pytest.mark.parametrize("path", [path for path in sorted(FOLDER.glob("*.toml")) if "fleet" not in path.stem],
                         ids=lambda path: path.stem)
def test_it_loads_and_its_fleet_is_there(path: Path) -> None:
    campaign = load_campaign(path)
    assert campaign.name == path.stem
    assert campaign.fleet is not None and load_fleet(campaign.fleet).devices


def test_adaptation_plans_every_method_on_every_device_under_every_trace() -> None:
    campaign = load_campaign(ADAPTATION)
    assert campaign.fleet is not None
    fleet = load_fleet(campaign.fleet)
    bundle = sample_bundle("digits", "resnet_digits")
    folder = BundleFolder(bundle, FOLDER, {}, policies(bundle))
    seed, = campaign.matrix.training_seed
    plan = expand(campaign, fleet, {("digits", "resnet_digits", seed): folder},
                  {(device, campaign.trial.engine): "onnxruntime 1" for device in fleet.devices},
                  campaign.plugin_dirs, str(ADAPTATION))
    assert not plan.unnamed and not plan.excluded and not plan.notes
    labels = {trial.label for trial in plan.trials}
    assert labels == {"fixed-full", "fixed-smallest", "fixed-idle-best", "greedy", "random", "adascale",
                      "adaspring-select"}
    assert {trial.trace.name for trial in plan.trials} == {"ramp", "bursty", "battery_drain"}
    assert len({trial.id for trial in plan.trials}) == len(fleet.devices) * len(labels) * 3 * campaign.repeats


def test_no_campaign_calls_the_selecting_form_of_adaspring_anything_else() -> None:
    for path in FOLDER.glob("*.toml"):
        if "fleet" not in path.stem:
            campaign = load_campaign(path)
            labels = {label for label in campaign.matrix.method if campaign.method(label).adapter == "adaspring"
                      and campaign.method(label).settings.get("form", "select") == "select"}
            assert labels <= {"adaspring-select"}, path


@pytest.mark.parametrize("tags", [("board", "phone"), ("board",), ("phone",)])
def test_fleet_smoke_takes_whatever_has_the_tags_and_ten_minutes(tags: tuple[str, ...]) -> None:
    campaign = load_campaign(FOLDER / "fleet-smoke.toml")
    fleet = FleetSpec.model_validate({"devices": {tag: {"tags": [tag]} for tag in tags} | {"other": {}}})
    plan = expand(campaign, fleet, {}, {}, campaign.plugin_dirs, "fleet-smoke.toml")
    assert {one.cell.device for one in plan.unnamed} == set(tags)
    trials = campaign.repeats * len(campaign.matrix.method) * len(campaign.matrix.trace)
    assert trials * (campaign.trial.duration_s + campaign.trial.warmup_s) * len(tags) < 600


def test_fleet_smoke_refuses_a_fleet_without_either() -> None:
    campaign = load_campaign(FOLDER / "fleet-smoke.toml")
    with pytest.raises(ConfigError, match="device tag 'phone'"):
        expand(campaign, FleetSpec.model_validate({"devices": {"other": {}}}), {}, {}, (), "fleet-smoke.toml")


def test_each_branch_of_the_comparison_has_a_row_so_that_the_oracles_may_choose_it() -> None:
    campaign = load_campaign(FOLDER / "methods.toml")
    fleet = load_fleet(campaign.fleet)
    cells = selected(campaign, fleet)
    for model in {cell.model for cell in cells}:
        rows = {cell.method for cell in cells if cell.model == model}
        fixed = {campaign.methods[row].settings.get("branch", row) for row in rows
                 if row in campaign.methods and campaign.method(row).adapter == "fixed"}
        branches = [one.id for one in load_plugin("models", model, Model)().branches()]
        lacking = set(branches) - fixed
        assert lacking <= {"exit1"}, model      # the smallest of resnet20, which fixed-smallest runs
        assert fixed <= {*branches, "full", "smallest", "idle-best"}, model
