"""Android: battery and temperatures from the system's services, where sysfs is closed to the shell user.

Read by the sampler from `dumpsys battery` and `dumpsys thermalservice`, in turn, one every five seconds and never
waited for, because each is a process and wakes system_server. Of the thermal service only the block "from HAL" counts:
the cached one is stale. Some vendors number the types differently, so a sensor's name counts, too. `dumpsys battery
unplug` fakes what is read here, which `reason` says, and stops no charging; energy/battery_gauge believes the current
instead. What was not answered twice is None; everything is elsewhere. Formats from AOSP; not verified on hardware.
"""
import re
from typing import Dict, List, Optional, Tuple

from device_agents.seams import Sensor
from device_agents.slow_command import Questions, SlowCommand
from device_agents.sysfs import number_of

_PROGRAM = "/system/bin/dumpsys"
_SERVICES = ("battery", "thermalservice")
_STATE = "Battery Service state"
_TEMPERATURE = re.compile(r"Temperature\{mValue=(-?[0-9.]+), mType=(-?\d+), mName=([^,}]*), mStatus=\d+\}")
_CPU, _SKIN = 0, 3
_CPU_NAMES, _SKIN_NAMES = ("CPU", "AP"), ("SKIN",)
_STOPPED = "UPDATES STOPPED"                    # after `dumpsys battery unplug` or `set`
_POWERED = ("AC powered", "USB powered", "Wireless powered", "Dock powered")


class AndroidServices(Sensor):
    """battery_pct, charging (external power is there), battery_temp_c, battery_mv, temp_c (hottest CPU sensor),
    skin_temp_c, throttled: 1 when the thermal service reports any throttling status."""

    metrics = ("battery_pct", "charging", "battery_temp_c", "battery_mv", "temp_c", "skin_temp_c", "throttled")
    source = "dumpsys battery and thermalservice"
    period_s = 5.0

    def __init__(self) -> None:
        self._root: Optional[str] = None
        self._questions: Optional[Questions] = None
        self._faked = ""

    def read(self, root: str) -> Dict[str, Optional[float]]:
        first = root != self._root
        if first:
            command = SlowCommand(root + _PROGRAM)
            self._root, self._faked = root, ""
            self._questions = None if command.reason else Questions(command, _SERVICES)
        if self._questions is None:
            return dict.fromkeys(self.metrics)
        if first:
            self._questions.round(self._values, wait_s=2.0)
        else:
            self._questions.turn(self._values)
        self.reason = self._questions.reason or self._faked
        values = self._questions.values()
        return {metric: values.get(metric) for metric in self.metrics}

    def _values(self, service: str, answer: str) -> Optional[Dict[str, Optional[float]]]:
        if service == "battery" and _STATE in answer:
            fields = _fields(answer)
            stopped = any(_STOPPED in key for key in fields)
            self._faked = "the battery is faked; to end that: dumpsys battery reset" if stopped else ""
            return _battery(fields)
        return _thermal(answer) if service == "thermalservice" and "Thermal Status:" in answer else None


def _fields(text: str) -> Dict[str, str]:
    """Up to the first empty line: Samsung appends a log in which the same keys come again."""
    fields = {}
    for line in text.partition(_STATE)[2].splitlines()[1:]:
        if not line.strip() or line.lstrip().startswith("["):
            break
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    return fields


def _battery(fields: Dict[str, str]) -> Dict[str, Optional[float]]:
    level, scale = number_of(fields.get("level")), number_of(fields.get("scale"))
    tenths_c, milli_v = number_of(fields.get("temperature")), number_of(fields.get("voltage"))
    powered = [fields[name] for name in _POWERED if name in fields]
    return {"battery_pct": _within(100.0 * level / scale, 0, 100) if level is not None and scale else None,
            "charging": float("true" in powered) if powered else None,
            "battery_temp_c": _within(None if tenths_c is None else tenths_c / 10.0, -40, 120),
            "battery_mv": _within(milli_v, 500, 100000)}


def _thermal(text: str) -> Dict[str, Optional[float]]:
    status = number_of(text.partition("Thermal Status:")[2].partition("\n")[0].strip())
    block = text.partition("Current temperatures from HAL:")[2].partition("Current cooling devices from HAL:")[0]
    found = [(_within(number_of(value), -40, 150), int(kind), name.strip().upper())
             for value, kind, name in _TEMPERATURE.findall(block)]
    return {"temp_c": _hottest(found, _CPU, _CPU_NAMES), "skin_temp_c": _hottest(found, _SKIN, _SKIN_NAMES),
            "throttled": None if status is None else float(status > 0)}


def _hottest(found: List[Tuple[Optional[float], int, str]], kind: int, names: Tuple[str, ...]) -> Optional[float]:
    return max((value for value, its_kind, name in found
                if value is not None and (its_kind == kind or name.startswith(names))), default=None)


def _within(value: Optional[float], low: float, high: float) -> Optional[float]:
    return value if value is not None and low <= value <= high else None
