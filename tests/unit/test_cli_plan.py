"""plan and resolve on simulated devices before anything was built: what is asked, listed and left behind."""
import json
import re
from pathlib import Path
from typing import Any

import pytest

from db.store import Store
from harness.cli import build_app
from harness.cli._exit import guarded
from harness.config import load_campaign
from harness.estimate import GAP_S
from harness.fleet import NO_RUNTIME
from harness.home import Home
from harness.resolve import find_fleet, resolve
from harness.roll_call import runtime_of

CAMPAIGN = """
name = "mine"
repeats = 2
exclude = [{ device = "b", method = "fixed-small", reason = "too slow" }]
[matrix]
device = ["*"]
task = ["digits"]
model = ["resnet_digits"]
method = ["fixed", "fixed-small"]
trace = ["idle"]
[methods.fixed-small]
adapter = "fixed"
branch = "smallest"
[trial]
engine = "replay"
duration_s = 5
warmup_s = 1
"""
FLEET = """
[devices.a]
transport = "simulated"
simulate = { full_ms = 20.0 }
[devices.b]
transport = "simulated"
simulate = { full_ms = 30.0 }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a campaign and a fleet and no home at all."""
    monkeypatch.delenv("EDGEFLEET_HOME")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(CAMPAIGN)
    (tmp_path / "fleet.toml").write_text(FLEET)
    return tmp_path


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str]:
    assert guarded(build_app(), ["plan", "c.toml", "--json", *words]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_what_is_not_built_is_listed_without_ids_and_with_the_way_on(
        here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value, err = plan(capsys)
    assert [(one["id"], one["state"]) for one in value["trials"]] == [(None, "unnamed")] * 6
    assert {one["reason"] for one in value["trials"]} == {"the bundle digits/resnet_digits, seed 0, is not built"}
    assert (value["done"], value["remaining"], value["home"]) == (0, 6, None)
    assert [(one["device"], one["reason"]) for one in value["excluded"]] == [("b", "too slow")]
    assert "build what is missing with: edgefleet build c.toml" in err
    assert sorted(entry.name for entry in here.iterdir()) == ["c.toml", "fleet.toml"]


def test_a_table_for_people_says_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(build_app(), ["plan", "c.toml"]) == 0
    out, err = capsys.readouterr()
    assert out.count("fixed-small") == 2
    assert "excluded: fixed-small on b, digits/resnet_digits, idle: too slow" in err
    assert "6 trials: 0 done, 6 to run" in err


def test_a_method_that_nothing_runs_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "c.toml").write_text(CAMPAIGN.replace('["fixed", "fixed-small"]', '["fixed"]').replace("exclude", "#"))
    assert plan(capsys)[0]["notes"] == ["[methods.fixed-small] is not in matrix.method, so nothing runs it"]


def test_what_is_left_out_for_one_reason_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And no line says more than that: a runs what is bursty."""
    (here / "c.toml").write_text(CAMPAIGN.replace('trace = ["idle"]', 'trace = ["idle", "ramp", "bursty"]').replace(
        'exclude = [', 'exclude = [{ method = "fixed-small", trace = "[ir]*", reason = "no" }, '))
    _, err = plan(capsys)
    assert [line for line in err.splitlines() if line.startswith("excluded: ")] == [
        "excluded: fixed-small on a and b, digits/resnet_digits, idle and ramp: no",
        "excluded: fixed-small on b, digits/resnet_digits, bursty: too slow"]


def test_offline_asks_no_device(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "fleet.toml").write_text(FLEET + "[devices.real]\n")
    value, err = plan(capsys, "--offline")
    windows = [one["seconds"] + GAP_S for one in value["trials"] if one["device"] == "real"]    # the others: none
    assert value["needed_s"] == pytest.approx(sum(windows), abs=0.1) and windows
    assert re.search(r" to run, about \d+ s, after what must be built or prepared$", err, re.M)
    assert {one["reason"].split(",")[0] for one in value["trials"]} == {
        f"the device {name} was never reached" for name in ("a", "b", "real")}


def test_a_silent_device_is_told_and_keeps_no_other_from_being_planned(
        here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = FLEET + '[devices.dead]\npython = "/bin/false"\n'
    (here / "fleet.toml").write_text(text)
    value, err = plan(capsys)
    assert any(note.startswith("dead: ") for note in value["notes"])
    assert {one["device"] for one in value["trials"]} == {"a", "b", "dead"}
    assert "note: dead: " in err


def test_the_runtime_is_asked_of_the_device_and_remembered_by_the_store(here: Path) -> None:
    asked = resolve(Path("c.toml"), ask="unseen")
    assert set(asked.facts) == {"a", "b"}
    assert asked.runtimes[("a", "replay")] != asked.runtimes[("b", "replay")]
    home = Home(here / "home")
    with Store.open(home.results) as store:
        for name, facts in asked.facts.items():
            store.save_device(name, "simulated", None, 1.0, "simulated", facts)
    known = resolve(Path("c.toml"), home=home, ask="unseen")
    assert known.facts == {}
    assert known.runtimes == asked.runtimes


def test_a_device_that_lacked_the_runtime_is_asked_again(here: Path) -> None:
    home = Home(here / "home")
    with Store.open(home.results) as store:
        store.save_device("a", "simulated", None, 1.0, "simulated", {"engines": {"replay": {"runtime": None}}})
    found = resolve(Path("c.toml"), home=home, ask="unseen")
    assert found.runtimes[("a", "replay")] != NO_RUNTIME
    assert resolve(Path("c.toml"), home=home, ask="never").runtimes == {("a", "replay"): NO_RUNTIME}


def test_the_fleet_is_the_stated_one_then_the_campaigns_then_the_one_beside(here: Path) -> None:
    campaign = load_campaign(here / "c.toml")
    assert find_fleet(campaign, Path("x.toml"), here) == Path("x.toml")
    assert find_fleet(campaign.model_copy(update={"fleet": Path("y.toml")}), None, here) == Path("y.toml")
    assert find_fleet(campaign, None, here) == here / "fleet.toml"
    (here / "fleet.toml").unlink()
    assert find_fleet(campaign, None, here) is None


@pytest.mark.parametrize(("facts", "runtime"), [
    (None, None), ({}, None), ({"engines": {}}, None), ({"engines": {"e": {"runtime": None}}}, NO_RUNTIME),
    ({"engines": {"e": {"runtime": "e 1"}}}, "e 1")])
def test_what_facts_say_about_a_runtime(facts: dict[str, Any] | None, runtime: str | None) -> None:
    assert runtime_of(facts, "e") == runtime


def test_without_a_fleet_file_the_fleet_is_this_machine(here: Path) -> None:
    (here / "fleet.toml").unlink()
    (here / "c.toml").write_text(CAMPAIGN.replace('device = "b"', 'trace = "ramp"'))
    assert [device.name for device in resolve(Path("c.toml"), ask="never").devices] == ["host"]
