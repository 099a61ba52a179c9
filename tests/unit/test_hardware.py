"""What a device says of its hardware, from trees in the formats of boards, PCs and Android."""
import os
import re
from pathlib import Path
from typing import Any

import pytest

from device_agents import hardware
from harness.lab import board, phone


def tree(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


def test_a_board_names_itself_and_its_clocks(tmp_path: Path) -> None:
    nano = next(one for one in board.boards() if one.kind == "nano")
    root = tree(tmp_path, {**{f"sys/{name}": text for name, text in nano.sys_files.items()},
                           "var/lib/nvpmodel/status": "pmode:0000\n",
                           "etc/os-release": 'NAME=x\nPRETTY_NAME="Ubuntu 18.04.6 LTS"\n'})
    facts = hardware.facts(root)
    assert facts["model"] == "NVIDIA Jetson Nano Developer Kit"
    assert (facts["system"], facts["power_mode"], facts["soc"]) == ("Ubuntu 18.04.6 LTS", "pmode:0000", None)
    cluster, = facts["clocks"]
    assert (cluster["policy"], cluster["limit_mhz"]) == ("policy0", 1479.0) and cluster["governor"]


def test_a_pc_names_its_maker_and_what_only_root_reads(tmp_path: Path) -> None:
    root = tree(tmp_path, {"sys/class/dmi/id/sys_vendor": "LENOVO\n", "sys/class/dmi/id/product_name": "20XW\n",
                           "sys/class/powercap/intel-rapl:0/energy_uj": "12\n"})
    (tmp_path / "sys/class/powercap/intel-rapl:1/energy_uj").mkdir(parents=True)    # what nobody can read
    facts = hardware.facts(root)
    assert facts["model"] == "LENOVO 20XW"
    assert facts["shut"] == ["/sys/class/powercap/intel-rapl:1/energy_uj"]


def test_governors_to_choose_from(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpufreq"
    root = tree(tmp_path, {f"{folder}/policy0/scaling_available_governors": "ondemand performance\n",
                           f"{folder}/policy4/scaling_available_governors": "performance powersave\n"})
    assert hardware.facts(root)["governors"] == ["ondemand", "performance", "powersave"]


@pytest.mark.parametrize(("script", "model", "soc", "system"), [
    ("", "Google Pixel 6 (lab)", "gs101", "Android 13"), ("exec sleep 30", None, None, None),
    ("exit 1", None, None, None)])
def test_android_is_asked_for_its_properties(tmp_path: Path, monkeypatch: Any, script: str, model: str | None,
                                             soc: str | None, system: str | None) -> None:
    """A getprop that hangs or fails costs the other facts nothing."""
    monkeypatch.setattr(hardware, "_GETPROP_S", 0.5)
    properties = phone.phone().sys_files["android/properties"]
    lines = re.sub(r"(?m)^([^=]+)=(.*)$", r"[\1]: [\2]", properties)
    program = tmp_path / "bin" / "getprop"
    tree(tmp_path, {"bin/getprop": f"#!/bin/sh\n{script}\ncat <<'X'\n{lines}X\n"})
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    facts = hardware.facts(str(tmp_path))
    assert (facts["model"], facts["soc"], facts["system"]) == (model, soc, system)


def test_nothing_known_is_none(tmp_path: Path) -> None:
    assert hardware.facts(str(tmp_path)) == {"model": None, "soc": None, "system": None, "clocks": [], "governors": [],
                                             "power_mode": None, "shut": []}
