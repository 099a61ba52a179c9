"""Jetson, hwmon, RAPL and Pi 5 meters: exact formats, totals that count nothing twice, and files that fail."""
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from device_agents.energy.hwmon_rail import HwmonRail
from device_agents.energy.jetson_rail import JetsonRail
from device_agents.energy.pi_pmic import PiPmic, rails_w
from device_agents.energy.rapl import Rapl

IIO = "/sys/bus/i2c/drivers/ina3221x/%s/iio:device%d/"
HWMON = "/sys/bus/i2c/drivers/ina3221/%s/hwmon/hwmon%d/"
PMIC = """ 3V7_WL_SW_A current(0)=0.08587116A
   3V3_SYS_A current(1)=0.07123440A
 VDD_CORE_A current(7)=2.00000000A
   3V7_WL_SW_V volt(8)=3.70000000V
   3V3_SYS_V volt(9)=3.30000000V
 VDD_CORE_V volt(15)=0.75000000V
     EXT5V_V volt(24)=5.11478000V
      BATT_V volt(25)=0.00000000V
"""
PMIC_W = 0.08587116 * 3.7 + 0.07123440 * 3.3 + 2.0 * 0.75


def write(root: Path, path: str, text: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def values(source: object, root: Path, t_ns: int = 0) -> dict:
    found = source.read(str(root), t_ns)
    assert len({measurement.metric for measurement in found}) == len(found)
    return {measurement.metric: measurement.value for measurement in found}


def iio_chip(root: Path, address: str, device: int, rails: list) -> None:
    for channel, (name, milli_w) in enumerate(rails):
        folder = IIO % (address, device)
        write(root, f"{folder}rail_name_{channel}", name + "\n")
        write(root, f"{folder}in_power{channel}_input", milli_w + "\n")
        write(root, f"{folder}warn_current_limit_{channel}", "32760 ma\n")


def hwmon_chip(root: Path, address: str, number: int, rails: list) -> None:
    folder = HWMON % (address, number)
    for channel, (name, milli_v, milli_a) in enumerate(rails, start=1):
        write(root, f"{folder}in{channel}_label", name + "\n")
        write(root, f"{folder}in{channel}_input", milli_v + "\n")
        write(root, f"{folder}curr{channel}_input", milli_a + "\n")
    for channel in (4, 5, 6):
        write(root, f"{folder}in{channel}_input", "40\n")
    write(root, folder + "in7_label", "sum of shunt voltages\n")
    write(root, folder + "in7_input", "120\n")


def test_jetson_nano_total_is_its_input_rail(tmp_path: Path) -> None:
    iio_chip(tmp_path, "6-0040", 0, [("POM_5V_IN", "2430"), ("POM_5V_GPU", "120"), ("POM_5V_CPU", "490")])
    source = JetsonRail()
    assert source.available(str(tmp_path))
    assert values(source, tmp_path) == pytest.approx(
        {"pom_5v_in_power_w": 2.43, "pom_5v_gpu_power_w": 0.12, "pom_5v_cpu_power_w": 0.49, "power_w": 2.43})


def test_jetson_tx2_two_chips_and_volts_times_amperes(tmp_path: Path) -> None:
    iio_chip(tmp_path, "0-0040", 0, [("VDD_SYS_GPU", "152"), ("VDD_SYS_SOC", "533"), ("VDD_4V0_WIFI", "0")])
    folder = IIO % ("0-0041", 1)
    for channel, (name, milli_v, milli_a) in enumerate([("VDD_IN", 19152, 140), ("VDD_SYS_CPU", 19152, 20)]):
        write(tmp_path, f"{folder}rail_name_{channel}", name)
        write(tmp_path, f"{folder}in_voltage{channel}_input", str(milli_v))
        write(tmp_path, f"{folder}in_current{channel}_input", str(milli_a))
    reading = values(JetsonRail(), tmp_path)
    assert reading["power_w"] == reading["vdd_in_power_w"] == pytest.approx(19.152 * 0.140)
    assert len(reading) == 6


def test_orin_nano_total_is_vdd_in(tmp_path: Path) -> None:
    hwmon_chip(tmp_path, "1-0040", 3, [("VDD_IN", "5064", "996"), ("VDD_CPU_GPU_CV", "5064", "152"),
                                       ("VDD_SOC", "5056", "264")])
    reading = values(JetsonRail(), tmp_path)
    assert reading["power_w"] == pytest.approx(5.064 * 0.996)
    assert set(reading) == {"vdd_in_power_w", "vdd_cpu_gpu_cv_power_w", "vdd_soc_power_w", "power_w"}


def test_agx_orin_total_is_the_sum_of_its_rails_without_nc(tmp_path: Path) -> None:
    hwmon_chip(tmp_path, "1-0040", 3, [("VDD_GPU_SOC", "19000", "200"), ("VDD_CPU_CV", "19000", "100"),
                                       ("VIN_SYS_5V0", "5000", "900")])
    hwmon_chip(tmp_path, "1-0041", 4, [("NC", "5000", "5000"), ("VDDQ_VDD2_1V8AO", "5000", "100")])
    source = JetsonRail()
    assert values(source, tmp_path)["power_w"] == pytest.approx(3.8 + 1.9 + 4.5 + 0.5)
    write(tmp_path, HWMON % ("1-0041", 4) + "curr2_input", "")       # one rail fails: no total, the others stay
    reading = values(source, tmp_path)
    assert reading["power_w"] is None
    assert reading["vdd_gpu_soc_power_w"] == pytest.approx(3.8)


def test_jetson_nonsense_is_none(tmp_path: Path) -> None:
    source = JetsonRail()
    assert not source.available(str(tmp_path))
    assert "INA3221" in source.reason
    assert source.read(str(tmp_path), 0) == []
    iio_chip(tmp_path, "6-0040", 0, [("POM_5V_IN", "-5"), ("POM_5V_GPU", "999999999")])
    fresh = JetsonRail()
    assert not fresh.available(str(tmp_path))
    assert set(values(fresh, tmp_path).values()) == {None}


def test_hwmon_single_rail_is_the_total(tmp_path: Path) -> None:
    write(tmp_path, "/sys/class/hwmon/hwmon2/name", "ina226\n")
    write(tmp_path, "/sys/class/hwmon/hwmon2/power1_input", "4325000\n")
    write(tmp_path, "/sys/class/hwmon/hwmon2/in1_input", "5000\n")
    write(tmp_path, "/sys/class/hwmon/hwmon2/curr1_input", "865\n")
    write(tmp_path, "/sys/class/hwmon/hwmon0/name", "coretemp\n")
    write(tmp_path, "/sys/class/hwmon/hwmon0/temp1_input", "45000\n")
    source = HwmonRail()
    assert source.available(str(tmp_path))
    assert values(source, tmp_path) == pytest.approx({"ina226_1_power_w": 4.325, "power_w": 4.325})


def test_hwmon_several_rails_have_no_total(tmp_path: Path) -> None:
    for number, label in ((1, "cpu"), (2, "cpu")):      # two chips of one kind, and equal labels
        write(tmp_path, f"/sys/class/hwmon/hwmon{number}/name", "ina219")
        write(tmp_path, f"/sys/class/hwmon/hwmon{number}/in1_input", "12000")
        write(tmp_path, f"/sys/class/hwmon/hwmon{number}/curr1_input", str(100 * number))
        write(tmp_path, f"/sys/class/hwmon/hwmon{number}/curr1_label", label)
    source = HwmonRail()
    assert source.available(str(tmp_path))
    assert "2 rails" in source.reason
    assert values(source, tmp_path) == pytest.approx({"ina219_cpu_power_w": 1.2, "ina219_cpu_2_power_w": 2.4})


@pytest.mark.parametrize("file", ["curr1_input", "in1_input"])
def test_hwmon_one_rail_that_fails_first_does_not_make_the_other_the_total(tmp_path: Path, file: str) -> None:
    for number in (1, 2):
        write(tmp_path, f"/sys/class/hwmon/hwmon{number}/name", "ina219")
        write(tmp_path, f"/sys/class/hwmon/hwmon{number}/in1_input", "12000")
        write(tmp_path, f"/sys/class/hwmon/hwmon{number}/curr1_input", str(100 * number))
    failing = tmp_path / "sys/class/hwmon/hwmon1" / file
    text = failing.read_text()
    failing.unlink()
    failing.mkdir()                             # it is there, and reading it is an error
    source = HwmonRail()
    assert source.available(str(tmp_path))
    assert "2 rails" in source.reason
    assert values(source, tmp_path) == {"ina219_1_power_w": None, "ina219_1_2_power_w": pytest.approx(2.4)}
    failing.rmdir()
    failing.write_text(text)
    assert values(source, tmp_path) == pytest.approx({"ina219_1_power_w": 1.2, "ina219_1_2_power_w": 2.4})


def test_hwmon_leaves_batteries_and_ina3221_to_others(tmp_path: Path) -> None:
    write(tmp_path, "/sys/class/power_supply/BAT0/type", "Battery")
    for number, name in ((0, "BAT0"), (1, "ina3221")):
        write(tmp_path, f"/sys/class/hwmon/hwmon{number}/name", name)
        write(tmp_path, f"/sys/class/hwmon/hwmon{number}/in1_input", "12000")
        write(tmp_path, f"/sys/class/hwmon/hwmon{number}/curr1_input", "1000")
    source = HwmonRail()
    assert not source.available(str(tmp_path))
    assert "no power sensor" in source.reason


@pytest.mark.parametrize("text", ["", "-1", "junk", "9000000000000"])
def test_hwmon_nonsense_is_not_available(tmp_path: Path, text: str) -> None:
    write(tmp_path, "/sys/class/hwmon/hwmon0/name", "power_meter")
    write(tmp_path, "/sys/class/hwmon/hwmon0/power1_average", text)
    source = HwmonRail()
    assert not source.available(str(tmp_path))
    assert "nonsense" in source.reason


def rapl_zone(root: Path, zone: str, name: str, energy_uj: int, range_uj: int = 262143328850) -> None:
    folder = f"/sys/class/powercap/{zone}/"
    write(root, folder + "name", name + "\n")
    write(root, folder + "energy_uj", f"{energy_uj}\n")
    write(root, folder + "max_energy_range_uj", f"{range_uj}\n")


def test_rapl_sums_packages_and_nothing_else(tmp_path: Path) -> None:
    for extra_uj in (0, 1000000):
        rapl_zone(tmp_path, "intel-rapl:0", "package-0", 5000000 + 3 * extra_uj)
        rapl_zone(tmp_path, "intel-rapl:0:0", "core", 2000000 + extra_uj)
        rapl_zone(tmp_path, "intel-rapl:0:1", "dram", 2000000 + extra_uj)
        rapl_zone(tmp_path, "intel-rapl:1", "package-1", 5000000 + 2 * extra_uj)
        rapl_zone(tmp_path, "intel-rapl:2", "psys", 5000000 + 9 * extra_uj)
        rapl_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 5000000 + 3 * extra_uj)
        if not extra_uj:
            source = Rapl()
            assert source.available(str(tmp_path))
            assert set(values(source, tmp_path).values()) == {0.0}
    assert values(source, tmp_path) == pytest.approx(
        {"package_0_energy_j": 3.0, "package_0_core_energy_j": 1.0, "package_0_dram_energy_j": 1.0,
         "package_1_energy_j": 2.0, "psys_energy_j": 9.0, "energy_j": 5.0})


