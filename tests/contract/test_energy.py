"""Every file in energy/ keeps the seam's promises: scope, provenance, units, totals, silence where no meter is."""
import os
from pathlib import Path

import pytest

from device_agents import registry
from device_agents.seams import EnergySource
from device_agents.wire import PROVENANCES, unit_of

PACKAGE = "device_agents.energy"
NAMES = registry.names(PACKAGE)
SCOPES = ("rail", "soc", "board", "battery", "wall", "modelled")
PATHS = (
    "sys/class/powercap/intel-rapl:0/name", "sys/class/powercap/intel-rapl:0/energy_uj",
    "sys/class/power_supply/battery/status", "sys/class/power_supply/battery/voltage_now",
    "sys/class/power_supply/battery/current_now", "sys/class/power_supply/battery/power_now",
    "sys/class/hwmon/hwmon0/name", "sys/class/hwmon/hwmon0/power1_input", "usr/bin/vcgencmd",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon0/in1_label",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon0/in1_input",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon0/curr1_input",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input",
)
NONSENSE = (b"", b"\0", b"\xff\xfe\x80 garbage \x00\n", b"-2147483648\n", b"99999999999999999999999999\n", b"nan\n",
            b"inf\n", b"32760 ma\n", b"x" * 100000)


@pytest.fixture(params=NAMES)
def source(request: pytest.FixtureRequest) -> EnergySource:
    return registry.load(PACKAGE, request.param, EnergySource)()


def check(source: EnergySource, root: str, t_ns: int) -> list:
    found = source.read(root, t_ns)
    assert len({measurement.metric for measurement in found}) == len(found)
    for measurement in found:
        assert measurement.t_ns == t_ns
        assert measurement.unit == unit_of(measurement.metric) != ""
        assert measurement.provenance in PROVENANCES
        assert measurement.source
        assert measurement.value is None or isinstance(measurement.value, float)
        assert measurement.value is None or abs(measurement.value) < 1e15
        if measurement.metric in ("power_w", "energy_j"):
            assert measurement.provenance == source.provenance
            assert measurement.value is None or measurement.value >= 0.0
    return found


def test_there_are_sources() -> None:
    assert {"modelled", "rapl", "jetson_rail", "pi_pmic", "battery_gauge", "hwmon_rail"} <= set(NAMES)


def test_declares_scope_and_provenance(source: EnergySource) -> None:
    assert source.scope in SCOPES
    assert source.provenance in PROVENANCES
    assert (source.scope == "modelled") == (source.provenance == "modelled")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "modelled"])
def test_says_that_its_format_is_not_verified(name: str) -> None:
    text = " ".join((registry.load_module(PACKAGE, name).__doc__ or "").split())
    assert "not verified on hardware" in text.lower()


def test_where_there_is_nothing_it_says_why(source: EnergySource, tmp_path: Path) -> None:
    assert not source.available(str(tmp_path))
    assert source.reason
    assert check(source, str(tmp_path), 1) == []


def test_reads_this_machine(source: EnergySource) -> None:
    source.available("")
    for t_ns in (1000000000, 2000000000, 3000000000):
        check(source, "", t_ns)


@pytest.mark.parametrize("text", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_never_raises(source: EnergySource, tmp_path: Path, text: bytes) -> None:
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text)
    os.chmod(str(tmp_path / "usr/bin/vcgencmd"), 0o700)
    (tmp_path / "sys/class/power_supply/battery/type").write_text("Battery\n")
    source.available(str(tmp_path))
    for t_ns in (1000000000, 2000000000):
        check(source, str(tmp_path), t_ns)


def test_folders_in_place_of_files_never_raise(source: EnergySource, tmp_path: Path) -> None:
    for path in PATHS:
        (tmp_path / path).mkdir(parents=True)
    assert not source.available(str(tmp_path))
    check(source, str(tmp_path), 1)
