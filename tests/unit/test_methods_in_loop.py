"""Methods inside whole trials on a virtual clock: load and scripted battery reach them through the real loop."""
from pathlib import Path
from typing import Any, Dict, List

import pytest

from device_agents.simulation import simulate
from device_agents.wire import LoadTrace
from tests.agent_kit import BRANCHES, journal_of, make_home, order_for, push

CONTENTION = {"replay": {"jitter": 0.0, "contention": 1.0}}
LOADED = LoadTrace("loaded", ("t_s", "cpu_pct"), ((0.0, 0.0), (1.0, 100.0), (2.0, 0.0)))
DRAINED = LoadTrace("drained", ("t_s", "battery_pct"), ((0.0, 100.0), (1.0, 3.0), (2.0, 100.0)))


def served(tmp_path: Path, method: str, trace: LoadTrace, **order: Any) -> List[List[Dict[str, Any]]]:
    """Inferences in each second of a trial of three seconds."""
    home = str(tmp_path / "H")
    bundle = make_home(home)
    name = push(home, order_for(bundle, method=method, settings={}, trace=trace, duration_s=3.0, extra=CONTENTION,
                                **order))
    assert simulate(home, name) == "done"
    lines = [line for line in journal_of(home, name) if line["kind"] == "inference" and line["phase"] == "window"]
    begun_ns = lines[0]["t_ns"]
    return [[line for line in lines if int((line["t_ns"] - begun_ns) / 1e9) == second] for second in range(3)]


@pytest.mark.parametrize("method", ["greedy", "adascale", "adaspring"])
def test_load_moves_it_down_and_relief_up_again(tmp_path: Path, method: str) -> None:
    full = BRANCHES[0][0]
    idle, loaded, after = served(tmp_path, method, LOADED, deadline_ms=10.0)
    assert idle[-1]["branch"] == after[-1]["branch"] == full
    assert loaded[-1]["branch"] != full


def test_a_scripted_battery_moves_adaspring_and_not_greedy(tmp_path: Path) -> None:
    full = BRANCHES[0][0]
    ends = [second[-1]["branch"] for second in served(tmp_path / "a", "adaspring", DRAINED, deadline_ms=10.0)]
    assert ends[0] == ends[2] == full != ends[1]
    assert {line["branch"] for second in served(tmp_path / "g", "greedy", DRAINED, deadline_ms=10.0)
            for line in second} == {full}


def test_random_serves_with_every_branch(tmp_path: Path) -> None:
    found = {line["branch"] for second in served(tmp_path, "random", LOADED, deadline_ms=10.0) for line in second}
    assert found == {name for name, *_ in BRANCHES}