def test_rapl_counts_the_dies_of_a_package_where_the_kernel_does(tmp_path: Path) -> None:
    source = Rapl()
    for extra_uj in (0, 1000000):
        for package in (0, 1):
            for die in (0, 1):
                zone = f"intel-rapl:{2 * package + die}"
                rapl_zone(tmp_path, zone, f"package-{package}-die-{die}", 5000000 + (die + 1) * extra_uj)
                rapl_zone(tmp_path, zone + ":0", "core", 2000000 + extra_uj)
        assert source.available(str(tmp_path))
        found = values(source, tmp_path)
    assert found["energy_j"] == pytest.approx(6.0)
    assert found["package_1_die_1_energy_j"] == pytest.approx(2.0)
    assert found["package_1_die_1_core_energy_j"] == pytest.approx(1.0)


def test_rapl_undoes_wraps_and_never_goes_back(tmp_path: Path) -> None:
    source, seen = Rapl(), []
    for counter_uj in (900000, 990000, 40000, 990000, 10000):
        rapl_zone(tmp_path, "intel-rapl:0", "package-0", counter_uj, range_uj=1000000)
        seen.append(values(source, tmp_path)["energy_j"])
    assert seen == pytest.approx([0.0, 0.09, 0.14, 1.09, 1.11])


