"""Raspberry Pi: what only the firmware knows: throttling, the real ARM clock, the chip's temperature.

Read by the sampler from /sys/devices/platform/soc/soc:firmware/get_throttled (hexadecimal and cheap; raspberrypi/linux
#2397), else from `vcgencmd get_throttled`; clock and temperature from `vcgencmd measure_clock arm` and `measure_temp`.
vcgencmd costs a process, so one is asked a second, in turn, and never waited for; its user must be in the group video.
Bits 16-19 say "since boot": one that was set before the first reading says nothing about this trial and is ignored,
one that appears later counts. What is not answered twice is None; everything is on other boards. Output formats: not
verified on hardware.
"""
import re
from typing import Dict, Optional

from device_agents.seams import Sensor
from device_agents.slow_command import Questions, SlowCommand
from device_agents.sysfs import Files, board_model

_SYSFS = "/sys/devices/platform/soc/soc:firmware/get_throttled"
_PROGRAMS = ("/usr/bin/vcgencmd", "/opt/vc/bin/vcgencmd")
_LIVE, _SINCE_BOOT = 0xF, 0xF0000               # under-voltage, frequency capped, throttled, soft temperature limit
_FORMATS = {
    "get_throttled": re.compile(r"^throttled=0x([0-9a-fA-F]{1,8})\s*$"),
    "measure_clock arm": re.compile(r"^frequency\(\d+\)=(\d{1,11})\s*$"),
    "measure_temp": re.compile(r"^temp=(-?\d{1,3}(?:\.\d+)?)'C\s*$"),
}


class PiThrottle(Sensor):
    """throttled: 1 when one of the four limits is on or came on since the last reading. arm_clock_mhz, soc_temp_c."""

    metrics = ("throttled", "arm_clock_mhz", "soc_temp_c")
    source = "Raspberry Pi firmware"
    period_s = 1.0

    def __init__(self) -> None:
        self._files = Files()
        self._root: Optional[str] = None
        self._questions: Optional[Questions] = None
        self._by_sysfs = False
        self._bits: Optional[int] = None

    def read(self, root: str) -> Dict[str, Optional[float]]:
        first = root != self._root
        if first:
            self._open(root)
        values: Dict[str, Optional[float]] = {}
        if self._questions is not None:
            if first:
                self._questions.round(self._values, wait_s=1.0)
            else:
                self._questions.turn(self._values)
            values, self.reason = self._questions.values(), self._questions.reason
        if self._by_sysfs:
            values["throttled"] = self._throttled(_hexadecimal(self._files.text(root + _SYSFS, 32)))
        return {metric: values.get(metric) for metric in self.metrics}

    def _open(self, root: str) -> None:
        self._root, self._bits, self._questions, self._by_sysfs = root, None, None, False
        if "Raspberry Pi" not in board_model(root):
            return
        self._by_sysfs = self._files.text(root + _SYSFS, 32) is not None
        commands = [SlowCommand(root + program) for program in _PROGRAMS]
        command = next((command for command in commands if not command.reason), None)
        if command is not None:
            self._questions = Questions(command, [words for words in _FORMATS if words != "get_throttled"
                                                  or not self._by_sysfs])
        self.source = "Raspberry Pi firmware by " + ("sysfs" if self._by_sysfs else "vcgencmd")

    def _values(self, words: str, answer: str) -> Optional[Dict[str, Optional[float]]]:
        match = _FORMATS[words].match(answer)
        if match is None:
            return None
        if words == "get_throttled":
            return {"throttled": self._throttled(int(match.group(1), 16))}
        if words == "measure_temp":
            return {"soc_temp_c": float(match.group(1))}
        return {"arm_clock_mhz": int(match.group(1)) / 1e6}

    def _throttled(self, bits: Optional[int]) -> Optional[float]:
        if bits is None:
            return None
        before, self._bits = bits if self._bits is None else self._bits, bits
        return float(bool(bits & _LIVE or bits & ~before & _SINCE_BOOT))


def _hexadecimal(text: Optional[str]) -> Optional[int]:
    try:
        return int(text or "", 16)
    except ValueError:
        return None
