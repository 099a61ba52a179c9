"""The block for an issue: complete, honest about what is missing, and without anything private."""
from typing import Any

from harness.issue_block import issue_block

FACTS: dict[str, Any] = {
    "machine": "aarch64", "board": "Jetson Nano", "kernel": "4.9", "cores": 4, "mem_total_mb": 3964.4,
    "python": "3.6.9", "agent": "ab" * 32, "hostname": "secret-host", "executable": "/home/me/python",
    "sensors": {"temp_c": {"value": 41.5, "source": "thermal"}, "rssi_dbm": {"value": None, "source": ""}},
    "energy": {"jetson_rail": {"scope": "rail", "provenance": "measured"}},
    "engines": {"onnxruntime_cpu": {"runtime": "onnxruntime 1.10.0"}},
}
NANO: dict[str, Any] = {"name": "nano", "transport": "ssh", "provenance": "measured", "device_class": None,
                        "facts": FACTS}


def trial(number: int, state: str = "done", device: str = "nano", **more: Any) -> dict[str, Any]:
    return {"id": f"t{number}", "device": device, "label": "fixed-full", "trace": "idle", "state": state,
            "runtime": "onnxruntime 1.10.0", "processor": "cpu", "error": None, "reason": None, **more}


def value(metric: str, number: float | None, provenance: str = "measured") -> dict[str, Any]:
    return {"metric": metric, "value": number, "provenance": provenance}


def test_it_says_what_it_is_what_ran_and_what_it_took() -> None:
    summaries = {f"t{n}": [value("latency_median_ms", float(n)), value("energy_mj_per_inference", None)]
                 for n in (1, 2, 9)}
    text = issue_block("fleet-smoke", "0.1.0", [NANO], [trial(1), trial(2), trial(9)], summaries)
    assert "Jetson Nano, aarch64, 4.9, 4 cores, 3964 MiB" in text
    assert "abababababab, Python 3.6.9" in text
    assert "onnxruntime 1.10.0; trials ran with onnxruntime 1.10.0 on cpu" in text
    assert "temp_c = 41.5 (thermal)" in text and "rssi" not in text
    assert "jetson_rail: rail, measured" in text
    assert "- trials: 3 done" in text
    assert "| fixed-full | idle | 3 | 2 measured | - | - | - |" in text
    assert "secret-host" not in text and "/home/me" not in text


def test_a_phone_is_told_by_its_model_its_processor_and_its_android() -> None:
    facts = {**FACTS, "board": None, "hardware": {"model": "Google Pixel 6", "soc": "gs101", "system": "Android 13"}}
    text = issue_block("c", "1", [{**NANO, "facts": facts}], [trial(1)], {})
    assert "- device: Google Pixel 6 (gs101), Android 13, aarch64, 4.9, 4 cores, 3964 MiB\n" in text


def test_numbers_of_two_provenances_are_never_one() -> None:
    summaries = {"t1": [value("latency_median_ms", 1.0)], "t2": [value("latency_median_ms", 3.0, "emulated")]}
    text = issue_block("c", "1", [NANO], [trial(1), trial(2)], summaries)
    assert "3 emulated, 1 measured" in text


def test_failures_and_silence_are_told() -> None:
    phone = {"name": "phone", "transport": "adb", "provenance": "measured", "device_class": "phone", "facts": None}
    failed = [trial(1, "failed", "phone", error="AgentCrashed", reason="it\n  died " + "x" * 500),
              trial(2, "skipped", "phone", reason="no runtime"), trial(3, "pending", "phone")]
    text = issue_block("c", "1", [NANO, phone], failed, {})
    assert "**nano**" not in text
    assert "never answered" in text and "no trial is done" in text and "- energy: none" in text
    assert "- trials: 1 failed, 1 pending, 1 skipped" in text
    assert "- 1 failed: AgentCrashed it died x" in text and "- 1 skipped: no runtime" in text
    assert max(map(len, text.splitlines())) < 250
