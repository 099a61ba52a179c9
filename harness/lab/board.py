"""What a lab device pretends to be: files in the formats of a Jetson Nano, an Orin Nano, a Raspberry Pi 4 and 5.

Used by lab.py. Formats and paths come from vendors' and kernel documents; nothing here was read from hardware, and
every number is made up: the marker SYNTHETIC in the device's /sys makes the agent label its joules `synthetic`.
`hot` is what a board shows while it throttles. Speed is not pretended: a lab device computes as fast as this machine.
"""
from collections.abc import Mapping
from typing import NamedTuple

SYNTHETIC = "edgefleet-synthetic"               # below /sys; read by the agent

_VCGENCMD = """\
#!/bin/sh
# Stands in for the firmware's tool: the answers lie in /sys/vcgencmd.
cat "/sys/vcgencmd/$(echo "$*" | tr ' ' '-')" 2>/dev/null && exit 0
echo 'error=1 error_msg="Command not registered"'
exit 1
"""

PMIC = (                                       # rail, A, V
    ("3V7_WL_SW", 0.0585, 3.694), ("3V3_SYS", 0.0766, 3.311), ("1V8_SYS", 0.1639, 1.796), ("DDR_VDD2", 0.0371, 1.104),
    ("DDR_VDDQ", 0.0, 0.608), ("1V1_SYS", 0.1678, 1.102), ("0V8_SW", 0.3454, 0.803), ("VDD_CORE", 1.0325, 0.721),
    ("3V3_DAC", 0.0002, 3.307), ("3V3_ADC", 0.0003, 3.305), ("0V8_AON", 0.0046, 0.799), ("HDMI", 0.0152, 5.114),
)


class Board(NamedTuple):
    """`files` are absolute paths on the device, `sys_files` and `hot` paths below /sys; all map to text."""

    kind: str
    device_class: str
    ram_mb: int
    files: Mapping[str, str]
    sys_files: Mapping[str, str]
    hot: Mapping[str, str]


def boards() -> tuple[Board, ...]:
    """In the order in which `lab up --ssh N` hands them out."""
    return (_nano(), _orin(), _pi("pi4", "Raspberry Pi 4 Model B Rev 1.5", 1800), _pi("pi5", PI5_MODEL, 2400))


PI5_MODEL = "Raspberry Pi 5 Model B Rev 1.0"


def _nano() -> Board:
    rails = "bus/i2c/drivers/ina3221x/6-0040/iio:device0/"
    powers = (("POM_5V_IN", 5128, 540), ("POM_5V_GPU", 5120, 40), ("POM_5V_CPU", 5112, 180))
    sys_files = {
        **_model("NVIDIA Jetson Nano Developer Kit"),
        **thermal({"AO-therm": 37500, "CPU-therm": 31000, "GPU-therm": 30500, "PLL-therm": 29500, "PMIC-Die": 100000,
                   "thermal-fan-est": 31000}),
        **_cooler(0), **cpufreq({0: (1479000, 1479000)}),
        **_gpu("57000000.gpu", 76800000),
    }
    for number, (name, milli_v, milli_a) in enumerate(powers):
        sys_files.update({f"{rails}rail_name_{number}": f"{name}\n", f"{rails}in_voltage{number}_input": f"{milli_v}\n",
                          f"{rails}in_current{number}_input": f"{milli_a}\n",
                          f"{rails}in_power{number}_input": f"{milli_v * milli_a // 1000}\n"})
    hot = {"class/thermal/thermal_zone1/temp": "97500\n", **_cooler(3), **cpufreq({0: (1479000, 614400)}),
           f"{rails}in_power0_input": "1900\n"}
    return _board("nano", "jetson-nano", 4096, {}, sys_files, hot)


