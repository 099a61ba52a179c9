"""Battery: charge, whether the cable feeds it, temperature and voltage.

Read by the sampler from /sys/class/power_supply (kernel ABI: %, 0.1 degC, uV). A gauge has sentinels (INT_MIN, -1,
255 %): they are None. Peripherals' batteries (a mouse's, scope "Device") are not the device's. `charging` means
"external power is there", also when the battery is full, because then no joule leaves it. Phones often refuse
the shell these files: None. Current and power belong to energy/battery_gauge. Not verified on hardware.
"""
from typing import Dict, List, Optional

from device_agents.seams import Sensor
from device_agents.sysfs import Files, find

_PLUGGED = ("charging", "full", "not charging")


class Battery(Sensor):
    """battery_pct 0..100, charging 0 | 1, battery_temp_c, battery_mv. None where there is no battery."""

    metrics = ("battery_pct", "charging", "battery_temp_c", "battery_mv")
    source = "/sys/class/power_supply"
    period_s = 1.0

    def __init__(self) -> None:
        self._files = Files()
        self._root: Optional[str] = None
        self._battery = ""
        self._chargers: List[str] = []

    def read(self, root: str) -> Dict[str, Optional[float]]:
        if root != self._root:
            self._root = root
            self._discover(root)
        if not self._battery:
            return dict.fromkeys(self.metrics)
        number = self._files.number
        tenths_c, micro_v = number(self._battery + "/temp"), number(self._battery + "/voltage_now")
        return {"battery_pct": _within(number(self._battery + "/capacity"), 0.0, 100.0),
                "charging": self._charging(),
                "battery_temp_c": _within(None if tenths_c is None else tenths_c / 10.0, -40.0, 120.0),
                "battery_mv": _within(None if micro_v is None else micro_v / 1000.0, 500.0, 100000.0)}

    def _charging(self) -> Optional[float]:
        status = (self._files.text(self._battery + "/status") or "").lower()
        if status in _PLUGGED or any(self._files.number(charger + "/online") == 1 for charger in self._chargers):
            return 1.0
        return 0.0 if status == "discharging" else None

    def _discover(self, root: str) -> None:
        supplies = find(root, "/sys/class/power_supply/*")
        kind = {supply: (self._files.text(supply + "/type") or "").lower() for supply in supplies}
        batteries = [supply for supply in supplies if kind[supply] == "battery"
                     and (self._files.text(supply + "/scope") or "").lower() != "device"
                     and self._files.text(supply + "/present") != "0"]
        self._battery = batteries[0] if batteries else ""
        self._chargers = [supply for supply in supplies if kind[supply] in ("mains", "usb", "wireless")]
        if self._battery:
            self.source = "/sys/class/power_supply/" + self._battery.rpartition("/")[2]


def _within(value: Optional[float], low: float, high: float) -> Optional[float]:
    return value if value is not None and low <= value <= high else None
