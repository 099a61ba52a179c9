"""Campaigns whose device or cable fails in the push, in the collect, or floods what it is read from: what the database
says afterwards, over ssh and adb. Faults in the measured window are in test_trials.py.
"""
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness.lab import faults
from harness.lab.board import SYNTHETIC
from harness.lab.lab import Lab
from harness.lab.wire import Shape
from tests import lab_kit
from tests.e2e.spine import edgefleet, query, said, start
from tests.lab.conftest import PHONE, with_python
from tests.lab.test_trials import FINISH_S, attempts, outcomes, wait_for_window

pytestmark = pytest.mark.usefixtures("clean_devices")

PUSH = Shape(rate_mbit=2.0)                     # the samples of the bundle, 1.5 MB, take seconds
MORE_THAN_THE_AGENT_B = 300_000
COLLECT = Shape(rate_mbit=0.02)                 # so does a journal
FLOOD_B = 20_000_000


def when(there: Callable[[], bool], controller: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + 120.0
    while not there():
        assert controller.poll() is None, "the run ended before that was seen"
        assert time.monotonic() < give_up, "never"
        time.sleep(0.02)


def agent_folder(lab: Lab, name: str) -> Path:
    disk = lab.folder / "devices" / name / "disk" / "upper"
    phone = lab.member(name).kind == "phone"
    return disk / ("data/local/tmp/edgefleet" if phone else "home/device/.edgefleet-agent")


def pushes_to(lab: Lab, name: str) -> Callable[[], bool]:
    """Whether content of the bundle is on its way there, as the device's network counts it from now on: adb passes on a
    megabyte at a time, so a file can appear over there when all of it has travelled."""
    before = lab.network.octets_in(name)
    return lambda: lab.network.octets_in(name) - before > MORE_THAN_THE_AGENT_B


def ended(lab: Lab, name: str) -> bool:
    """Whether a trial has ended over there, by its journal's last line."""
    for journal in (agent_folder(lab, name) / "trials").glob("*/trial.jsonl"):
        with suppress(FileNotFoundError):       # it was collected just now
            return '"kind":"done"' in journal.read_text().rpartition("\n{")[2]
    return False


def test_a_link_that_is_cut_in_the_push_is_a_row_and_the_next_run_finishes_it(
        lab: Lab, name: str, campaign: Any, tiny_home: Path) -> None:
    faults.inject(lab, name, "slow-link", PUSH)
    pushing = pushes_to(lab, name)
    path = campaign(name, duration_s=1.0)
    controller = start("run", path, "--scheduler", "inline", home=tiny_home)
    when(pushing, controller)
    faults.inject(lab, name, "cut")
    assert controller.wait(timeout=FINISH_S) == 3
    assert {row[1:] for row in attempts(tiny_home, name)} == {("failed", "DeviceUnreachable", "link")}
    assert outcomes(tiny_home, name) == [("pending", "link")]
    faults.inject(lab, name, "restore")
    done = edgefleet("run", path, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert outcomes(tiny_home, name) == [("done", None)]


def test_a_daemon_that_is_killed_in_the_push_costs_one_attempt(
        lab: Lab, name: str, campaign: Any, tiny_home: Path) -> None:
    faults.inject(lab, name, "slow-link", PUSH)
    pushing = pushes_to(lab, name)
    controller = start("run", campaign(name, duration_s=1.0), "--scheduler", "inline", home=tiny_home)
    when(pushing, controller)
    faults.inject(lab, name, "kill-session")
    assert controller.wait(timeout=FINISH_S) == 0
    *lost, done = attempts(tiny_home, name)
    assert {row[1:] for row in lost} == {("failed", "DeviceUnreachable", "link")} and done[1:] == ("done", None, None)


@pytest.mark.parametrize("kinds", [("kill-session",), ("cut", "restore")])
def test_what_fails_while_the_journal_travels_costs_nothing(
        lab: Lab, name: str, campaign: Any, tiny_home: Path, kinds: tuple[str, ...]) -> None:
    controller = start("run", campaign(name), "--scheduler", "inline", home=tiny_home)
    wait_for_window(lab, name, controller)
    faults.inject(lab, name, "slow-link", COLLECT)
    when(lambda: ended(lab, name), controller)
    for kind in kinds:
        time.sleep(0.7)
        assert attempts(tiny_home, name) == [(1, "running", None, None)]
        faults.inject(lab, name, kind)
    assert controller.wait(timeout=FINISH_S) == 0, said(controller)
    assert attempts(tiny_home, name) == [(1, "done", None, None)]
    assert query(tiny_home, "select count(*) from inference where phase = 'window'")[0][0] > 0


def test_a_python_that_floods_stderr_at_every_start_holds_nothing_up(
        lab: Lab, name: str, campaign: Any, tiny_home: Path, tmp_path: Path) -> None:
    flood = f"head -c {FLOOD_B} /dev/zero | tr '\\0' x >&2"
    with with_python(lab, name, tmp_path, before=flood) as fleet:
        path = campaign(name, duration_s=1.0)
        path.write_text(path.read_text().replace(str(lab.fleet), str(fleet)))
        done = edgefleet("run", path, "--scheduler", "inline", home=tiny_home)
        assert done.returncode == 0 and len(done.stderr) < FLOOD_B // 100, done.stderr[-2000:]
    assert attempts(tiny_home, name) == [(1, "done", None, None)]


def test_a_device_that_throttles_is_flagged_in_its_trial(
        lab: Lab, name: str, campaign: Any, tiny_home: Path) -> None:
    assert edgefleet("run", campaign(name, duration_s=1.0), "--scheduler", "inline", home=tiny_home).returncode == 0
    faults.inject(lab, name, "throttle")
    path = campaign(name, duration_s=1.0, repeats=2)
    done = edgefleet("run", path, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert query(tiny_home, "select value, summary.provenance from summary join trial on trial.id = summary.trial "
                            "where metric = 'throttled' order by repeat") == [(0.0, "synthetic"), (1.0, "synthetic")]


def test_a_phone_is_unproven_until_one_that_is_no_fixture_has_run_a_trial(
        lab: Lab, devices: Any, campaign: Any, tiny_home: Path) -> None:
    if PHONE not in devices:
        pytest.skip(lab_kit.no_phone())
    marker = lab.folder / "devices" / PHONE / "sys" / SYNTHETIC

    def told() -> bool:
        return "phone inference unproven" in edgefleet("doctor", PHONE, "--fleet", lab.fleet, home=tiny_home).stdout

    marker.unlink()
    try:
        assert told()
        assert edgefleet("run", campaign(PHONE, duration_s=1.0), home=tiny_home).returncode == 0
        assert not told()
    finally:
        faults.inject(lab, PHONE, "restore")
    assert marker.exists() and told()
