"""Every file in sensors/ keeps the seam's promises, on this machine, on an empty one and on one full of nonsense."""
import os
from pathlib import Path

import pytest

from device_agents import registry
from device_agents.seams import Sensor
from device_agents.wire import Context, unit_of

PACKAGE = "device_agents.sensors"
NAMES = registry.names(PACKAGE)
FLAGS = ("throttled", "charging", "awake", "wifi_on", "bluetooth_on", "mobile_data_on", "airplane_mode_on")
#: files that some sensor reads, each to be filled with nonsense
PATHS = (
    "proc/stat", "proc/meminfo", f"proc/{os.getpid()}/stat", f"proc/{os.getpid()}/statm", "proc/pressure/cpu",
    "proc/pressure/memory", "proc/pressure/io", "proc/net/dev", "proc/net/wireless", "proc/device-tree/model",
    "sys/class/thermal/thermal_zone0/type", "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/cooling_device0/type", "sys/class/thermal/cooling_device0/cur_state",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "sys/class/power_supply/battery/status",
    "sys/class/power_supply/battery/capacity", "sys/class/power_supply/battery/temp",
    "sys/class/power_supply/battery/voltage_now", "sys/class/devfreq/17000000.gpu/device/load",
    "sys/class/devfreq/17000000.gpu/cur_freq", "sys/devices/platform/soc/soc:firmware/get_throttled",
)
NONSENSE = (b"", b"\0", b"\xff\xfe\x80 garbage \x00\n", b"-2147483648\n", b"99999999999999999999999999\n", b"nan\n",
            b"inf\n", b"1_0\n", b"cpu cpu cpu cpu cpu cpu\n", b"some avg10=x total=y\n", b"a:b:c:d\n" * 2000)


@pytest.fixture(params=NAMES)
def sensor(request: pytest.FixtureRequest) -> Sensor:
    return registry.load(PACKAGE, request.param, Sensor)()


def check(sensor: Sensor, root: str) -> dict:
    reading = sensor.read(root)
    assert set(reading) >= set(sensor.metrics)
    for metric, value in reading.items():
        assert unit_of(metric) or metric in FLAGS, f"{metric} has no unit in its name"
        assert value is None or isinstance(value, float), f"{metric} is {value!r}"
        assert value is None or abs(value) < 1e300
        if value is not None and metric.endswith("_pct"):
            assert 0.0 <= value <= 100.0
        if value is not None and metric in FLAGS:
            assert value in (0.0, 1.0)
    return reading


def test_there_are_sensors() -> None:
    assert {"cpu", "memory", "pressure", "thermal", "frequency", "battery", "network"} <= set(NAMES)


def test_declares_its_metrics_its_source_and_its_period(sensor: Sensor) -> None:
    assert sensor.metrics
    assert len(set(sensor.metrics)) == len(sensor.metrics)
    assert sensor.source
    assert sensor.period_s >= 0


def test_reads_this_machine_twice(sensor: Sensor) -> None:
    check(sensor, "")
    check(sensor, "")


def test_nothing_there_is_none_everywhere(sensor: Sensor, tmp_path: Path) -> None:
    for _ in range(2):
        assert set(check(sensor, str(tmp_path / "nowhere")).values()) == {None}


@pytest.mark.parametrize("text", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_never_raises(sensor: Sensor, tmp_path: Path, text: bytes) -> None:
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text)
    (tmp_path / "sys/class/power_supply/battery/type").write_text("Battery\n")
    for _ in range(2):
        check(sensor, str(tmp_path))


def test_folders_in_place_of_files_never_raise(sensor: Sensor, tmp_path: Path) -> None:
    for path in PATHS:
        (tmp_path / path).mkdir(parents=True)
    assert set(check(sensor, str(tmp_path)).values()) == {None}


def test_files_that_vanish_and_come_back(sensor: Sensor, tmp_path: Path) -> None:
    """The root is a link that is moved away and back: a rebooted subsystem, an unplugged card."""
    link = tmp_path / "root"
    link.symlink_to("/")
    check(sensor, str(link))
    link.unlink()
    check(sensor, str(link))
    link.symlink_to("/")
    check(sensor, str(link))


def test_no_descriptor_stays_open(sensor: Sensor) -> None:
    before = len(os.listdir("/proc/self/fd"))
    other = type(sensor)()
    check(other, "")
    del other
    assert len(os.listdir("/proc/self/fd")) == before


def test_context_fields_that_sensors_fill_are_spelt_alike() -> None:
    """A metric that is one letter off would never reach an adapter."""
    metrics = {metric for name in NAMES for metric in registry.load(PACKAGE, name, Sensor)().metrics}
    assert {"co_cpu_pct", "co_mem_pct", "own_cpu_pct", "mem_free_mb", "temp_c", "freq_mhz", "throttled", "gpu_pct",
            "battery_pct", "charging", "rssi_dbm"} <= metrics & set(Context._fields)
