"""What a preparation follows from: both halves of the method, and all that the offline half reaches."""
from pathlib import Path

import workloads
from harness.preparation import reached_from, twin_files

ROOM = Path(workloads.__path__[0])


def reached(name: str) -> set[str]:
    return {path.relative_to(ROOM).as_posix() for path in reached_from([ROOM / "methods" / name])}


def test_modules_count_that_are_imported_inside_functions_or_by_others() -> None:
    assert {"methods/adadeep.py", "dqn.py", "judge.py", "cost_model.py", "train.py"} <= reached("adadeep.py")
    assert "evolve.py" in reached("adaspring.py")


def test_what_a_method_does_not_reach_does_not_count() -> None:
    assert reached("greedy.py").isdisjoint({"dqn.py", "evolve.py", "train.py"})


def test_the_twin_is_its_search_and_all_that_runs_on_the_virtual_clock() -> None:
    files = {f"{path.parent.name}/{path.name}" for path in twin_files()}
    assert {"harness/tuning.py", "device_agents/simulation.py", "engines/replay.py", "device_agents/loop.py",
            "device_agents/simulated_peer.py", "device_agents/conditions.py"} <= files
    assert not any(name.startswith("adapters/") for name in files) and "device_agents/sampler.py" not in files
