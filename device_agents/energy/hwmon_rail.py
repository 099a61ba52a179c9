"""A power sensor that Linux knows through hwmon (INA219, INA226, ACPI power meter): power, or volts and amperes.

Read by the sampler from /sys/class/hwmon/hwmon*/{name,powerN_input,powerN_average,inN_input,currN_input}: uW, mV, mA.
hwmon numbers change with every boot, so a rail is called after its chip's name and label. One rail is the total; of
several, nobody says which feeds which, so there is then no total, with a reason, also while all but one fail. Leaves
the INA3221 to jetson_rail and batteries to battery_gauge. Not verified on hardware.
"""
import os
from typing import List, NamedTuple, Optional

from device_agents.seams import EnergySource
from device_agents.sysfs import Files, find
from device_agents.wire import Measurement

_NOT_HERE = ("ina3221", "ina3221x")
_HIGHEST_W = 2000.0


class Rail(NamedTuple):
    """Either a file in uW, or two in mV and mA."""
    name: str
    micro_w: str
    milli_v: str
    milli_a: str


class HwmonRail(EnergySource):
    """Total: power_w when there is exactly one rail. Parts: <chip>_<label or number>_power_w."""

    scope = "rail"

    def __init__(self) -> None:
        self._files = Files()
        self._root: Optional[str] = None
        self._rails: List[Rail] = []

    def available(self, root: str) -> bool:
        self._open(root)
        readable = any(self._power_w(rail) is not None for rail in self._rails)
        if not self._rails:
            self.reason = "no power sensor in /sys/class/hwmon"
        elif not readable:
            self.reason = "the power files in /sys/class/hwmon may not be read, or read as nonsense"
        elif len(self._rails) > 1:              # of those that are there: one that fails now leaves no total behind
            self.reason = "%d rails, and nothing says which feeds which" % len(self._rails)
        else:
            self.reason = ""
        return readable

    def read(self, root: str, t_ns: int) -> List[Measurement]:
        self._open(root)
        found: List[Measurement] = []
        for rail in self._rails:
            power_w = self._power_w(rail)
            metrics = [rail.name + "_power_w"] + (["power_w"] if len(self._rails) == 1 else [])
            found.extend(Measurement(t_ns, metric, power_w, "W", "hwmon " + rail.name, self.provenance)
                         for metric in metrics)
        return found

    def _power_w(self, rail: Rail) -> Optional[float]:
        if rail.micro_w:
            micro_w = self._files.number(rail.micro_w)
        else:
            milli_v, milli_a = self._files.number(rail.milli_v), self._files.number(rail.milli_a)
            micro_w = None if milli_v is None or milli_a is None else milli_v * milli_a
        return micro_w * 1e-6 if micro_w is not None and 0 <= micro_w * 1e-6 <= _HIGHEST_W else None

    def _open(self, root: str) -> None:
        if root == self._root:
            return
        self._root, self._rails = root, []
        supplies = [path.rpartition("/")[2] for path in find(root, "/sys/class/power_supply/*")]
        for chip in find(root, "/sys/class/hwmon/hwmon*"):
            name = _word(self._files.text(chip + "/name"))
            if name and name not in _NOT_HERE and name not in [_word(supply) for supply in supplies]:
                self._rails.extend(self._rails_of(chip, name))

    def _rails_of(self, chip: str, name: str) -> List[Rail]:
        """Power files where the chip has some, else each current that has a voltage of the same number."""
        taken = [rail.name for rail in self._rails]
        rails = [Rail(self._unique(name, path.rpartition("_")[0], taken), path, "", "")
                 for path in find(chip, "/power*_input") or find(chip, "/power*_average")]
        for path in [] if rails else find(chip, "/curr*_input"):
            number = path.rpartition("/curr")[2].partition("_")[0]
            milli_v = "%s/in%s_input" % (chip, number)
            if os.path.exists(milli_v):
                rails.append(Rail(self._unique(name, path.rpartition("_")[0], taken), "", milli_v, path))
        return rails

    def _unique(self, chip: str, stem: str, taken: List[str]) -> str:
        """'ina226_vdd' or 'ina226_1'; a second chip of the same name counts on: 'ina226_vdd_2'."""
        digits = "".join(character for character in stem.rpartition("/")[2] if character.isdigit())
        name = candidate = chip + "_" + (_word(self._files.text(stem + "_label")) or digits)
        count = 1
        while candidate in taken:
            count += 1
            candidate = "%s_%d" % (name, count)
        taken.append(candidate)
        return candidate


def _word(text: Optional[str]) -> str:
    words = "".join(character if character.isalnum() else " " for character in (text or "").lower()).split()
    return "_".join(words)
