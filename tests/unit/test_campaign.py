"""Expansion: what defines a trial's id and what does not, seeds shared by a cell, blocks, exclusion."""
from pathlib import Path
from typing import Any

import pytest

from device_agents.wire import costed_as, link_is_shaped, provenance_of
from harness.campaign import NOT_DEFINING, Plan, derive_seed, expand, trial_id
from harness.config import CampaignSpec, load_campaign
from harness.errors import ConfigError
from harness.fleet import NO_RUNTIME, DeviceSpec, FleetSpec
from tests.fakes import sample_bundle, sample_trace, sample_trial
from workloads.bundle import BundleFolder

TEXT = """
name = "mine"
seed = 7
repeats = 3
plugins = "plugins"
[matrix]
device = ["a", "b"]
task = ["toy"]
model = ["net"]
method = ["still", "still-half"]
trace = ["flat", "made"]
[trial]
engine = "paper"
duration_s = 4
[methods.still-half]
adapter = "still"
branch = "half"
"""
GENERATOR = '''"""A load that depends on the seed."""
from device_agents.wire import LoadTrace


def generate(duration_s: float, seed: int) -> LoadTrace:
    return LoadTrace("made", ("t_s", "cpu_pct"), ((0.0, float(seed % 100)), (duration_s / 2, 50.0)))
'''
ADAPTER = """from device_agents.seams import Adapter
class Still(Adapter):
    pass
"""
ENGINE = """'An engine of stated costs.'
from device_agents.seams import Engine
class Paper(Engine):
    pass
"""
FLEET = FleetSpec(devices={name: DeviceSpec(name=name, slowdown=factor) for name, factor in (("a", 1.0), ("b", 3.0))})
RUNTIMES = {("a", "paper"): "paper 1", ("b", "paper"): "paper 1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("adapters/still.py", ADAPTER), ("engines/paper.py", ENGINE), ("tasks/toy.py", ""),
                       ("models/net.py", ""), ("traces/flat.csv", "t_s,cpu_pct\n0,20\n"),
                       ("traces/made.py", GENERATOR)):
        path = tmp_path / "plugins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def load(folder: Path, text: str = TEXT) -> CampaignSpec:
    (folder / "c.toml").write_text(text)
    return load_campaign(folder / "c.toml")


def bundles(policies: dict[str, dict[str, Any]] | None = None) -> dict[tuple[str, str, int], BundleFolder]:
    return {("toy", "net", 0): BundleFolder(sample_bundle("toy", "net"), Path("bundles/x"), {}, policies or {})}


def plan_of(folder: Path, text: str = TEXT, policies: dict[str, dict[str, Any]] | None = None) -> Plan:
    campaign = load(folder, text)
    return expand(campaign, FLEET, bundles(policies), RUNTIMES, campaign.plugin_dirs, "c.toml")


def ids(plan: Plan) -> set[str]:
    return {trial.id for trial in plan.trials}


def test_every_cell_is_there_once_a_repeat(folder: Path) -> None:
    plan = plan_of(folder)
    cells = [(trial.device, trial.label, trial.trace.name, trial.repeat) for trial in plan.trials]
    assert len(cells) == len(set(cells)) == 2 * 2 * 2 * 3
    assert len(ids(plan)) == len(cells)
    assert not plan.excluded and not plan.unnamed and not plan.notes


def test_blocks_hold_each_cell_once_and_are_shuffled_by_seed(folder: Path) -> None:
    plan = plan_of(folder)
    assert [trial.block for trial in plan.trials] == [0] * 8 + [1] * 8 + [2] * 8
    orders = [[(one.device, one.label, one.trace.name) for one in plan.trials if one.block == block]
              for block in range(3)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1] or orders[1] != orders[2]
    assert plan_of(folder) == plan
    other = [trial.id for trial in plan_of(folder, TEXT.replace("seed = 7", "seed = 8")).trials]
    assert other != [trial.id for trial in plan.trials]


def test_all_methods_of_a_cell_see_the_same_trace_and_seed(folder: Path) -> None:
    plan = plan_of(folder)
    for repeat in range(3):
        made = {trial.trace for trial in plan.trials if trial.trace.name == "made" and trial.repeat == repeat}
        assert len(made) == 1
        assert len({trial.seed for trial in plan.trials if trial.repeat == repeat}) == 1
    assert len({trial.trace for trial in plan.trials if trial.trace.name == "made"}) == 3
    assert len({trial.trace for trial in plan.trials if trial.trace.name == "flat"}) == 1


