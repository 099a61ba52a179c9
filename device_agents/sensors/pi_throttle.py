"""Raspberry Pi: what only the firmware knows: throttling, the real ARM clock, the chip's temperature.

Read by the sampler from /sys/devices/platform/soc/soc:firmware/get_throttled (hexadecimal and cheap; raspberrypi/linux
#2397), else from `vcgencmd get_throttled`; clock and temperature from `vcgencmd measure_clock arm` and `measure_temp`.
vcgencmd costs a process, so one is asked a second, in turn, and never waited for; its user must be in the group video.
Bits 16-19 say "since boot": one that was set before the first reading says nothing about this trial and is ignored,
one that appears later counts. None on other boards. Output formats: not verified on hardware.
"""
import re
from typing import Dict, List, Optional

from device_agents.seams import Sensor
from device_agents.slow_command import SlowCommand
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
        self._command: Optional[SlowCommand] = None
        self._by_sysfs = False
        self._turn: List[str] = []
        self._bits: Optional[int] = None
        self._last: Dict[str, Optional[float]] = {}

    def read(self, root: str) -> Dict[str, Optional[float]]:
        first = root != self._root
        if first:
            self._open(root)
        if self._command is not None:
            for words in self._turn[:] if first else self._turn[:1]:
                self._exchange(words, wait_s=1.0 if first else 0.0)
        if self._by_sysfs:
            self._note_bits(_hexadecimal(self._files.text(root + _SYSFS, 32)))
        return {metric: self._last.get(metric) for metric in self.metrics}

    def _open(self, root: str) -> None:
        self._root, self._bits, self._last, self._command, self._by_sysfs = root, None, {}, None, False
        if "Raspberry Pi" not in board_model(root):
            return
        self._by_sysfs = self._files.text(root + _SYSFS, 32) is not None
        commands = [SlowCommand(root + program) for program in _PROGRAMS]
        self._command = next((command for command in commands if not command.reason), None)
        self._turn = [words for words in _FORMATS if words != "get_throttled" or not self._by_sysfs]
        self.source = "Raspberry Pi firmware by " + ("sysfs" if self._by_sysfs else "vcgencmd")

    def _exchange(self, words: str, wait_s: float) -> None:
        """Takes the answer to the last question, then asks the next; the very first round is waited for."""
        command = self._command
        assert command is not None
        if command.busy:
            self._take(command.answer())
        if not command.busy and command.ask(words):
            self._turn.append(self._turn.pop(self._turn.index(words)))
            if wait_s:
                self._take(command.answer(wait_s))
        if command.reason:
            self._last = {}                     # no news is not old news

    def _take(self, answer: Optional[str]) -> None:
        for words, form in _FORMATS.items():
            match = form.match(answer or "")
            if match and words == "get_throttled":
                self._note_bits(int(match.group(1), 16))
            elif match and words == "measure_temp":
                self._last["soc_temp_c"] = float(match.group(1))
            elif match:
                self._last["arm_clock_mhz"] = int(match.group(1)) / 1e6

    def _note_bits(self, bits: Optional[int]) -> None:
        if bits is None:
            self._last["throttled"] = None
            return
        before = bits if self._bits is None else self._bits
        self._last["throttled"] = float(bool(bits & _LIVE or bits & ~before & _SINCE_BOOT))
        self._bits = bits


def _hexadecimal(text: Optional[str]) -> Optional[int]:
    try:
        return int(text or "", 16)
    except ValueError:
        return None