def _orin() -> Board:
    rails = "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/"
    sys_files = {
        **_model("NVIDIA Jetson Orin Nano Developer Kit"),
        **thermal({"cpu-thermal": 44125, "gpu-thermal": 43000, "soc0-thermal": 42250, "tj-thermal": 44125}),
        **_cooler(0), **cpufreq({0: (1510400, 1510400), 4: (1510400, 1510400)}),
        **_gpu("17000000.ga10b", 306000000), f"{rails}name": "ina3221\n",
    }
    powers = (("VDD_IN", 4984, 960), ("VDD_CPU_GPU_CV", 4984, 120), ("VDD_SOC", 4992, 288))
    for number, (name, milli_v, milli_a) in enumerate(powers, start=1):
        sys_files.update({f"{rails}in{number}_label": f"{name}\n", f"{rails}in{number}_input": f"{milli_v}\n",
                          f"{rails}curr{number}_input": f"{milli_a}\n"})
    sys_files[f"{rails}in7_label"] = "sum of shunt voltages\n"
    hot = {"class/thermal/thermal_zone0/temp": "99000\n", "class/thermal/thermal_zone3/temp": "99000\n", **_cooler(4),
           **cpufreq({0: (1510400, 729600), 4: (1510400, 729600)})}
    return _board("orin", "jetson-orin-nano", 8192, {}, sys_files, hot)


def _pi(kind: str, model: str, top_mhz: int) -> Board:
    top_khz = top_mhz * 1000
    sys_files = {
        **_model(model), **thermal({"cpu-thermal": 48312}), **cpufreq({0: (top_khz, top_khz)}),
        **_vcgencmd(0, 48.3, top_mhz),
    }
    if model == PI5_MODEL:
        lines = [f"{name:>14}_A current({n})={ampere:.8f}A" for n, (name, ampere, _) in enumerate(PMIC)]
        lines += [f"{name:>14}_V volt({n + 8})={volt:.8f}V" for n, (name, _, volt) in enumerate(PMIC)]
        sys_files["vcgencmd/pmic_read_adc"] = "\n".join([*lines, "   EXT5V_V volt(24)=5.11478000V", ""])
    hot = {"class/thermal/thermal_zone0/temp": "85200\n", **_vcgencmd(0x60006, 85.2, 1000)}
    return _board(kind, f"raspberry-{kind}", 4096, {"usr/bin/vcgencmd": _VCGENCMD}, sys_files, hot)


def _board(kind: str, device_class: str, ram_mb: int, files: Mapping[str, str], sys_files: Mapping[str, str],
           hot: Mapping[str, str]) -> Board:
    marked = {**sys_files, SYNTHETIC: "Every sensor of this device is a fixture.\n"}
    return Board(kind, device_class, ram_mb, files, marked, hot)


def _model(text: str) -> dict[str, str]:
    return {"firmware/devicetree/base/model": text + "\0"}


def thermal(zones: Mapping[str, int]) -> dict[str, str]:
    """Zones by type, in thousandths of a degree."""
    found = {}
    for number, (name, milli_c) in enumerate(zones.items()):
        found[f"class/thermal/thermal_zone{number}/type"] = f"{name}\n"
        found[f"class/thermal/thermal_zone{number}/temp"] = f"{milli_c}\n"
    return found


def cpufreq(policies: Mapping[int, tuple[int, int]]) -> dict[str, str]:
    """Clusters by their first core: (top, now) in kHz."""
    found = {}
    for first, (top_khz, now_khz) in policies.items():
        folder = f"devices/system/cpu/cpufreq/policy{first}/"
        found.update({f"{folder}cpuinfo_max_freq": f"{top_khz}\n", f"{folder}scaling_max_freq": f"{top_khz}\n",
                      f"{folder}scaling_cur_freq": f"{now_khz}\n", f"{folder}scaling_governor": "schedutil\n",
                      f"devices/system/cpu/cpu{first}/cpufreq/scaling_governor": "schedutil\n"})
    return found


def _cooler(state: int) -> dict[str, str]:
    return {"class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
            "class/thermal/cooling_device0/cur_state": f"{state}\n"}


def _gpu(name: str, hz: int) -> dict[str, str]:
    return {f"class/devfreq/{name}/cur_freq": f"{hz}\n", f"class/devfreq/{name}/device/load": "0\n"}


def _vcgencmd(bits: int, temp_c: float, clock_mhz: int) -> dict[str, str]:
    return {"vcgencmd/get_throttled": f"throttled=0x{bits:x}\n", "vcgencmd/measure_temp": f"temp={temp_c:.1f}'C\n",
            "vcgencmd/measure_clock-arm": f"frequency(0)={clock_mhz * 1000000}\n",
            "vcgencmd/measure_volts-core": "volt=0.8500V\n"}
