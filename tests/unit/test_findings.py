"""Doctor's findings: errors where nothing can run, and a fix at the end of every one."""
from typing import Any

import pytest

from harness.findings import examine, measures, runs
from harness.fleet import DeviceSpec

NOW_NS = 1_790_000_000_000_000_000
GOOD: dict[str, Any] = {
    "wall_ns": NOW_NS, "disk_free_mb": 9000.0, "mem_total_mb": 4000.0,
    "engines": {"onnxruntime_cpu": {"runtime": "onnxruntime 1.31.1", "reason": ""}, "replay": {"runtime": "replay"}},
    "sensors": {"temp_c": {"value": 41.0, "source": "thermal"}, "freq_mhz": {"value": 1500.0, "source": "frequency"},
                "rssi_dbm": {"value": None, "source": "network"}},
    "energy": {"rapl": {"scope": "soc", "provenance": "measured"}},
}
HOST = DeviceSpec(name="host")


def levels(facts: dict[str, Any] | None, spec: DeviceSpec = HOST) -> list[str]:
    return [one.level for one in examine(spec, facts, "no answer in 60 s", NOW_NS)]


def test_a_device_that_lacks_nothing_has_no_findings() -> None:
    assert levels(GOOD) == []
    assert runs(GOOD) == "onnxruntime 1.31.1"
    assert measures(GOOD) == "freq_mhz, temp_c, rapl (soc)"


def test_silence_is_an_error_that_carries_the_reason() -> None:
    finding, = examine(HOST, None, "no answer in 60 s", NOW_NS)
    assert (finding.level, finding.text) == ("error", "no answer in 60 s")


def test_a_missing_runtime_is_an_error_and_replay_does_not_count_as_one() -> None:
    lacking = {"onnxruntime_cpu": {"runtime": None, "reason": "no module named onnxruntime"},
               "replay": {"runtime": "r"}}
    finding, = examine(HOST, {**GOOD, "engines": lacking}, None, NOW_NS)
    assert finding.level == "error"
    assert "no module named onnxruntime" in finding.text
    assert finding.fix.endswith("edgefleet device provision host")
    assert levels({**GOOD, "engines": lacking, "energy": {}}, DeviceSpec(name="s", transport="simulated")) == []


@pytest.mark.parametrize(("change", "level", "said"), [
    ({"sensors": {"freq_mhz": {"value": 1.0}}}, "note", "no temperature sensor"),
    ({"sensors": {"temp_c": {"value": 1.0}}}, "note", "no CPU frequency"),
    ({"energy": {}}, "note", "no energy source"),
    ({"disk_free_mb": 20.0}, "warning", "only 20 MiB are free"),
    ({"mem_total_mb": 100.0}, "warning", "only 100 MiB of memory"),
    ({"wall_ns": NOW_NS - 3600 * 10**9}, "warning", "differs by 3600 s"),
])
def test_what_makes_results_poorer_is_told_with_its_fix(change: dict[str, Any], level: str, said: str) -> None:
    finding, = examine(HOST, {**GOOD, **change}, None, NOW_NS)
    assert finding.level == level
    assert said in finding.text
    assert finding.fix


def test_modelled_joules_are_not_taken_for_measured_ones() -> None:
    spec = DeviceSpec(name="host", power_model={"idle_w": 2.0, "busy_w": 5.0, "source": "data sheet"})
    finding, = examine(spec, {**GOOD, "energy": {"modelled": {"scope": "modelled", "provenance": "modelled"}}},
                       None, NOW_NS)
    assert "modelled" in finding.text


def test_a_phone_says_that_its_inference_is_unproven() -> None:
    finding, = examine(DeviceSpec(name="p", transport="adb", serial="1"), GOOD, None, NOW_NS)
    assert (finding.level, "phone inference unproven" in finding.text) == ("note", True)
