"""Battery gauge: units and signs that vendors mix up, sentinels, and no joules while the cable is in."""
from pathlib import Path

import pytest

from device_agents.energy.battery_gauge import BatteryGauge


def write_phone(root: Path, **files: str) -> None:
    folder = root / "sys/class/power_supply/battery"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in dict({"type": "Battery", "voltage_now": "4000000", "status": "Discharging"}, **files).items():
        (folder / name).write_text(text + "\n")


def reading(source: BatteryGauge, root: Path, turns: int = 1) -> tuple:
    """(power_w, battery_current_ma) of the last turn."""
    for _ in range(turns - 1):
        source.read(str(root), 0)
    found = {measurement.metric: measurement.value for measurement in source.read(str(root), 0)}
    return found["power_w"], found["battery_current_ma"]


@pytest.mark.parametrize(("raw", "unit", "sign", "turns"), [
    ("-500000", "uA", 1, 1),                    # AOSP and the kernel's ABI
    ("500000", "uA", -1, 1),                    # reversed sign
    ("-500", "mA", 1, 10),
    ("500", "mA", -1, 10),
])
def test_unit_and_sign_are_calibrated_and_recorded(tmp_path: Path, raw: str, unit: str, sign: int, turns: int) -> None:
    write_phone(tmp_path, current_now=raw)
    source = BatteryGauge()
    assert source.available(str(tmp_path))
    assert reading(source, tmp_path, turns) == (pytest.approx(2.0), pytest.approx(-500.0))
    assert (source.current_unit, source.sign) == (unit, sign)
    label = source.read(str(tmp_path), 0)[0].source
    assert unit in label
    assert ("reversed" in label) == (sign < 0)


@pytest.mark.parametrize(("status", "current"), [("Charging", "900000"), ("Full", "0"), ("Not charging", "-3000"),
                                                 ("Unknown", "-500000"), ("", "-500000")])
def test_no_joules_while_external_power_may_be_there(tmp_path: Path, status: str, current: str) -> None:
    write_phone(tmp_path, status=status, current_now=current)
    source = BatteryGauge()
    assert reading(source, tmp_path)[0] is None
    assert "external power" in source.reason


def test_no_joules_with_the_cable_in_whatever_the_status_says(tmp_path: Path) -> None:
    write_phone(tmp_path, current_now="-500000")
    usb = tmp_path / "sys/class/power_supply/usb"
    usb.mkdir()
    (usb / "type").write_text("USB\n")
    (usb / "online").write_text("1\n")
    source = BatteryGauge()
    assert reading(source, tmp_path)[0] is None
    (usb / "online").write_text("0\n")
    assert reading(source, tmp_path)[0] == pytest.approx(2.0)
    assert source.reason == ""


def test_charging_current_never_counts_as_consumption(tmp_path: Path) -> None:
    source = BatteryGauge()
    write_phone(tmp_path, current_now="-500000")
    assert reading(source, tmp_path)[0] == pytest.approx(2.0)
    write_phone(tmp_path, current_now="500000")             # the status has not caught up
    assert reading(source, tmp_path)[0] is None
    assert "charging" in source.reason
    write_phone(tmp_path, current_now="-250000")
    assert reading(source, tmp_path)[0] == pytest.approx(1.0)


def test_sign_is_learnt_while_charging_too(tmp_path: Path) -> None:
    source = BatteryGauge()
    write_phone(tmp_path, status="Charging", current_now="-900000")     # reversed
    assert reading(source, tmp_path)[0] is None
    write_phone(tmp_path, current_now="500000")
    assert reading(source, tmp_path) == (pytest.approx(2.0), pytest.approx(-500.0))


@pytest.mark.parametrize("charge_full", ["4000000", "4000"])
def test_there_is_no_power_before_the_unit_is_known(tmp_path: Path, charge_full: str) -> None:
    """Whatever charge_full says: a vendor gives it in uAh beside a current in mA."""
    source = BatteryGauge()
    write_phone(tmp_path, current_now="-15000", charge_full=charge_full, power_now="300")    # 15 mA, just woken up
    assert "a unit not known yet" in source.read(str(tmp_path), 0)[0].source
    assert reading(source, tmp_path, 8) == (None, None)
    assert source.reason == "whether current_now is in uA or mA is not known yet"


def test_currents_while_the_cable_is_in_say_nothing_about_the_unit(tmp_path: Path) -> None:
    source = BatteryGauge()
    write_phone(tmp_path, current_now="-500")
    reading(source, tmp_path, 9)
    write_phone(tmp_path, current_now="-976", status="Not charging")    # the phone runs on the cable
    reading(source, tmp_path, 20)
    write_phone(tmp_path, current_now="-976")
    assert reading(source, tmp_path, 9) == (None, None)
    assert reading(source, tmp_path) == (pytest.approx(3.904), pytest.approx(-976.0))


def test_a_small_current_is_no_larger_once_the_unit_is_known(tmp_path: Path) -> None:
    source = BatteryGauge()
    write_phone(tmp_path, current_now="-15000")
    assert reading(source, tmp_path, 3) == (None, None)
    write_phone(tmp_path, current_now="-500000")
    assert reading(source, tmp_path)[0] == pytest.approx(2.0)
    write_phone(tmp_path, current_now="-15000")
    assert reading(source, tmp_path)[0] == pytest.approx(0.06)


@pytest.mark.parametrize("sentinel", ["-2147483648", "2147483647", "-1", "0", "unknown", ""])
def test_sentinels_are_no_value(tmp_path: Path, sentinel: str) -> None:
    write_phone(tmp_path, current_now="-500000")
    source = BatteryGauge()
    reading(source, tmp_path)
    write_phone(tmp_path, current_now=sentinel)
    assert reading(source, tmp_path) == (None, None)
    fresh = BatteryGauge()
    assert not fresh.available(str(tmp_path))
    assert "current_now" in fresh.reason


def test_a_laptop_that_has_power_only(tmp_path: Path) -> None:
    write_phone(tmp_path, power_now="8400000")
    source = BatteryGauge()
    assert source.available(str(tmp_path))
    assert reading(source, tmp_path) == (pytest.approx(8.4), None)


@pytest.mark.parametrize("voltage", ["4", "-2147483648", "junk"])
def test_impossible_voltage(tmp_path: Path, voltage: str) -> None:
    write_phone(tmp_path, current_now="-500000", voltage_now=voltage)
    assert reading(BatteryGauge(), tmp_path)[0] is None


def test_impossible_power(tmp_path: Path) -> None:
    write_phone(tmp_path, current_now="-900000000")         # 3.6 kW
    source = BatteryGauge()
    assert reading(source, tmp_path)[0] is None
    assert "no battery's power" in source.reason


def test_no_battery(tmp_path: Path) -> None:
    source = BatteryGauge()
    assert not source.available(str(tmp_path))
    assert source.reason == "no battery in /sys/class/power_supply"
    assert source.read(str(tmp_path), 0) == []
