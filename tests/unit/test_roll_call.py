"""Asking all devices at once: none of them keeps the others from anything, nor makes their clocks look wrong."""
from pathlib import Path

from harness.fleet import DeviceSpec
from harness.portrait import skew_s
from harness.roll_call import ask_devices


def test_a_device_that_fails_in_a_way_that_nobody_foresaw_keeps_the_others_from_nothing() -> None:
    devices = [DeviceSpec(name="odd", transport="local", home="/a\0b"), DeviceSpec(name="good")]
    facts, silent = ask_devices(devices, [], None)
    assert set(facts) == {"good"} and "ValueError" in silent["odd"]


def test_a_device_that_answers_late_has_no_wrong_clock_and_neither_have_the_others(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("import time\ntime.sleep(2.5)\n__version__ = '0.0'\n")
    devices = [DeviceSpec(name="slow", env={"PYTHONPATH": str(tmp_path)}), DeviceSpec(name="quick")]
    facts, silent = ask_devices(devices, [], None)
    assert not silent
    for name in ("slow", "quick"):
        off_s = skew_s(facts[name])
        assert off_s is not None and abs(off_s) < 1.5, name
