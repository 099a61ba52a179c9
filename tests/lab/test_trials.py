"""Whole campaigns on the lab's devices, over ssh and adb, while things go wrong: nothing is lost, nothing runs twice.

Every test is the command line as a process with a home of its own. A fault is injected when the journal on the device
shows that the measured window has begun; the test looks at the device's disk from outside for that.
"""
import resource
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness.lab import faults
from harness.lab.lab import Lab
from tests.e2e.spine import edgefleet, kill, query, said, start
from tests.lab.conftest import BOARD, OTHER_BOARD, PHONE, with_python

pytestmark = pytest.mark.usefixtures("clean_devices")

#: What Python imports at its start, where PYTHONPATH leads to it
LATE_CLOCK = """import time
_now_ns = time.time_ns
time.time_ns = lambda: _now_ns() - 10**17
time.time = lambda: time.time_ns() / 1e9
"""
FINISH_S = 240.0                                # a reboot is noticed when the trial is overdue, not before


def wait_for_window(lab: Lab, name: str, controller: "subprocess.Popen[bytes]") -> None:
    """Until a trial runs on the device and its journal has an inference of the window."""
    disk = lab.folder / "devices" / name / "disk" / "upper"
    trials = [disk / "home/device/.edgefleet-agent/trials", disk / "data/local/tmp/edgefleet/trials"]
    give_up = time.monotonic() + 120.0
    while time.monotonic() < give_up:
        for journal in (journal for folder in trials for journal in folder.glob("*/trial.jsonl")):
            with suppress(FileNotFoundError):   # it was collected just now
                if '"phase":"window"' in journal.read_text():
                    return
        assert controller.poll() is None, f"the run ended before the window was seen: {said(controller)}"
        time.sleep(0.05)
    raise AssertionError(f"no window on {name}")


def attempts(home: Path, name: str) -> list[tuple]:
    return query(home, "select number, attempt.state, attempt.error, attempt.blame from attempt join trial "
                       "on trial.id = attempt.trial where device = ? order by number", name)


def outcomes(home: Path, name: str) -> list[tuple]:
    return query(home, "select state, blame from trial where device = ? order by repeat", name)


def run_with(lab: Lab, name: str, path: Path, home: Path, *kinds: str, pause_s: float = 1.0) -> int:
    """The exit code of a run into whose window on `name` these faults fall, one by one."""
    controller = start("run", path, "--scheduler", "inline", home=home)
    wait_for_window(lab, name, controller)
    for number, kind in enumerate(kinds):
        time.sleep(pause_s if number else 0.0)
        faults.inject(lab, name, kind)
    return controller.wait(timeout=FINISH_S)


