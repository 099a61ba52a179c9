"""Raspberry Pi 5: volts and amperes of the power chip's twelve rails, by `vcgencmd pmic_read_adc`.

Read by the sampler once a second, because each reading is a process of about 10 ms (at 50 Hz it slowed the workload
itself); it is never waited for, and what it costs is reported beside it. The total is the sum of V*A of all rails:
less than what the board draws, because the 5 V input has no current sensor and USB and HAT are not behind these
rails. `estimate_board_power_w` applies a correction in common use (1.1451 * sum + 0.5879 W) and is `modelled`. Not on
a Pi 3 or 4. Its user must be in the group video. Output format and correction: not verified on hardware.
"""
import re
from typing import Dict, List, Optional

from device_agents.seams import EnergySource
from device_agents.slow_command import SlowCommand
from device_agents.wire import Measurement

_PROGRAMS = ("/usr/bin/vcgencmd", "/opt/vc/bin/vcgencmd")
_LINE = re.compile(r"^\s*(\S+)_([AV])\s+(?:current|volt)\((\d+)\)=([0-9.]+)[AV]\s*$")


class PiPmic(EnergySource):
    """Total: power_w. Parts: <rail>_power_w, estimate_board_power_w. sample_cost_ms: CPU time of one reading."""

    scope = "board"
    period_s = 1.0

    def __init__(self) -> None:
        self._root: Optional[str] = None
        self._command: Optional[SlowCommand] = None
        self._first: Optional[str] = None

    def available(self, root: str) -> bool:
        """Asks once and waits for the answer, up to 2 s: called before the window only."""
        if root == self._root:
            return not self.reason
        self._root, self._command, self._first = root, None, None
        commands = [SlowCommand(root + program) for program in _PROGRAMS]
        command = next((command for command in commands if not command.reason), None)
        if command is None:
            self.reason = "no vcgencmd (a Raspberry Pi has one)"
            return False
        command.ask("pmic_read_adc")
        self._first = command.answer(wait_s=2.0)
        self.reason = "" if rails_w(self._first) else (
            command.reason or "vcgencmd pmic_read_adc gives no rails (a Pi 5 does; is the user in the group video?)")
        self._command = command if not self.reason else None
        return not self.reason

    def read(self, root: str, t_ns: int) -> List[Measurement]:
        """The newest answer, which may be one period old; asks for the next."""
        if not self.available(root) or self._command is None:
            return []
        answer, self._first = self._first or self._command.answer(), None
        self._command.ask("pmic_read_adc")
        if self._command.reason:
            self.reason = self._command.reason
        rails = rails_w(answer)
        if not rails:
            return []
        total_w, cost_ms = sum(rails.values()), self._command.cost_ms()
        source = "PMIC, sum of %d rails" % len(rails)
        found = [Measurement(t_ns, name + "_power_w", rails[name], "W", source, self.provenance)
                 for name in sorted(rails)]
        found.append(Measurement(t_ns, "power_w", total_w, "W", source, self.provenance))
        found.append(Measurement(t_ns, "estimate_board_power_w", 1.1451 * total_w + 0.5879, "W",
                                 "1.1451 * rails + 0.5879 W", "modelled"))
        if cost_ms is not None:
            found.append(Measurement(t_ns, "sample_cost_ms", cost_ms, "ms", "vcgencmd", self.provenance))
        return found


def rails_w(text: Optional[str]) -> Dict[str, float]:
    """W by rail, of the rails that have both a current and a voltage. Lines of another form are left out."""
    volts: Dict[str, float] = {}
    amperes: Dict[str, float] = {}
    for line in (text or "").splitlines():
        match = _LINE.match(line)
        if match and match.group(4).count(".") <= 1 and match.group(4) != ".":
            (volts if match.group(2) == "V" else amperes)[match.group(1).lower()] = float(match.group(4))
    return {name: volts[name] * amperes[name] for name in amperes if name in volts}
