"""Every trace that ships: playable, reproducible, and as long as the window."""
from pathlib import Path

import pytest

import workloads.traces
from device_agents import registry
from workloads.trace_file import load_trace

FOLDER = Path(next(iter(workloads.traces.__path__)))
NAMES = sorted({path.stem for path in FOLDER.glob("*.csv")} | set(registry.names("workloads.traces")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("duration_s", [0.5, 120.0])
def test_fits_the_window(name: str, duration_s: float) -> None:
    trace = load_trace(name, duration_s, 1)
    times = [row[0] for row in trace.rows]
    assert times[0] == 0.0
    assert times[-1] is not None and times[-1] < duration_s


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_trace(name: str) -> None:
    assert load_trace(name, 10.0, 5).digest() == load_trace(name, 10.0, 5).digest()


@pytest.mark.parametrize("name", registry.names("workloads.traces"))
def test_another_seed_is_another_trace(name: str) -> None:
    assert load_trace(name, 10.0, 5).digest() != load_trace(name, 10.0, 6).digest()


@pytest.mark.parametrize("seed", range(20))
def test_a_ramp_climbs_to_all_cores_stays_and_falls(seed: int) -> None:
    trace = load_trace("ramp", 8.0, seed)
    times, loads = zip(*trace.rows, strict=True)
    top = loads.index(100.0)
    assert 0.0 == loads[0] < loads[1] < loads[2] < loads[top] == max(loads)
    assert 100.0 > loads[top + 1] > loads[top + 2] == loads[-1] == 0.0
    assert times[top + 1] - times[top] > 8.0 / 6                                # it stays


def test_heights_and_lengths_of_a_ramps_steps_come_from_the_seed() -> None:
    drawn = [tuple(zip(*load_trace("ramp", 8.0, seed).rows, strict=True)) for seed in range(20)]
    assert len({times for times, _ in drawn}) == len({loads for _, loads in drawn}) == 20


def test_battery_falls_from_full_to_empty() -> None:
    trace = load_trace("battery_drain", 10.0, 3)
    levels = [row[2] for row in trace.rows]
    assert levels == sorted(levels, reverse=True)
    assert (levels[0], levels[-1]) == (95.0, 5.0)
