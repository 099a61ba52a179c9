"""Temperature, clock, battery, GPU, Pi throttling: each board's files as documented, and what may be wrong."""
import os
import stat
import time
from pathlib import Path

import pytest

from device_agents.sensors.battery import Battery
from device_agents.sensors.frequency import Frequency
from device_agents.sensors.gpu_jetson import GpuJetson
from device_agents.sensors.pi_throttle import PiThrottle
from device_agents.sensors.thermal import Thermal

PI_MODEL = "Raspberry Pi 4 Model B Rev 1.4\0"
THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"


def write(root: Path, path: str, text: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def write_zones(root: Path, zones: list) -> None:
    for number, (name, temp) in enumerate(zones):
        write(root, f"/sys/class/thermal/thermal_zone{number}/type", name + "\n")
        if temp is not None:
            write(root, f"/sys/class/thermal/thermal_zone{number}/temp", temp + "\n")


def write_vcgencmd(root: Path, body: str) -> None:
    write(root, "/usr/bin/vcgencmd", "#!/bin/sh\n" + body)
    os.chmod(str(root / "usr/bin/vcgencmd"), stat.S_IRWXU)


@pytest.mark.parametrize(("zones", "temp_c"), [
    # Jetson Nano: PMIC-Die is a constant
    ([("AO-therm", "41000"), ("CPU-therm", "38500"), ("GPU-therm", "37500"), ("PLL-therm", "37000"),
      ("PMIC-Die", "100000"), ("thermal-fan-est", "38000")], 41.0),
    # Orin: one zone off (jtop's -256), one fails to be read
    ([("cpu-thermal", "48656"), ("gpu-thermal", "-256000"), ("soc0-thermal", None), ("tj-thermal", "49312")], 49.312),
    # Pi
    ([("cpu-thermal", "52096")], 52.096),
    # a phone: battery current and voltage dressed up as temperatures
    ([("cpu-0-0-usr", "36100"), ("pm8150-ibat-lvl0", "90000"), ("vbat", "4100"), ("pm8150b-bcl-lvl0", "99000")], 36.1),
    ([("x86_pkg_temp", "junk"), ("acpitz", "151000")], None),
    ([("frozen", "-20000")], -20.0),
    ([], None),
])
def test_thermal_takes_the_hottest_sane_zone(tmp_path: Path, zones: list, temp_c: float) -> None:
    write_zones(tmp_path, zones)
    assert Thermal().read(str(tmp_path)) == {"temp_c": temp_c, "throttled": None}


def test_thermal_zone_that_is_a_directory_or_fails_is_left_out(tmp_path: Path) -> None:
    write_zones(tmp_path, [("cpu-thermal", "50000"), ("gpu-thermal", None)])
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").mkdir()
    assert Thermal().read(str(tmp_path))["temp_c"] == 50.0


def test_cpufreq_cooling_means_throttled_but_not_on_a_pi(tmp_path: Path) -> None:
    sensor = Thermal()
    for number, (name, state) in enumerate([("pwm-fan", "3"), ("cpufreq-cpu0", "0"), ("thermal-cpufreq-1", "0")]):
        write(tmp_path, f"/sys/class/thermal/cooling_device{number}/type", name)
        write(tmp_path, f"/sys/class/thermal/cooling_device{number}/cur_state", state)
    assert sensor.read(str(tmp_path))["throttled"] == 0.0       # a fan that turns is no throttling
    write(tmp_path, "/sys/class/thermal/cooling_device2/cur_state", "2")
    assert sensor.read(str(tmp_path))["throttled"] == 1.0
    write(tmp_path, "/proc/device-tree/model", PI_MODEL)
    assert Thermal().read(str(tmp_path))["throttled"] is None


def test_frequency_of_the_fastest_cluster_and_of_each(tmp_path: Path) -> None:
    for policy, (now, now_max, hardware_max) in {0: (1766400, 1804800, 1804800), 4: (2208000, 2419200, 2419200),
                                                 7: (960000, 2500000, 2841600)}.items():
        folder = f"/sys/devices/system/cpu/cpufreq/policy{policy}/"
        write(tmp_path, folder + "scaling_cur_freq", f"{now}\n")
        write(tmp_path, folder + "scaling_max_freq", f"{now_max}\n")
        write(tmp_path, folder + "cpuinfo_max_freq", f"{hardware_max}\n")
    sensor = Frequency()
    assert sensor.read(str(tmp_path)) == {
        "freq_mhz": 960.0, "freq_max_mhz": 2500.0,
        "cluster0_freq_mhz": 1766.4, "cluster1_freq_mhz": 2208.0, "cluster2_freq_mhz": 960.0}
    assert "requested" not in sensor.source


def test_frequency_of_a_pi_is_called_requested_and_old_kernels_name_each_core(tmp_path: Path) -> None:
    write(tmp_path, "/sys/firmware/devicetree/base/model", PI_MODEL)
    for core in range(4):
        folder = f"/sys/devices/system/cpu/cpu{core}/cpufreq/"
        write(tmp_path, folder + "scaling_cur_freq", "1500000\n")
        write(tmp_path, folder + "related_cpus", "0 1 2 3\n")
    (tmp_path / "sys/devices/system/cpu/cpufreq").mkdir()
    sensor = Frequency()
    assert sensor.read(str(tmp_path)) == {"freq_mhz": 1500.0, "freq_max_mhz": None}
    assert "requested" in sensor.source


@pytest.mark.parametrize("text", ["", "<unknown>", "0", "99999999999", "-1500000"])
def test_frequency_garbage_is_none(tmp_path: Path, text: str) -> None:
    write(tmp_path, "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", text)
    assert Frequency().read(str(tmp_path)) == {"freq_mhz": None, "freq_max_mhz": None}


def test_no_cpufreq(tmp_path: Path) -> None:
    assert Frequency().read(str(tmp_path)) == {"freq_mhz": None, "freq_max_mhz": None}


def phone(root: Path, **overrides: str) -> None:
    files = dict({"type": "Battery", "status": "Discharging", "capacity": "67", "temp": "274", "present": "1",
                  "voltage_now": "3964000"}, **overrides)
    for name, text in files.items():
        write(root, "/sys/class/power_supply/battery/" + name, text + "\n")
    write(root, "/sys/class/power_supply/usb/type", "USB\n")
    write(root, "/sys/class/power_supply/usb/online", "0\n")


def test_battery_of_a_phone(tmp_path: Path) -> None:
    phone(tmp_path)
    sensor = Battery()
    assert sensor.read(str(tmp_path)) == {
        "battery_pct": 67.0, "charging": 0.0, "battery_temp_c": 27.4, "battery_mv": 3964.0}
    write(tmp_path, "/sys/class/power_supply/usb/online", "1\n")        # the status lags behind the cable
    assert sensor.read(str(tmp_path))["charging"] == 1.0


@pytest.mark.parametrize(("status", "charging"), [("Charging", 1.0), ("Full", 1.0), ("Not charging", 1.0),
                                                  ("Discharging", 0.0), ("Unknown", None), ("", None)])
def test_battery_status(tmp_path: Path, status: str, charging: float) -> None:
    phone(tmp_path, status=status)
    assert Battery().read(str(tmp_path))["charging"] == charging


def test_battery_sentinels_are_none(tmp_path: Path) -> None:
    phone(tmp_path, capacity="255", temp="-2147483648", voltage_now="-1")
    reading = Battery().read(str(tmp_path))
    assert (reading["battery_pct"], reading["battery_temp_c"], reading["battery_mv"]) == (None, None, None)


def test_a_mouse_is_not_the_battery(tmp_path: Path) -> None:
    write(tmp_path, "/sys/class/power_supply/hidpp_battery_0/type", "Battery\n")
    write(tmp_path, "/sys/class/power_supply/hidpp_battery_0/scope", "Device\n")
    write(tmp_path, "/sys/class/power_supply/hidpp_battery_0/capacity", "50\n")
    assert set(Battery().read(str(tmp_path)).values()) == {None}


@pytest.mark.parametrize("name", ["57000000.gpu", "17000000.gv11b", "17000000.ga10b"])
def test_jetson_gpu(tmp_path: Path, name: str) -> None:
    write(tmp_path, "/sys/class/devfreq/13e10000.bpmp/cur_freq", "1\n")
    write(tmp_path, f"/sys/class/devfreq/{name}/device/load", "873\n")
    write(tmp_path, f"/sys/class/devfreq/{name}/cur_freq", "921600000\n")
    sensor = GpuJetson()
    assert sensor.read(str(tmp_path)) == {"gpu_pct": 87.3, "gpu_freq_mhz": 921.6}
    write(tmp_path, f"/sys/class/devfreq/{name}/device/load", "1200\n")
    assert sensor.read(str(tmp_path))["gpu_pct"] is None


def test_gpu_elsewhere(tmp_path: Path) -> None:
    assert GpuJetson().read(str(tmp_path)) == {"gpu_pct": None, "gpu_freq_mhz": None}


def test_pi_throttle_by_sysfs_ignores_what_happened_before(tmp_path: Path) -> None:
    write(tmp_path, "/proc/device-tree/model", PI_MODEL)
    write(tmp_path, THROTTLED, "50000\n")
    sensor, seen = PiThrottle(), []
    for bits in ("50000", "50000", "50005", "50000", "d0000", "d0000", "not hex", "d0000"):
        write(tmp_path, THROTTLED, bits + "\n")
        seen.append(sensor.read(str(tmp_path))["throttled"])
    # bits of now count; of those "since boot" only the one that appears while we look (0x80000)
    assert seen == [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, None, 0.0]
    assert "sysfs" in sensor.source


def test_pi_by_vcgencmd(tmp_path: Path) -> None:
    write(tmp_path, "/proc/device-tree/model", PI_MODEL)
    write_vcgencmd(tmp_path, """case "$*" in
get_throttled) echo throttled=0x50005 ;;
"measure_clock arm") echo "frequency(48)=1500345728" ;;
measure_temp) echo "temp=48.3'C" ;;
*) echo "error=1 error_msg=\\"Command not registered\\"" ;;
esac
""")
    sensor = PiThrottle()
    assert sensor.read(str(tmp_path)) == {"throttled": 1.0, "arm_clock_mhz": 1500.345728, "soc_temp_c": 48.3}
    assert "vcgencmd" in sensor.source


def test_a_vcgencmd_that_stops_answering_leaves_no_old_values(tmp_path: Path) -> None:
    write(tmp_path, "/proc/device-tree/model", PI_MODEL)
    write(tmp_path, THROTTLED, "0\n")
    write_vcgencmd(tmp_path, f"test -e {tmp_path}/gone && exit 255\necho \"temp=48.3'C\"\n")
    sensor = PiThrottle()
    assert sensor.read(str(tmp_path))["soc_temp_c"] == 48.3
    write(tmp_path, "/gone", "")
    for _ in range(1000):
        if sensor.read(str(tmp_path))["soc_temp_c"] is None:
            break
        time.sleep(0.01)
    assert sensor.read(str(tmp_path)) == {"throttled": 0.0, "arm_clock_mhz": None, "soc_temp_c": None}
    assert "gives no answer to: " in sensor.reason


@pytest.mark.parametrize("body", ["echo throttled=0xZZ\n", "exit 1\n", "echo 'VCHI initialization failed'; exit 255\n",
                                  "head -c 100000 /dev/zero\n"])
def test_pi_by_a_vcgencmd_that_says_nothing_useful(tmp_path: Path, body: str) -> None:
    write(tmp_path, "/proc/device-tree/model", PI_MODEL)
    write_vcgencmd(tmp_path, body)
    assert set(PiThrottle().read(str(tmp_path)).values()) == {None}


def test_vcgencmd_is_not_run_on_other_boards(tmp_path: Path) -> None:
    write(tmp_path, "/proc/device-tree/model", "NVIDIA Jetson Nano Developer Kit\0")
    write_vcgencmd(tmp_path, f"touch {tmp_path}/ran\n")
    assert set(PiThrottle().read(str(tmp_path)).values()) == {None}
    assert not (tmp_path / "ran").exists()
