"""A controller that is killed in mid-campaign, and what the next one finds: every trial, each once."""
import json
import os
import signal
import time

import pytest

from tests.e2e.spine import edgefleet, kill, planned, query, start, wait_for, write_campaign


@pytest.fixture
def campaign(tmp_path, tiny_home, tiny_model):
    return write_campaign(tmp_path, tiny_model)


def assert_each_once(home, ids):
    assert sorted(row[0] for row in query(home, "select id from trial where state = 'done'")) == sorted(ids)
    assert query(home, "select count(*) from trial")[0][0] == len(ids)
    twice = query(home, "select trial, count(*) from attempt where state = 'done' group by trial having count(*) != 1")
    assert twice == []
    seen = query(home, "select count(distinct trial) from inference where phase = 'window'")
    assert seen[0][0] == len(ids)
    assert query(home, "select count(*) from attempt where state = 'running'")[0][0] == 0


@pytest.mark.parametrize("scheduler", ["inline", "ray"])
def test_sigkill_in_mid_campaign_loses_nothing_and_repeats_nothing(campaign, tiny_home, scheduler):
    ids = planned(campaign, tiny_home)
    assert len(ids) == len(set(ids)) == 12 and None not in ids
    for done_before in (1, 4):
        controller = start("run", campaign, "--scheduler", scheduler, home=tiny_home)
        wait_for(tiny_home, "select count(*) from trial where state = 'done'", done_before, controller)
        kill(controller)
    last = edgefleet("run", campaign, "--scheduler", scheduler, home=tiny_home)
    assert last.returncode == 0, last.stderr
    assert planned(campaign, tiny_home) == ids
    assert_each_once(tiny_home, ids)


def test_an_agent_that_outlives_its_controller_is_collected_not_started_again(campaign, tiny_home):
    controller = start("run", campaign, "--scheduler", "inline", home=tiny_home)
    wait_for(tiny_home, "select count(*) from attempt where state = 'running'", 1, controller)
    trial = query(tiny_home, "select trial from attempt where state = 'running'")
    kill(controller)
    last = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert last.returncode == 0, last.stderr
    if trial:                                           # it may have ended just before the kill
        assert query(tiny_home, "select number, state from attempt where trial = ?", trial[0][0]) == [(1, "done")]
    assert_each_once(tiny_home, planned(campaign, tiny_home))


def test_a_second_run_finds_everything_done(campaign, tiny_home):
    assert edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home).returncode == 0
    before = query(tiny_home, "select trial, number, started_s from attempt order by 1, 2")
    again = edgefleet("run", campaign, home=tiny_home)
    assert again.returncode == 0
    assert "all 12 trials of spine are done" in again.stderr
    assert query(tiny_home, "select trial, number, started_s from attempt order by 1, 2") == before


def test_a_second_controller_is_turned_away(campaign, tiny_home):
    first = start("run", campaign, "--scheduler", "inline", home=tiny_home)
    wait_for(tiny_home, "select count(*) from attempt", 1, first)
    second = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert second.returncode == 3
    assert f"in use by another `edgefleet run` (process {first.pid})" in second.stderr
    assert first.wait(timeout=120) == 0
    assert_each_once(tiny_home, planned(campaign, tiny_home))


def owner_of(home):
    """Who holds the device `host`, as its lock says; an empty lock was taken but not signed yet."""
    text = (home / "devices/host/lock").read_text()
    return json.loads(text) if text else {"trial": None}


def test_an_agent_killed_by_sigkill_is_a_row_and_is_tried_once_more(tmp_path, tiny_home, tiny_model):
    campaign = write_campaign(tmp_path, tiny_model, "[devices.host]\n", repeats=1, duration_s=4.0)
    controller = start("run", campaign, "--scheduler", "inline", home=tiny_home)
    wait_for(tiny_home, "select count(*) from attempt where state = 'running'", 1, controller)
    first = owner = owner_of(tiny_home)
    while owner.get("trial") in (None, first.get("trial")):  # one that has just begun has seconds ahead
        assert controller.poll() is None
        time.sleep(0.02)
        owner = owner_of(tiny_home)
    os.kill(owner["pid"], signal.SIGKILL)
    assert controller.wait(timeout=120) == 0
    attempts = query(tiny_home, "select number, state, error, blame from attempt where trial = ? order by 1",
                     owner["trial"])
    assert attempts == [(1, "failed", "AgentCrashed", "device"), (2, "done", None, None)]
    assert_each_once(tiny_home, planned(campaign, tiny_home))


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_leave_a_campaign_that_goes_on(campaign, tiny_home, stop):
    """In order and with one message: Ray's own answer to SIGTERM is a dump of addresses, and an abort."""
    controller = start("run", campaign, home=tiny_home)
    wait_for(tiny_home, "select count(*) from trial where state = 'done'", 1, controller)
    controller.send_signal(stop)
    assert controller.wait(timeout=60) == 130
    assert edgefleet("run", campaign, home=tiny_home).returncode == 0
    assert_each_once(tiny_home, planned(campaign, tiny_home))
