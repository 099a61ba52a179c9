"""Android: whether the phone is awake, how bright its screen is set, and which radios are on.

Read by the sampler from `dumpsys power` and `settings get`, because all of them draw from the battery whose joules are
measured. Each is a process that wakes system_server: every question is asked once before the window, then one in turn
every 30 seconds, never waited for. Some phones count brightness beyond 255; what is out of range is None, as is
what a vendor names otherwise, and everything elsewhere. Formats from AOSP, recalled; not verified on hardware.
"""
import re
from typing import Dict, Iterable, Optional

from device_agents.seams import Sensor
from device_agents.slow_command import Questions, SlowCommand
from device_agents.sysfs import number_of

_DUMPSYS, _SETTINGS = "/system/bin/dumpsys", "/system/bin/settings"
_AWAKE = re.compile(r"^\s*mWakefulness=(\w+)", re.M)
_BRIGHTNESS = "get system screen_brightness"
_RADIOS = {"get global wifi_on": "wifi_on", "get global bluetooth_on": "bluetooth_on",
           "get global mobile_data": "mobile_data_on", "get global airplane_mode_on": "airplane_mode_on"}
_ON, _OFF = (1.0, 2.0), (0.0, 3.0)              # Wi-Fi: 2 = on in spite of airplane mode, 3 = off because of it

Values = Dict[str, Optional[float]]


class AndroidState(Sensor):
    """awake (1 also while it dreams), brightness_pct as set, and 0 | 1 of each radio's switch."""

    metrics = ("awake", "brightness_pct", "wifi_on", "bluetooth_on", "mobile_data_on", "airplane_mode_on")
    source = "dumpsys power and settings"
    period_s = 30.0

    def __init__(self) -> None:
        self._root: Optional[str] = None
        self._power: Optional[Questions] = None
        self._settings: Optional[Questions] = None

    def read(self, root: str) -> Values:
        first = root != self._root
        if first:
            self._root = root
            self._power = _questions(root + _DUMPSYS, ("power",))
            self._settings = _questions(root + _SETTINGS, (_BRIGHTNESS, *_RADIOS))
        values = {}  # type: Values
        for questions, read in ((self._power, _power), (self._settings, _setting)):
            if questions is None:
                continue
            if first:
                questions.round(read, wait_s=2.0)
            else:
                questions.turn(read)
            values.update(questions.values())
        self.reason = " ".join(one.reason for one in (self._power, self._settings) if one is not None and one.reason)
        return {metric: values.get(metric) for metric in self.metrics}


def _questions(program: str, words: Iterable[str]) -> Optional[Questions]:
    command = SlowCommand(program)
    return None if command.reason else Questions(command, words)


def _power(_question: str, answer: str) -> Optional[Values]:
    found = _AWAKE.search(answer)
    return {"awake": float(found.group(1) in ("Awake", "Dreaming"))} if found else None


def _setting(question: str, answer: str) -> Optional[Values]:
    value = number_of(answer.strip())           # "null" is no number
    if question == _BRIGHTNESS:
        return {"brightness_pct": value / 2.55 if value is not None and 0 <= value <= 255 else None}
    return {_RADIOS[question]: 1.0 if value in _ON else 0.0 if value in _OFF else None}
