"""Battery gauge: what leaves the battery of a phone or laptop, while nothing charges it.

Read by the sampler from /sys/class/power_supply: voltage_now (uV), current_now (uA; kernel ABI: negative =
discharging), power_now (uW). Vendors differ, so sign (from `status`) and unit are calibrated, and what was found is in
each measurement's source. One |I| of 20000 or more shows uA; ten readings below it, running, of a battery that
discharges show mA, for nothing that runs draws under 20 mA for seconds. Until then there is no power. charge_full shows
nothing: Samsung's driver gives it in uAh beside a current in mA. INT_MIN, -1 and 0 are no value. While external power
may be there, or the current's sign says so, power is None with a reason: those joules are not the device's. No abs() of
a current: charging would count as consumption. The gauge averages over seconds. Vendors' formats: not verified on
hardware.
"""
from typing import List, Optional, Tuple

from device_agents.seams import EnergySource
from device_agents.sysfs import Files, find
from device_agents.wire import Measurement

_SENTINELS = (-2147483648, 2147483647, -2147483647, -1, 0)
_MILLI_BELOW = 20000                            # 20 mA in uA, or 20 A in mA
_MILLI_READINGS = 10                            # under it, running, before the unit is taken for mA
_HIGHEST_RAW = 1e9                              # 1000 A or 1 kW
_HIGHEST_W = 300.0


class BatteryGauge(EnergySource):
    """Total: power_w out of the battery; None while charging, see `reason`. battery_current_ma, < 0 = discharging."""

    scope = "battery"
    period_s = 0.5

    def __init__(self) -> None:
        self._files = Files()
        self._root: Optional[str] = None
        self._battery = ""
        self._chargers: List[str] = []
        self.current_unit = ""                  # uA | mA, once known
        self._small = 0                         # readings that may be mA, running
        self.sign = 0                           # 1 = the kernel's (negative = discharging), -1 = reversed, 0 = unknown

    def available(self, root: str) -> bool:
        self._open(root)
        if not self._battery:
            self.reason = "no battery in /sys/class/power_supply"
        elif self._files.number(self._battery + "/voltage_now") is None:
            self.reason = "%s/voltage_now may not be read" % self._battery[len(root):]
        elif self._raw("current_now") is None and self._raw("power_now") is None:
            self.reason = "%s gives neither current_now nor power_now" % self._battery[len(root):]
        else:
            self.reason = ""
        return not self.reason

    def read(self, root: str, t_ns: int) -> List[Measurement]:
        self._open(root)
        if not self._battery:
            return []
        status = (self._files.text(self._battery + "/status") or "unreadable").lower()
        current, micro_w = self._raw("current_now"), self._raw("power_now")
        self._calibrate_sign(status, micro_w if current is None else current)
        external = status != "discharging" or any(self._files.number(path + "/online") == 1 for path in self._chargers)
        milli_a = self._milli_a(current, external)
        if external:
            power_w, self.reason = None, "external power may be connected (battery status: %s)" % status
        elif current is not None and milli_a is None:
            power_w, self.reason = None, "whether current_now is in uA or mA is not known yet"
        else:
            power_w, self.reason = self._power_w(milli_a, micro_w)
        unit = self.current_unit or ("a unit not known yet" if current is not None else "")
        source = "battery gauge, %s, %s" % (
            "current in " + unit if unit else "power in uW",
            {1: "negative = discharging", -1: "reversed: positive = discharging", 0: "sign not known yet"}[self.sign])
        return [Measurement(t_ns, "power_w", power_w, "W", source, self.provenance),
                Measurement(t_ns, "battery_current_ma", None if milli_a is None else milli_a * (self.sign or 1), "mA",
                            source, self.provenance)]

    def _power_w(self, milli_a: Optional[float], micro_w: Optional[float]) -> Tuple[Optional[float], str]:
        """(W out of the battery, '') or (None, why not)."""
        micro_v = self._files.number(self._battery + "/voltage_now")
        if milli_a is not None and micro_v is not None and 0.5e6 <= micro_v <= 100e6:
            power_w = -milli_a * self.sign * micro_v * 1e-9
        elif micro_w is not None:
            power_w = -micro_w * self.sign * 1e-6
        else:
            return None, "the gauge gives no current and no power now"
        if power_w <= 0:
            return None, "the status says discharging, the current says charging"
        if power_w > _HIGHEST_W:
            return None, "%.0f W is no battery's power" % power_w
        return power_w, ""

    def _milli_a(self, current: Optional[float], external: bool) -> Optional[float]:
        """The current in mA with the gauge's own sign; None while its unit is not known. Once seen to be uA, it is."""
        if current is None:
            return None
        if abs(current) >= _MILLI_BELOW:
            self.current_unit = "uA"
        elif not self.current_unit:
            self._small = 0 if external else self._small + 1
            self.current_unit = "mA" if self._small >= _MILLI_READINGS else ""
        return {"uA": current / 1000.0, "mA": current, "": None}[self.current_unit]

    def _calibrate_sign(self, status: str, signed: Optional[float]) -> None:
        """From the first reading whose direction the status states."""
        if self.sign == 0 and signed and status in ("charging", "discharging"):
            self.sign = 1 if (signed > 0) == (status == "charging") else -1

    def _raw(self, name: str) -> Optional[float]:
        value = self._files.number(self._battery + "/" + name)
        return None if value is None or value in _SENTINELS or abs(value) > _HIGHEST_RAW else value

    def _open(self, root: str) -> None:
        if root == self._root:
            return
        self._root, self.current_unit, self._small, self.sign = root, "", 0, 0
        supplies = find(root, "/sys/class/power_supply/*")
        kind = {supply: (self._files.text(supply + "/type") or "").lower() for supply in supplies}
        batteries = [supply for supply in supplies if kind[supply] == "battery"
                     and (self._files.text(supply + "/scope") or "").lower() != "device"]
        self._battery = batteries[0] if batteries else ""
        self._chargers = [supply for supply in supplies if kind[supply] in ("mains", "usb", "wireless")]
