"""What depends on a device is prepared before its trials are named: costs, equal tuning, a chain of training trials."""
import json
import re
import sys

import pytest

from tests.e2e.spine import PLUGINS, edgefleet, planned, query

CAMPAIGN = """
name = "prepared"
seed = 3
plugins = "%s"
[matrix]
device = ["host"]
workload = [{ task = "digits", model = "tiny" }]
method = ["fixed", "adascale", "learner"]
trace = ["idle"]
[methods.learner]
adapter = "learner"
[trial]
duration_s = 0.3
warmup_s = 0.05
[training]
epochs = 1
[tuning]
configurations = 3
arrivals = 50
"""


@pytest.fixture
def campaign(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(CAMPAIGN % PLUGINS)
    return path


def preparations(home):
    found = [json.loads(path.read_text()) for path in (home / "prepared").iterdir()]
    return {one["label"]: one for one in found}


def test_a_run_prepares_what_its_rows_need_and_a_second_one_reuses_it(campaign, tiny_home):
    before = json.loads(edgefleet("plan", campaign, "--json", home=tiny_home).stdout)
    assert {one["method"]: one["id"] is None for one in before["trials"]} == {
        "fixed": False, "adascale": True, "learner": True}
    assert any("not prepared" in one.get("reason", "") for one in before["trials"])
    done = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^adascale on host, digits/tiny seed \d+: tuned on a simulated twin", done.stderr, re.MULTILINE)
    made = preparations(tiny_home)
    assert set(made) == {"adascale", "learner"}
    for one in made.values():
        assert one["tuning"][0]["settings"] == {}                               # the defaults take part
        assert len(one["tuning"]) == 3
        assert any("same for every seed" in line and line.endswith(": idle") for line in one["log"])
        assert one["budget"]["device_s"] > 0 and one["budget"]["search_s"] > 0
        best = max(one["tuning"], key=lambda draw: draw["score"])
        assert best["settings"].items() <= one["settings"].items()
    learned = json.loads((tiny_home / "learned" / made["learner"]["learned"]).read_text())
    assert learned == {"trials": 3}                                             # each went on from the one before
    rows = query(tiny_home, "select label, settings, definition from trial where campaign = 'prepared'")
    settings = {label: json.loads(text) for label, text, _ in rows}
    definition = {label: json.loads(text) for label, _, text in rows}
    assert made["adascale"]["settings"].items() <= settings["adascale"].items()
    assert settings["learner"]["learn"] is False
    assert definition["learner"]["learned"] == made["learner"]["learned"]
    chain = query(tiny_home, "select state, count(*) from trial where campaign = 'prepared/learning' group by 1")
    assert chain == [("done", 3)]
    ids = planned(campaign, tiny_home)
    assert len(ids) == 3 and None not in ids
    again = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert "all 3 trials of prepared are done" in again.stderr
    assert query(tiny_home, "select count(*) from trial")[0][0] == 6
    kept = query(tiny_home, "select label, adapter, budget from preparation order by 1")
    assert [(label, adapter) for label, adapter, _ in kept] == [("adascale", "adascale"), ("learner", "learner")]
    assert all(json.loads(budget)["device_s"] > 0 for _, _, budget in kept)


def test_a_device_that_is_off_costs_its_own_rows_and_no_others(campaign, tiny_home, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "fleet.toml").write_text(f'[devices.host]\n[devices.off]\npython = "{python}"\n')
    text = campaign.read_text().replace('device = ["host"]', 'device = ["*"]').replace(
        'seed = 3\n', 'seed = 3\nfleet = "fleet.toml"\n')
    campaign.write_text(text.replace('"fixed", "adascale", "learner"', '"fixed"'))
    assert edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home).returncode == 0
    python.write_text("#!/bin/sh\necho garbage\n")
    campaign.write_text(text.replace('"fixed", "adascale", "learner"', '"fixed", "adascale"'))
    done = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 3, done.stderr
    assert "not prepared: adascale on off: off: list answered no JSON" in done.stderr or (
        "not prepared: adascale on off: off: probe answered no JSON" in done.stderr), done.stderr
    assert query(tiny_home, "select device, label, state from trial order by 1, 2") == [
        ("host", "adascale", "done"), ("host", "fixed", "done"), ("off", "fixed", "done")]


def test_a_chain_goes_on_where_it_was_killed(campaign, tiny_home):
    text = campaign.read_text().replace("configurations = 3", "configurations = 3\ntraining_trials = 2")
    campaign.write_text(text)
    assert edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home).returncode == 0
    for path in (tiny_home / "prepared").iterdir():
        path.unlink()                                                           # as if killed before it was written
    done = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    chain = query(tiny_home, "select count(*) from trial where campaign = 'prepared/learning'")
    assert chain == [(2,)]
    assert query(tiny_home, "select count(*) from attempt a join trial t on a.trial = t.id "
                 "where t.campaign = 'prepared/learning'") == [(2,)]