def test_every_trial_on_every_device_over_both_cables(lab: Lab, campaign: Any, tiny_home: Path) -> None:
    names = [member.name for member in lab.members]
    done = edgefleet("run", campaign(*names, duration_s=1.0, repeats=2), home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert query(tiny_home, "select device, state, count(*) from trial group by 1, 2 order by 1") == [
        (name, "done", 2) for name in sorted(names)]
    for name in names:                          # the agent's folder is all that they have of us
        folders = "/home/device", "/data/local/tmp"
        left = lab.box(name).enter("find", *folders, "-mindepth", "1", "-maxdepth", "1").stdout.decode().split()
        assert {Path(one).name for one in left} - {".keep"} in ({".edgefleet-agent"}, {"edgefleet"}), left


@pytest.mark.parametrize("kinds", [("kill-session",), ("cut", "restore"), ("freeze", "restore")])
def test_a_cable_that_fails_in_the_window_costs_nothing(
        lab: Lab, name: str, campaign: Any, tiny_home: Path, kinds: tuple[str, ...]) -> None:
    """The agent goes on without us; its journal is collected when it is due. One attempt, done."""
    assert run_with(lab, name, campaign(name), tiny_home, *kinds) == 0
    assert attempts(tiny_home, name) == [(1, "done", None, None)]


@pytest.mark.parametrize("kind", ["kill-agent", "out-of-memory"])
def test_an_agent_that_dies_is_a_row_and_runs_once_more(
        lab: Lab, name: str, campaign: Any, tiny_home: Path, kind: str) -> None:
    died_and_ran_again(lab, name, campaign, tiny_home, kind)


def test_a_device_that_reboots_is_a_row_and_runs_once_more(
        lab: Lab, name: str, campaign: Any, tiny_home: Path) -> None:
    died_and_ran_again(lab, name, campaign, tiny_home, "reboot")


def died_and_ran_again(lab: Lab, name: str, campaign: Any, tiny_home: Path, kind: str) -> None:
    assert run_with(lab, name, campaign(name), tiny_home, kind) == 0
    first, second = attempts(tiny_home, name)
    assert first == (1, "failed", "AgentCrashed", "device") and second == (2, "done", None, None)
    assert query(tiny_home, "select count(*) from inference where phase = 'window'")[0][0] > 0


def test_a_disk_that_fills_up_is_the_device_s_fault_and_the_fleet_goes_on(
        lab: Lab, name: str, campaign: Any, tiny_home: Path) -> None:
    assert edgefleet("run", campaign(name, OTHER_BOARD, duration_s=1.0), home=tiny_home).returncode == 0
    faults.inject(lab, name, "disk-full")
    path = campaign(name, OTHER_BOARD, duration_s=1.0, repeats=2)
    done = edgefleet("run", path, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 1, done.stderr
    assert outcomes(tiny_home, OTHER_BOARD) == [("done", None), ("done", None)]
    assert outcomes(tiny_home, name) == [("done", None), ("failed", "device")]
    faults.inject(lab, name, "restore")
    again = edgefleet("run", path, "--scheduler", "inline", "--retry-failed", home=tiny_home)
    assert again.returncode == 0, again.stderr


def test_a_journal_that_could_not_be_fetched_is_collected_later(
        lab: Lab, name: str, campaign: Any, tiny_home: Path) -> None:
    """The link is cut, the trial ends over there, the controller dies; the next one finds the journal."""
    path = campaign(name, duration_s=2.0)
    controller = start("run", path, "--scheduler", "inline", home=tiny_home)
    wait_for_window(lab, name, controller)
    faults.inject(lab, name, "cut")
    time.sleep(3.0)
    kill(controller)
    faults.inject(lab, name, "restore")
    done = edgefleet("run", path, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert attempts(tiny_home, name) == [(1, "done", None, None)]


def test_a_link_that_stays_cut_leaves_the_trial_to_the_next_run(
        lab: Lab, name: str, campaign: Any, tiny_home: Path) -> None:
    """The session dies, and no retry gets through: nothing is judged, and the next run finds the journal."""
    path = campaign(name, duration_s=3.0)
    assert run_with(lab, name, path, tiny_home, "kill-session", "cut", pause_s=0.0) == 3
    assert attempts(tiny_home, name)[0] == (1, "failed", "DeviceUnreachable", "link")
    assert outcomes(tiny_home, name) == [("pending", "link")]
    faults.inject(lab, name, "restore")
    done = edgefleet("run", path, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    first, *rest = attempts(tiny_home, name)
    assert first == (1, "done", None, None) and {row[2] for row in rest} <= {"DeviceUnreachable"}
    assert query(tiny_home, "select count(*) from inference where phase = 'window'")[0][0] > 0


def test_a_wall_clock_that_is_years_behind_changes_nothing_but_a_warning(
        lab: Lab, name: str, campaign: Any, tiny_home: Path, tmp_path: Path) -> None:
    """The device's Python alone is given another clock."""
    with with_python(lab, name, tmp_path, sitecustomize=LATE_CLOCK) as fleet:
        path = campaign(name, duration_s=1.0)
        path.write_text(path.read_text().replace(str(lab.fleet), str(fleet)))
        assert edgefleet("run", path, home=tiny_home).returncode == 0
        assert attempts(tiny_home, name) == [(1, "done", None, None)]
        assert query(tiny_home, "select count(*) from inference where phase = 'window'") == [(50,)]     # in its 1 s
        [(least_ms, most_ms)] = query(tiny_home, "select min(latency_ms), max(latency_ms) from inference")
        assert 0 < least_ms <= most_ms < 1000
        told = edgefleet("doctor", name, "--fleet", fleet, home=tiny_home)
        assert "wall clock differs by" in told.stdout


def test_a_changed_host_key_is_the_user_s_to_judge_and_the_fleet_goes_on(
        lab: Lab, campaign: Any, tiny_home: Path) -> None:
    assert edgefleet("run", campaign(BOARD, OTHER_BOARD, duration_s=1.0), home=tiny_home).returncode == 0
    faults.inject(lab, BOARD, "new-host-key")
    path = campaign(BOARD, OTHER_BOARD, duration_s=1.0, repeats=2)
    done = edgefleet("run", path, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 1 and "HAS CHANGED" in done.stderr
    assert outcomes(tiny_home, OTHER_BOARD) == [("done", None), ("done", None)]
    assert outcomes(tiny_home, BOARD) == [("done", None), ("failed", "user")]


def test_no_packet_reaches_a_device_in_its_window(lab: Lab, name: str, campaign: Any, tiny_home: Path) -> None:
    controller = start("run", campaign(name, duration_s=5.0), "--scheduler", "inline", home=tiny_home)
    wait_for_window(lab, name, controller)
    time.sleep(0.5)
    before = lab.network.packets_in(name)
    time.sleep(3.0)
    assert lab.network.packets_in(name) == before
    assert controller.wait(timeout=FINISH_S) == 0


def test_a_session_that_dies_while_nothing_runs_is_not_noticed(lab: Lab, campaign: Any, tiny_home: Path) -> None:
    """Devices are probed first and used later: a daemon may have been started anew in between."""
    names = [BOARD, PHONE] if PHONE in [member.name for member in lab.members] else [BOARD]
    controller = start("run", campaign(*names, duration_s=5.0, repeats=2), "--scheduler", "inline", home=tiny_home)
    for name in names:
        wait_for_window(lab, name, controller)
        time.sleep(2.0)                         # a busy machine may still be pushing to the other one
        for other in names:
            if other != name:
                faults.inject(lab, other, "kill-session")
    assert controller.wait(timeout=FINISH_S) == 0
    for name in names:
        assert {row[1] for row in attempts(tiny_home, name)} == {"done"}


HOSTILE = (
    b'{"seq":0,"kind":"start","trial":"../../../etc/passwd","attempt":1,"protocol":1}\n'
    b'{"seq":1,"kind":"note","t_ns":1,"phase":"window","text":"\\u001b]0;owned\\u0007\\u001b[2J"}\n'
    b"\xff\xfe\x00 not even text\n"
    b'{"seq":2,"kind":"inference","t_ns":1e999,"phase":"window","index":-1}\n'
    b'{"seq":3,"kind":"note","text":"' + b"x" * 64_000_000 + b'"}\n'
)


GIANT_B = 1_100_000_000                         # of a file with a hole: it costs the device no disk


def test_a_hostile_journal_is_a_row_and_nothing_else(lab: Lab, name: str, campaign: Any, tiny_home: Path) -> None:
    """Another trial's id, terminal escapes, bytes that are no text, lines of 64 MB and of 1 GB, no end."""
    path = campaign(name, duration_s=2.0)
    controller = start("run", path, "--scheduler", "inline", home=tiny_home)
    wait_for_window(lab, name, controller)
    kill(controller)
    time.sleep(4.0)
    written = lab.box(name).enter("/bin/sh", "-c", "there=$(ls /home/device/.edgefleet-agent/trials/*/trial.jsonl "
                                                   "/data/local/tmp/edgefleet/trials/*/trial.jsonl 2>/dev/null); "
                                                   f"cat > $there && truncate -s {GIANT_B} $there", stdin=HOSTILE)
    assert written.returncode == 0
    done = edgefleet("run", path, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < GIANT_B // 1000     # kB of the largest so far
    assert "\x1b" not in done.stdout + done.stderr
    first, second = attempts(tiny_home, name)
    assert first == (1, "failed", "AgentCrashed", "device") and second == (2, "done", None, None)
    shown = edgefleet("show", query(tiny_home, "select id from trial")[0][0], home=tiny_home)
    assert shown.returncode == 0 and "\x1b" not in shown.stdout
