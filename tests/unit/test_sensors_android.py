"""What dumpsys says on phones, in AOSP's format and with what vendors add to it."""
import os
import stat
import time
from pathlib import Path

import pytest

from device_agents.sensors.android_services import AndroidServices

BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3270000
  status: 2
  health: 2
  present: true
  level: 67
  scale: 100
  voltage: 3964
  temperature: 274
  technology: Li-ion
"""
SAMSUNG = BATTERY + """
[2026-01-01] event log
  level: 12
  temperature: 990
"""
THERMAL = """IsStatusOverride: false
ThermalEventListeners:
Thermal Status: %d
Cached temperatures:
\tTemperature{mValue=99.9, mType=0, mName=CPU0, mStatus=0}
HAL Ready: true
HAL connection:
\tThermalHAL 2.0 connected: yes
Current temperatures from HAL:
\tTemperature{mValue=36.5, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=38.25, mType=0, mName=CPU4, mStatus=0}
\tTemperature{mValue=-99.9, mType=1, mName=GPU, mStatus=0}
\tTemperature{mValue=34.2, mType=3, mName=SKIN, mStatus=0}
\tTemperature{mValue=27.4, mType=2, mName=BATTERY, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=CPU}
"""


def phone(root: Path, battery: str, thermal: str) -> str:
    folder = root / "system/bin"
    folder.mkdir(parents=True)
    (root / "battery.txt").write_text(battery)
    (root / "thermalservice.txt").write_text(thermal)
    (folder / "dumpsys").write_text(f"#!/bin/sh\ncat {root}/$1.txt\n")
    os.chmod(str(folder / "dumpsys"), stat.S_IRWXU)
    return str(root)


@pytest.mark.parametrize("battery", [BATTERY, SAMSUNG])
def test_battery_and_thermal_services(tmp_path: Path, battery: str) -> None:
    assert AndroidServices().read(phone(tmp_path, battery, THERMAL % 0)) == {
        "battery_pct": 67.0, "charging": 1.0, "battery_temp_c": 27.4, "battery_mv": 3964.0, "temp_c": 38.25,
        "skin_temp_c": 34.2, "throttled": 0.0}


def test_any_thermal_status_is_throttling_and_vendors_types_go_by_name(tmp_path: Path) -> None:
    thermal = (THERMAL % 2).replace("mType=0, mName=CPU4", "mType=7, mName=AP")
    battery = BATTERY.replace("USB powered: true", "USB powered: false")
    reading = AndroidServices().read(phone(tmp_path, battery, thermal))
    assert reading["throttled"] == 1.0
    assert reading["temp_c"] == 38.25
    assert reading["charging"] == 0.0


def test_later_answers_replace_earlier_ones(tmp_path: Path) -> None:
    root, sensor = phone(tmp_path, BATTERY, THERMAL % 0), AndroidServices()
    sensor.read(root)
    (tmp_path / "battery.txt").write_text(BATTERY.replace("level: 67", "level: 66"))
    assert again(sensor, root, lambda reading: reading["battery_pct"] == 66.0)["temp_c"] == 38.25


def test_a_faked_battery_is_read_and_said(tmp_path: Path) -> None:
    faked = BATTERY.replace("state:\n", "state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n")
    root, sensor = phone(tmp_path, faked, THERMAL % 0), AndroidServices()
    reading = sensor.read(root)
    assert (reading["battery_pct"], reading["charging"], reading["battery_mv"]) == (67.0, 1.0, 3964.0)
    assert sensor.reason == "the battery is faked; to end that: dumpsys battery reset"
    (tmp_path / "battery.txt").write_text(BATTERY)
    again(sensor, root, lambda _: not sensor.reason)


def test_a_service_that_stops_answering_is_forgotten_and_the_other_stays(tmp_path: Path) -> None:
    root, sensor = phone(tmp_path, BATTERY, THERMAL % 0), AndroidServices()
    sensor.read(root)
    (tmp_path / "battery.txt").unlink()         # dumpsys ends with another code than 0
    reading = again(sensor, root, lambda reading: reading["battery_pct"] is None)
    assert (reading["charging"], reading["battery_mv"], reading["temp_c"]) == (None, None, 38.25)
    assert sensor.reason.endswith("/system/bin/dumpsys gives no answer to: battery")


def again(sensor: AndroidServices, root: str, condition: object) -> dict:
    """Reads until it is so; returns that reading."""
    for _ in range(1000):
        reading = sensor.read(root)
        if condition(reading):
            return reading
        time.sleep(0.01)
    raise AssertionError("did not happen in 10 s")


@pytest.mark.parametrize(("battery", "thermal"), [
    ("", ""), ("Can't find service: battery\n", "Can't find service: thermalservice\n"),
    ("Current Battery Service state:\n", "Thermal Status: many\nCurrent temperatures from HAL:\n"),
    ("Current Battery Service state:\n  level: 900\n  scale: 100\n  temperature: -2147483648\n  voltage: 0\n",
     "Thermal Status:\nCurrent temperatures from HAL:\n\tTemperature{mValue=., mType=0, mName=CPU, mStatus=0}\n"),
    ("Current Battery Service state:\n  level: 5\n  scale: 0\n", "Temperature{mValue=1, mType=0, mName=C, mStatus=0}"),
])
def test_services_that_say_nothing_useful(tmp_path: Path, battery: str, thermal: str) -> None:
    assert set(AndroidServices().read(phone(tmp_path, battery, thermal)).values()) == {None}
