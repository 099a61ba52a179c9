"""Power rails of a Jetson: the INA3221 chips on the module.

Read by the sampler. JetPack 4 (Nano, TX2, Xavier): /sys/bus/i2c/drivers/ina3221x/*/iio*device*/{rail_name_N,
in_powerN_input}, mW. JetPack 5 and 6 (Xavier, Orin): /sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/{inN_label,inN_input,
currN_input}, mV and mA. A rail that feeds the whole module (VDD_IN, POM_5V_IN) is the total alone; a module without
one (AGX) is the sum of its rails, carrier board not included. Unconnected (NC) and shunt-sum channels are skipped.
These sensors read low, "by up to 50 %" (arXiv 2306.13107): the boundary is `rail`, never compared with a board or wall
figure. Formats from jetson_stats and the kernel's ina3221 document; not verified on hardware.
"""
from typing import List, NamedTuple, Optional

from device_agents.seams import EnergySource
from device_agents.sysfs import Files, find
from device_agents.wire import Measurement

_WHOLE_MODULE = ("vdd_in", "pom_5v_in")


class Rail(NamedTuple):
    """Paths of one channel; power_path is '' where the driver has none."""
    name: str
    milli_v: str
    milli_a: str
    milli_w: str


class JetsonRail(EnergySource):
    """Total: power_w of the module. Parts: <rail>_power_w."""

    scope = "rail"

    def __init__(self) -> None:
        self._files = Files()
        self._root: Optional[str] = None
        self._rails: List[Rail] = []

    def available(self, root: str) -> bool:
        self._open(root)
        if not self._rails:
            self.reason = "no INA3221 power monitor (a Jetson has one)"
        elif all(self._power_w(rail) is None for rail in self._rails):
            self.reason = "the INA3221's files may not be read, or read as nonsense"
        else:
            self.reason = ""
        return not self.reason

    def read(self, root: str, t_ns: int) -> List[Measurement]:
        self._open(root)
        if not self._rails:
            return []
        powers_w = [(rail.name, self._power_w(rail)) for rail in self._rails]
        whole = [power_w for name, power_w in powers_w if name in _WHOLE_MODULE]
        summands = whole[:1] or [power_w for _, power_w in powers_w]
        known = [power_w for power_w in summands if power_w is not None]
        total_w = sum(known) if len(known) == len(summands) else None     # a part of the rails is no total
        source = "INA3221 " + ("module input rail" if whole else "sum of %d rails" % len(summands))
        found = [Measurement(t_ns, name + "_power_w", power_w, "W", source, self.provenance)
                 for name, power_w in powers_w]
        return found + [Measurement(t_ns, "power_w", total_w, "W", source, self.provenance)]

    def _power_w(self, rail: Rail) -> Optional[float]:
        milli_w = self._files.number(rail.milli_w) if rail.milli_w else None
        if milli_w is None:
            milli_v, milli_a = self._files.number(rail.milli_v), self._files.number(rail.milli_a)
            milli_w = None if milli_v is None or milli_a is None else milli_v * milli_a / 1000.0
        return milli_w / 1000.0 if milli_w is not None and 0 <= milli_w <= 200000 else None

    def _open(self, root: str) -> None:
        if root != self._root:
            self._root = root
            rails = self._hwmon_rails(root) + self._iio_rails(root)
            self._rails = [rail for index, rail in enumerate(rails)
                           if rail.name not in [other.name for other in rails[:index]]]

    def _hwmon_rails(self, root: str) -> List[Rail]:
        """Channels 1-3. Channels 4-7 are shunt voltages and their sum, not rails."""
        rails = []
        for folder in find(root, "/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"):
            for channel in "123":
                name = _rail_name(self._files.text(folder + "/in%s_label" % channel))
                if name:
                    rails.append(Rail(name, folder + "/in%s_input" % channel, folder + "/curr%s_input" % channel, ""))
        return rails

    def _iio_rails(self, root: str) -> List[Rail]:
        rails = []
        for folder in find(root, "/sys/bus/i2c/drivers/ina3221x/*/iio[:_]device*"):
            for channel in "012":
                name = _rail_name(self._files.text(folder + "/rail_name_" + channel))
                if name:
                    start = folder + "/in_"
                    rails.append(Rail(name, start + "voltage%s_input" % channel, start + "current%s_input" % channel,
                                      start + "power%s_input" % channel))
        return rails


def _rail_name(label: Optional[str]) -> str:
    """A label as a metric's prefix; '' for channels that measure nothing."""
    words = "".join(character if character.isalnum() else " " for character in (label or "").lower()).split()
    return "" if not words or "nc" in words or "shunt" in words else "_".join(words)
