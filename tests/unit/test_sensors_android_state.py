"""What a phone says of its screen and radios, in AOSP's format as recalled."""
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from device_agents.sensors.android_state import AndroidState

POWER = """POWER MANAGER (dumpsys power)

Power Manager State:
  mDirty=0x0
  mWakefulness=%s
  mWakefulnessChanging=false
"""


def phone(root: Path, wakefulness: str = "Awake", **settings: str) -> str:
    folder = root / "system/bin"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "power.txt").write_text(POWER % wakefulness)
    for name, value in settings.items():
        (root / name).write_text(value + "\n")
    for program, text in (("dumpsys", f"cat {root}/$1.txt"), ("settings", f"cat {root}/$3 2>/dev/null || echo null")):
        (folder / program).write_text(f"#!/bin/sh\n{text}\n")
        os.chmod(str(folder / program), stat.S_IRWXU)
    return str(root)


def test_screen_and_radios(tmp_path: Path) -> None:
    root = phone(tmp_path, screen_brightness="102", wifi_on="1", bluetooth_on="0", mobile_data="1",
                 airplane_mode_on="0")
    assert AndroidState().read(root) == {"awake": 1.0, "brightness_pct": 40.0, "wifi_on": 1.0, "bluetooth_on": 0.0,
                                         "mobile_data_on": 1.0, "airplane_mode_on": 0.0}


@pytest.mark.parametrize(("changed", "metric", "value"), [
    ({"wakefulness": "Asleep"}, "awake", 0.0), ({"wakefulness": "Dozing"}, "awake", 0.0),
    ({"wifi_on": "2"}, "wifi_on", 1.0), ({"wifi_on": "3"}, "wifi_on", 0.0), ({"wifi_on": "null"}, "wifi_on", None),
    ({"screen_brightness": "2047"}, "brightness_pct", None), ({"screen_brightness": "dim"}, "brightness_pct", None)])
def test_what_vendors_and_states_change(tmp_path: Path, changed: dict, metric: str, value: Any) -> None:
    assert AndroidState().read(phone(tmp_path, **changed))[metric] == value


def test_a_screen_that_goes_out_is_seen_and_a_phone_without_answers_is_not_known(tmp_path: Path) -> None:
    sensor, root = AndroidState(), phone(tmp_path, "Awake")
    assert sensor.read(root)["awake"] == 1.0
    phone(tmp_path, "Asleep")
    for _ in range(100):
        if sensor.read(root)["awake"] == 0.0:
            break
        time.sleep(0.02)
    else:
        raise AssertionError("never")
    assert set(AndroidState().read(str(tmp_path / "nowhere")).values()) == {None}