def test_rapl_that_was_reset_makes_up_no_joules(tmp_path: Path) -> None:
    """After the machine slept its counter is near zero, which would read as most of a range; and it stays unknown."""
    source, seen = Rapl(), []
    for counter_uj in (300000, 310000, 2000, 400000):
        rapl_zone(tmp_path, "intel-rapl:0", "package-0", counter_uj, range_uj=1000000)
        seen.append(values(source, tmp_path)["energy_j"])
    assert seen == [0.0, pytest.approx(0.01), None, None] and "went back" in source.reason


def test_rapl_that_goes_back_without_a_range_is_none(tmp_path: Path) -> None:
    source = Rapl()
    rapl_zone(tmp_path, "intel-rapl:0", "package-0", 900000)
    values(source, tmp_path)
    rapl_zone(tmp_path, "intel-rapl:0", "package-0", 100)
    write(tmp_path, "/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "")
    assert values(source, tmp_path)["energy_j"] is None
    assert "went back" in source.reason


def test_rapl_that_only_root_may_read(request: pytest.FixtureRequest) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    request.addfinalizer(lambda: shutil.rmtree(str(folder)))
    rapl_zone(folder, "intel-rapl:0", "package-0", 900000)
    counter = folder / "sys/class/powercap/intel-rapl:0/energy_uj"
    os.chmod(str(folder), stat.S_IRWXU | stat.S_IRWXG | stat.S_IROTH | stat.S_IXOTH)
    os.chmod(str(counter), 0 if os.geteuid() else stat.S_IRUSR)
    source, user = Rapl(), os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        available = source.available(str(folder))
    finally:
        os.seteuid(user)
    assert not available
    assert "chmod o+r" in source.reason


def test_rapl_elsewhere(tmp_path: Path) -> None:
    source = Rapl()
    assert not source.available(str(tmp_path))
    assert source.read(str(tmp_path), 0) == []


def vcgencmd(root: Path, body: str) -> None:
    write(root, "/usr/bin/vcgencmd", "#!/bin/sh\n" + body)
    os.chmod(str(root / "usr/bin/vcgencmd"), stat.S_IRWXU)


def test_pmic_format() -> None:
    assert rails_w(PMIC) == pytest.approx({"3v7_wl_sw": 0.08587116 * 3.7, "3v3_sys": 0.0712344 * 3.3, "vdd_core": 1.5})
    assert rails_w(None) == rails_w("") == rails_w("error=1 error_msg=\"Command not registered\"") == {}
    assert rails_w(" A_A current(1)=1..5A\n A_V volt(2)=.V\n B_A current(x)=1A\n B_V volt(1)=1V\n") == {}


def test_pmic_total_estimate_and_cost(tmp_path: Path) -> None:
    vcgencmd(tmp_path, f"test \"$*\" = pmic_read_adc || exit 1\ncat << END\n{PMIC}END\n")
    source = PiPmic()
    assert source.available(str(tmp_path))
    found = {measurement.metric: measurement for measurement in source.read(str(tmp_path), 5)}
    assert found["power_w"].value == pytest.approx(PMIC_W)
    assert found["power_w"].provenance == "measured"
    assert found["estimate_board_power_w"].value == pytest.approx(1.1451 * PMIC_W + 0.5879)
    assert found["estimate_board_power_w"].provenance == "modelled"
    assert found["sample_cost_ms"].value >= 0.0
    assert found["vdd_core_power_w"].value == pytest.approx(1.5)


@pytest.mark.parametrize("body", ["echo 'error=1 error_msg=\"Command not registered\"'\n", "exit 255\n", None])
def test_pmic_on_a_pi_4_and_elsewhere(tmp_path: Path, body: str) -> None:
    if body is not None:
        vcgencmd(tmp_path, body)
    source = PiPmic()
    assert not source.available(str(tmp_path))
    assert "vcgencmd" in source.reason
    assert source.read(str(tmp_path), 0) == []
