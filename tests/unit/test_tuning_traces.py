"""Traces for preparations: from other seeds than the evaluation's, and what they weigh on a device in the mean."""
from pathlib import Path

import pytest

from device_agents.wire import LoadTrace
from harness.campaign import derive_seed
from harness.config import CampaignSpec
from harness.tuning_traces import lesson_trace, mean_load_pct, tuning_traces, unseeded
from workloads.trace_file import load_trace


def campaign(*traces: str, plugins: Path | None = None, repeats: int = 1) -> CampaignSpec:
    return CampaignSpec.model_validate({
        "name": "c", "repeats": repeats, "plugins": plugins, "trial": {"duration_s": 8.0},
        "matrix": {"device": ("host",), "task": ("digits",), "model": ("tiny",), "method": ("fixed",),
                   "trace": traces}})


@pytest.mark.parametrize("name", ["ramp", "bursty", "battery_drain"])
def test_no_preparation_sees_a_generated_trace_of_the_evaluation(name: str) -> None:
    spec = campaign(name)
    evaluated = {load_trace(name, 8.0, derive_seed(derive_seed(spec.seed, f"repeat/{repeat}"), "trace")).digest()
                 for repeat in range(20)}
    seen = {tuning_traces(spec, 8.0)[0].digest(), *(lesson_trace(spec, 8.0, number).digest() for number in range(6))}
    assert len(seen) == 7 and not seen & evaluated
    assert not unseeded(spec)


def test_tables_and_generators_that_ignore_their_seed_are_named(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "mine.csv").write_text("t_x,cpu_pct\n0,10\n0.5,90\n")
    (tmp_path / "traces" / "deaf.py").write_text(
        '"""Ignores its seed."""\nfrom device_agents.wire import LoadTrace\n\n\ndef generate(duration_s, seed):\n'
        '    return LoadTrace("deaf", ("t_s", "cpu_pct"), ((0.0, 50.0),))\n')
    assert unseeded(campaign("mine", "bursty", "deaf", "ramp", plugins=tmp_path)) == ["mine", "deaf"]


def test_the_mean_load_is_over_time_and_then_over_traces() -> None:
    short = LoadTrace("short", ("t_s", "cpu_pct"), ((0.0, 100.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)))
    late = LoadTrace("late", ("t_s", "battery_pct", "cpu_pct"),
                     ((4.0, 50.0, 80.0), (6.0, 40.0, None), (20.0, 1.0, 9.0)))
    assert mean_load_pct([short], 10.0) == 10.0
    assert mean_load_pct([late], 10.0) == 16.0
    assert mean_load_pct([short, late, LoadTrace("idle", ("t_s",), ((0.0,),))], 10.0) == pytest.approx(26.0 / 3)
    assert mean_load_pct([], 10.0) == 0.0
