"""Temperature: the hottest sane thermal zone; and whether the kernel holds the clock down because of heat.

Read by the sampler from /sys/class/thermal. Zones lie: PMIC-Die of a Jetson is a constant 100 degC, an offline zone
reads -256, phones publish battery current as a "temperature", and a read may fail: those are left out, and no zone
left means None. A Raspberry Pi throttles in its firmware, out of the kernel's sight, so there `throttled` comes
from pi_throttle alone. Zone names and constants: not verified on hardware.
"""
from typing import Dict, List, Optional, Tuple

from device_agents.seams import Sensor
from device_agents.sysfs import Files, board_model, find

_NOT_TEMPERATURES = ("pmic-die", "bcl", "ibat", "vbat", "vph")
_LOWEST_C, _HIGHEST_C = -40.0, 150.0


class Thermal(Sensor):
    """temp_c: degC of the hottest zone. throttled: 1 while a cpufreq cooling device is engaged, 0 while none is."""

    metrics = ("temp_c", "throttled")
    source = "/sys/class/thermal"
    period_s = 0.5

    def __init__(self) -> None:
        self._files = Files()
        self._root: Optional[str] = None
        self._zones: List[str] = []
        self._coolers: List[str] = []

    def read(self, root: str) -> Dict[str, Optional[float]]:
        if root != self._root:
            self._root = root
            self._zones, self._coolers = self._discover(root)
            self.source = "/sys/class/thermal, hottest of %d zones" % len(self._zones)
        hottest: Optional[float] = None
        for zone in self._zones:
            milli_c = self._files.number(zone + "/temp")
            if milli_c is None or not _LOWEST_C <= milli_c / 1000.0 <= _HIGHEST_C:
                continue
            hottest = milli_c / 1000.0 if hottest is None else max(hottest, milli_c / 1000.0)
        states = [self._files.number(cooler + "/cur_state") for cooler in self._coolers]
        known = [state for state in states if state is not None]
        return {"temp_c": hottest, "throttled": float(any(state > 0 for state in known)) if known else None}

    def _discover(self, root: str) -> Tuple[List[str], List[str]]:
        zones = [zone for zone in find(root, "/sys/class/thermal/thermal_zone*") if self._is_temperature(zone)]
        if "Raspberry Pi" in board_model(root):
            return zones, []
        coolers = [cooler for cooler in find(root, "/sys/class/thermal/cooling_device*")
                   if "cpufreq" in (self._files.text(cooler + "/type") or "").lower()]
        return zones, coolers

    def _is_temperature(self, zone: str) -> bool:
        name = (self._files.text(zone + "/type") or "").lower()
        return not any(word in name for word in _NOT_TEMPERATURES)
