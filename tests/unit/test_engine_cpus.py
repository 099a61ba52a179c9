"""The knob `cpus`: which cores an engine on onnxruntime may use, and that nobody else is kept to them."""
import os
from pathlib import Path
from typing import Any

import pytest

from device_agents.clock import BootClock
from device_agents.engines.onnxruntime_cpu import OnnxruntimeCpu
from device_agents.journal import Journal
from device_agents.load import LoadPlayer
from device_agents.seams import UserError
from device_agents.wire import LoadTrace
from tests.agent_kit import make_home

EVERY = frozenset(os.sched_getaffinity(0))
ONE = min(EVERY)
pytestmark = pytest.mark.skipif(len(EVERY) < 2, reason="one core is nothing to choose from")


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    made = OnnxruntimeCpu()
    made.open(make_home(str(tmp_path / "H")), str(tmp_path / "H" / "store"), {})
    yield made
    made.close()
    assert os.sched_getaffinity(0) == EVERY


def threads() -> Any:
    return {int(name) for name in os.listdir("/proc/self/task")}


def test_a_branch_runs_where_its_knob_says_and_another_where_its_own_does(engine: OnnxruntimeCpu) -> None:
    before = threads()
    engine.load("half", {"cpus": [ONE], "threads": 2})
    assert {frozenset(os.sched_getaffinity(thread)) for thread in threads() - before} == {frozenset([ONE])}
    engine.load("full", {})
    engine.infer("half", 0)
    assert os.sched_getaffinity(0) == {ONE}
    engine.infer("full", 0)
    assert os.sched_getaffinity(0) == EVERY
    engine.infer("half", 0)


@pytest.mark.parametrize(("cpus", "says"), [
    ([9999], "names core 9999; this device gives the agent: "), ([], "must be a list of core numbers"),
    (0, "must be a list"), ([True], "must be a list"), (["0"], "must be a list"), ([-1], "names core -1")])
def test_cores_that_are_not_there_are_refused(engine: OnnxruntimeCpu, cpus: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        engine.load("full", {"cpus": cpus})


def test_the_load_is_kept_to_no_core_of_the_engines(engine: OnnxruntimeCpu, tmp_path: Path) -> None:
    clock = BootClock()
    journal = Journal(str(tmp_path / "trial.jsonl"), clock)
    player = LoadPlayer(LoadTrace("t", ("t_s", "mem_mb"), ((0.0, 1.0),)), 1, journal, clock)
    engine.load("half", {"cpus": [ONE]})
    before = threads()
    player.start(clock.now_ns())
    try:
        assert player.pids() and all(os.sched_getaffinity(pid) == EVERY for pid in player.pids())
        assert all(os.sched_getaffinity(thread) == EVERY for thread in threads() - before)
        assert os.sched_getaffinity(0) == {ONE}
    finally:
        player.stop()