def test_more_repeats_keep_the_trials_that_were_there(folder: Path) -> None:
    assert ids(plan_of(folder)) < ids(plan_of(folder, TEXT.replace("repeats = 3", "repeats = 5")))


def test_the_campaign_name_the_label_and_the_order_are_not_in_the_id(folder: Path) -> None:
    renamed = TEXT.replace('name = "mine"', 'name = "other"').replace("still-half", "halved")
    assert ids(plan_of(folder, renamed)) == ids(plan_of(folder))


@pytest.mark.parametrize("change", [
    {"device": "x"}, {"peers": ("p",)}, {"task": "x"}, {"model": "x"}, {"bundle": "x"}, {"method": "x"},
    {"settings": {"branch": "x"}}, {"learned": "x"}, {"engine": "x"}, {"runtime": "x"}, {"knobs": {"threads": 2}},
    {"residency": "one"}, {"trace": sample_trace("ramp", 3.0)}, {"arrival": {"kind": "closed"}},
    {"deadline": {"ms": 9.0}}, {"late": "serve"}, {"duration_s": 3.0}, {"warmup_s": 0.3}, {"sample_hz": 5.0},
    {"accuracy_floor": 0.5}, {"slowdown": 2.0}, {"seed": 8}, {"repeat": 1}, {"link": {"rate_mbps": 1.0}},
    {"method_sha256": "x"},
], ids=lambda change: next(iter(change)))
def test_whatever_defines_a_trial_changes_its_id(change: dict[str, Any]) -> None:
    assert trial_id(sample_trial(**change)) != trial_id(sample_trial())


def test_an_edited_adapter_makes_new_trials_of_its_method_alone(folder: Path) -> None:
    before = plan_of(folder).trials
    adapters = [path for path in folder.rglob("adapters/*.py") if path.stem == before[0].method]
    for path in adapters:
        path.write_text(path.read_text() + "\n# another threshold\n")
    after = plan_of(folder).trials
    assert adapters and not {trial.id for trial in before} & {trial.id for trial in after}
    assert [trial._replace(id="", method_sha256="") for trial in before] == [
        trial._replace(id="", method_sha256="") for trial in after]


def test_every_field_of_a_trial_defines_it_or_is_named_as_not_doing_so() -> None:
    trial = sample_trial()
    for name in NOT_DEFINING:
        changed = trial._replace(**{name: 99 if name == "block" else "x"})
        assert trial_id(changed) == trial_id(trial)
    assert trial_id(trial._replace(trace=trial.trace._replace(name="x"))) == trial_id(trial)


def test_an_id_does_not_change_between_versions_unnoticed() -> None:
    """Ids are keys of stored results: when this fails, every store out there starts anew."""
    assert trial_id(sample_trial()) == "2aa3207fb296e9c9"


def test_settings_are_the_policy_of_the_bundle_then_the_campaign(folder: Path) -> None:
    plan = plan_of(folder, policies={"still": {"branch": "full", "margin": 0.1}})
    settings = {trial.label: trial.settings for trial in plan.trials}
    assert settings == {"still": {"branch": "full", "margin": 0.1}, "still-half": {"branch": "half", "margin": 0.1}}


def test_two_labels_with_the_same_settings_are_one_trial_and_a_note(folder: Path) -> None:
    text = TEXT.replace('branch = "half"\n', "")
    plan = plan_of(folder, text)
    assert len(plan.trials) == 2 * 2 * 3
    assert plan.notes == ("'still-half' has the same settings as 'still': run once, as 'still'",)
    assert {trial.label for trial in plan.trials} == {"still"}


@pytest.mark.parametrize(("rule", "left"), [
    ('{ device = "b", reason = "r" }', 12), ('{ method = "still", reason = "r" }', 0),
    ('{ method = "*-half", trace = "flat", reason = "r" }', 18), ('{ device = "x", reason = "r" }', 24)])
def test_exclude_leaves_out_and_says_why(folder: Path, rule: str, left: int) -> None:
    text = TEXT.replace("[matrix]", f"exclude = [{rule}]\n[matrix]")
    if left == 0:
        with pytest.raises(ConfigError, match=r"'exclude' leaves nothing of 8 cells \(r\)"):
            plan_of(folder, text)
        return
    plan = plan_of(folder, text)
    assert len(plan.trials) == left
    assert len(plan.excluded) == (24 - left) // 3
    assert {one.reason for one in plan.excluded} <= {"r"}
    assert plan.notes == (("exclude[0] matches nothing in the matrix",) if left == 24 else ())


