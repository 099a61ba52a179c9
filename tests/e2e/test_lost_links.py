"""A link that is lost when it hurts most: no journal is lost, no trial runs twice, and the database says so.

The device's Python is a script that starts the real one and loses answers on the way: as many `wait` answers as there
are files wait.N beside it, and the answer to `run` while there is a file `run`.
"""
import json
import shutil
import sys

import pytest

from db.store import Store
from harness import device
from harness.driver import record_plan, run_missing
from harness.home import Home
from harness.resolve import resolve
from tests.e2e.spine import edgefleet, query, write_campaign

CABLE = """#!/bin/sh
for lost in {folder}/"$2".*; do
    [ -e "$lost" ] && rm "$lost" && echo "Connection reset by peer" && exit 0
done
[ "$2" = run ] && [ -e {folder}/run ] && rm {folder}/run && {python} "$@" && exec sleep 600
exec {python} "$@"
"""
TWICE = 2                                       # a wait is asked again once when it is due, before it is an error
ATTEMPTS = "select number, state, error, blame from attempt where trial = ? order by number"


@pytest.fixture
def cable(tmp_path):
    """The folder of the script, and of what it is to lose."""
    folder = tmp_path / "cable"
    folder.mkdir()
    (folder / "python").write_text(CABLE.format(folder=folder, python=sys.executable))
    (folder / "python").chmod(0o755)
    return folder


@pytest.fixture
def campaign(tmp_path, tiny_model, cable):
    return write_campaign(tmp_path, tiny_model, f'[devices.host]\npython = "{cable / "python"}"\n', repeats=1)


def lose_waits(cable, count):
    for number in range(count):
        (cable / f"wait.{number}").touch()


def assert_each_ran_once(home):
    """And what is in the database came from it; nothing is left on the device."""
    assert query(home, "select state, count(*) from trial group by 1") == [("done", 3)]
    assert query(home, "select count(*), count(distinct trial), min(state), min(number), max(number) from attempt") == [
        (3, 3, "done", 1, 1)]
    assert query(home, "select count(distinct trial) from inference where phase = 'window'") == [(3,)]
    assert query(home, "select error, blame, reason from trial where reason is not null") == []
    assert query(home, "select count(*) from summary")[0][0] > 0


@pytest.mark.parametrize("scheduler", ["inline", "ray"])
def test_a_journal_that_was_due_while_the_link_was_down_is_collected_by_the_retry(
        campaign, tiny_home, cable, scheduler):
    lose_waits(cable, TWICE)
    done = edgefleet("run", campaign, "--scheduler", scheduler, home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("again: ") == 1
    assert not list(cable.glob("wait.*"))
    assert_each_ran_once(tiny_home)
    assert not list((tiny_home / "devices/host/trials").iterdir())


def test_a_trial_whose_start_was_not_answered_goes_on_and_is_collected(campaign, tiny_home, cable, monkeypatch):
    monkeypatch.setattr(device, "QUICK_S", 15.0)
    (cable / "run").touch()
    home, seen = Home(tiny_home), []
    for folder in (home.cache, home.devices, home.leases, home.journals):
        folder.mkdir(exist_ok=True)
    resolved = resolve(campaign, None, home, ask="all")
    with Store.open(home.results) as store:
        record_plan(resolved, store)
        ended = run_missing(resolved, home, store, "inline", seen.append)
    assert ended.states == {"done": 3}
    lost = [one for one in seen if one.error]
    assert [(one.attempt, one.error, one.final) for one in lost] == [(1, "DeviceUnreachable", False)]
    assert_each_ran_once(tiny_home)


def test_a_link_that_stays_down_leaves_the_trial_to_the_next_run(campaign, tiny_home, cable):
    """Also when a run in between does not get through at all."""
    lose_waits(cable, TWICE * 4)
    first = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert first.returncode == 3, first.stderr
    [(trial,)] = query(tiny_home, "select trial from attempt")
    assert query(tiny_home, ATTEMPTS, trial) == [(1, "failed", "DeviceUnreachable", "link")]
    states = query(tiny_home, "select state, error, blame, reason like '%answered no JSON%' from trial")
    assert states == [("pending", "DeviceUnreachable", "link", 1)] * 3
    shutil.move(cable / "python", cable / "off")
    (cable / "python").write_text("#!/bin/sh\necho garbage\n")
    (cable / "python").chmod(0o755)
    assert edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home).returncode == 3
    assert query(tiny_home, "select state from trial where id = ?", trial) == [("pending",)]
    shutil.move(cable / "off", cable / "python")
    last = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert last.returncode == 0, last.stderr
    lost, *silent = query(tiny_home, ATTEMPTS, trial)
    assert lost == (1, "done", None, None)
    assert {row[1:] for row in silent} == {("failed", "DeviceUnreachable", "link")}
    assert query(tiny_home, "select count(*) from inference where trial = ? and phase = 'window'", trial)[0][0] > 0
    shown = json.loads(edgefleet("show", trial, "--json", home=tiny_home).stdout)
    assert shown["timeline"], "that of the attempt which has one, not of the last"
    assert not list((tiny_home / "devices/host/trials").iterdir())


def test_gc_removes_what_is_in_the_store_and_nothing_that_was_not_collected(campaign, tiny_home, cable):
    lose_waits(cable, TWICE * 4)
    assert edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home).returncode == 3
    trials = tiny_home / "devices/host/trials"
    [held] = trials.iterdir()
    assert edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home).returncode == 0
    trial, other = (row[0] for row in query(tiny_home, "select id from trial where id != ? limit 2", held.name[:-2]))
    for name in (f"{trial}.1", f"{other}.2"):   # a run that was interrupted left the first; nobody has the second
        (trials / name).mkdir()
        (trials / name / "trial.jsonl").write_text('{"seq":0,"kind":"start"}\n')
        (trials / name / "lock").touch()
    done = edgefleet("device", "gc", "host", "--max-age-days", 0, "--fleet", campaign.with_name("fleet.toml"),
                     home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in trials.iterdir()] == [f"{other}.2"]