@pytest.mark.parametrize("key", ["device", "task", "model", "method", "trace", "training_seed"])
def test_a_campaign_that_selects_nothing_names_the_key(folder: Path, key: str) -> None:
    lines = [line for line in TEXT.splitlines() if not line.startswith(f"{key} = ")]
    lines.insert(lines.index("[matrix]") + 1, f"{key} = []")
    with pytest.raises(ConfigError, match=rf"c\.toml: matrix\.{key} is empty, so the campaign selects nothing"):
        plan_of(folder, "\n".join(lines))


def test_an_unknown_device_is_told_with_the_near_miss(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown device 'c' in c\.toml \(matrix\.device\).*There is: a, b"):
        plan_of(folder, TEXT.replace('["a", "b"]', '["a", "c"]'))


def test_what_has_no_id_yet_is_listed_with_the_reason(folder: Path) -> None:
    campaign = load(folder)
    unbuilt = expand(campaign, FLEET, {}, RUNTIMES, campaign.plugin_dirs)
    assert not unbuilt.trials
    assert {one.reason for one in unbuilt.unnamed} == {"the bundle toy/net, seed 0, is not built"}
    assert len(unbuilt.unnamed) == 24
    partly = expand(campaign, FLEET, bundles(), {("a", "paper"): "paper 1"}, campaign.plugin_dirs)
    assert {trial.device for trial in partly.trials} == {"a"}
    assert {one.cell.device for one in partly.unnamed} == {"b"}


def test_a_device_without_the_runtime_has_trials_to_skip(folder: Path) -> None:
    campaign = load(folder)
    plan = expand(campaign, FLEET, bundles(), {**RUNTIMES, ("b", "paper"): NO_RUNTIME}, campaign.plugin_dirs)
    assert {trial.runtime for trial in plan.trials if trial.device == "b"} == {NO_RUNTIME}


def test_a_method_with_an_offline_half_needs_its_policy(folder: Path) -> None:
    (folder / "plugins" / "methods").mkdir()
    (folder / "plugins" / "methods" / "still.py").touch()
    plan = plan_of(folder)
    assert not plan.trials
    assert {one.reason for one in plan.unnamed} == {"the bundle toy/net, seed 0, has no policy for still yet"}


def test_seeds_of_dimensions_are_independent_and_stable() -> None:
    assert derive_seed(7, "trace") != derive_seed(7, "order") != derive_seed(8, "order")
    assert derive_seed(7, "trace") == derive_seed(7, "trace") < 2**32


OFFLOADING = TEXT.replace('["still", "still-half"]', '["still", "far"]') + """
[methods.far]
adapter = "still"
engine = "remote"
peers = ["b"]
link = { rate_mbps = 10 }
"""
TO_A = """exclude = [{ device = "b", method = "far" }]
[matrix]"""


def far_trials(folder: Path, text: str) -> list[Any]:
    runtimes = {**RUNTIMES, **{(name, "remote"): "remote 1 over paper: paper 1" for name in "ab"}}
    plan = expand(load(folder, text.replace("[matrix]", TO_A)), FLEET, bundles(), runtimes, (str(folder / "plugins"),))
    return [trial for trial in plan.trials if trial.label == "far"]


def test_a_method_may_have_an_engine_peers_and_a_link_of_its_own(folder: Path) -> None:
    trial = far_trials(folder, OFFLOADING)[0]
    assert (trial.engine, trial.peers, trial.link) == ("remote", ("b",), {"rate_mbps": 10.0, "slowdown_x.b": 3.0})
    assert trial.runtime == "remote 1 over paper: paper 1"
    assert costed_as(trial.engine, trial.runtime) == costed_as("paper", "paper 1") == ("paper", "paper 1")
    assert trial.settings == {"peers": ["b"]}, "what is made of the link is not the adapter's to know"
    assert load(folder, OFFLOADING).engines == ["paper", "remote"]


def test_an_emulated_peer_makes_another_trial_and_an_emulated_one(folder: Path) -> None:
    trial = far_trials(folder, OFFLOADING.replace("link = { rate_mbps = 10 }", ""))[0]
    assert trial.link == {"slowdown_x.b": 3.0} and provenance_of(trial, "measured") == "emulated"
    assert not link_is_shaped(trial), "the way there is as it is"


def test_peers_and_link_are_in_the_id(folder: Path) -> None:
    ids = {far_trials(folder, text)[0].id for text in (
        OFFLOADING, OFFLOADING.replace("10 }", "11 }"), OFFLOADING.replace("link = { rate_mbps = 10 }", ""),
        OFFLOADING.replace("link = { rate_mbps = 10 }", "").replace('peers = ["b"]', ""))}
    assert len(ids) == 4


@pytest.mark.parametrize(("old", "new", "said"), [
    ('peers = ["b"]', 'peers = ["c"]', "unknown device 'c'"),
    ("exclude", "#", "b cannot be its own peer; leave that cell out: exclude = "),
    ('engine = "remote"', "", "'peers' needs engine = \"remote\"; the engine 'paper' has none"),
    ('peers = ["b"]', "", "'link' shapes the way to the peers, and there is none"),
    ("rate_mbps", "rate_mpbs", "unknown key 'methods.far.link.rate_mpbs'. Did you mean 'rate_mbps'?"),
    ("rate_mbps = 10", "loss_pct = 101", "methods.far.link.loss_pct = 101"),
    ('engine = "remote"', 'engine = "remot"', "unknown engine 'remot'"),
])
def test_what_is_wrong_with_peers_is_told(folder: Path, old: str, new: str, said: str) -> None:
    text = OFFLOADING.replace("[matrix]", TO_A)
    with pytest.raises(ConfigError) as caught:
        expand(load(folder, text.replace(old, new)), FLEET, {}, {}, (str(folder / "plugins"),), "c.toml")
    assert said in str(caught.value)


def test_traffic_needs_a_peer_to_send_it_to(folder: Path) -> None:
    (folder / "plugins" / "traces").mkdir(exist_ok=True)
    (folder / "plugins" / "traces" / "loud.csv").write_text("t_x,traffic_mbps\n0,0\n0.5,8\n")
    text, plugins = OFFLOADING.replace("[matrix]", TO_A), (str(folder / "plugins"),)
    loud = text.replace('trace = ["flat", "made"]', 'trace = ["loud"]')
    with pytest.raises(ConfigError, match="the trace loud asks for traffic_mbps, and the method still has no peer"):
        expand(load(folder, loud), FLEET, {}, {}, plugins)
    runtimes = {("a", "remote"): "remote 1 over paper: paper 1"}
    plan = expand(load(folder, loud.replace('["still", "far"]', '["far"]')), FLEET, bundles(), runtimes, plugins)
    assert plan.trials[0].trace.at(1e6, "traffic_mbps") == 8.0


def test_a_peer_must_be_within_reach(folder: Path) -> None:
    far_off = FleetSpec(devices={"a": DeviceSpec(name="a"), "b": DeviceSpec(name="b", transport="ssh", host="b")})
    campaign, plugins = load(folder, OFFLOADING.replace("[matrix]", TO_A)), (str(folder / "plugins"),)
    with pytest.raises(ConfigError, match=r"at which address a reaches b; .*\[devices.b\]: address = "):
        expand(campaign, far_off, {}, {}, plugins)
    by_usb = {**far_off.devices, "b": DeviceSpec(name="b", transport="adb", serial="1A2B3C4D")}
    with pytest.raises(ConfigError, match=r"\[devices.b\]: address = \S+ \(that of its Wi-Fi"):
        expand(campaign, far_off.model_copy(update={"devices": by_usb}), {}, {}, plugins)
    apart = far_off.devices["b"].model_copy(update={"site": "hub", "address": "10.0.0.2"})
    with pytest.raises(ConfigError, match=r"a \(local, site here\) cannot reach b \(ssh, site hub\)"):
        expand(campaign, far_off.model_copy(update={"devices": {**far_off.devices, "b": apart}}), {}, {}, plugins)
    made_up = FleetSpec(devices={"a": DeviceSpec(name="a"), "b": DeviceSpec(name="b", transport="simulated")})
    with pytest.raises(ConfigError, match=r"cannot reach b \(simulated, site here\)"):
        expand(campaign, made_up, {}, {}, plugins)
    near = far_off.devices["b"].model_copy(update={"address": "10.0.0.2"})
    expand(campaign, far_off.model_copy(update={"devices": {**far_off.devices, "b": near}}), {}, {}, plugins)


def test_a_trial_says_the_processor_of_its_own_engine(folder: Path) -> None:
    (folder / "plugins/engines/drawn.py").write_text(ENGINE.replace("pass", 'processor = "gpu"'))
    campaign = load(folder, TEXT + 'engine = "drawn"\n')
    runtimes = {**RUNTIMES, ("a", "drawn"): "drawn 1", ("b", "drawn"): "drawn 1"}
    plan = expand(campaign, FLEET, bundles(), runtimes, campaign.plugin_dirs, "c.toml")
    assert {(one.label, one.engine, str(one.knobs)) for one in plan.trials} == {
        ("still", "paper", "{}"), ("still-half", "drawn", "{'processor': 'gpu'}")}
    assert {one.id for one in plan.trials if one.label == "still"} < ids(plan_of(folder))
