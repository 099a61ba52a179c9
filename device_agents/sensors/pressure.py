"""Pressure stall information: the share of time in which something waited for CPU, memory or I/O.

Read by the sampler from /proc/pressure/{cpu,memory,io} (kernel 4.20 and later, and only where it was built in; a
stock Jetson Nano's 4.9 has none, so every metric is None there). The percentages are the kernel's own 10-second
means; the counters are exact and let any span be computed afterwards. Refuses nothing: the trial itself is included.
"""
from typing import Dict, Optional

from device_agents.seams import Sensor
from device_agents.sysfs import Files, number_of

_RESOURCES = ("cpu", "memory", "io")


class Pressure(Sensor):
    """psi_X_pct: mean of the last 10 s in which some task waited for X. psi_X_us: the same, counted since boot."""

    metrics = tuple("psi_%s_%s" % (resource, kind) for resource in _RESOURCES for kind in ("pct", "us"))
    source = "/proc/pressure (some)"
    period_s = 1.0

    def __init__(self) -> None:
        self._files = Files()

    def read(self, root: str) -> Dict[str, Optional[float]]:
        reading: Dict[str, Optional[float]] = {}
        for resource in _RESOURCES:
            fields = _some(self._files.text(root + "/proc/pressure/" + resource, 256) or "")
            reading["psi_%s_pct" % resource] = fields.get("avg10")
            reading["psi_%s_us" % resource] = fields.get("total")
        return reading


def _some(text: str) -> Dict[str, Optional[float]]:
    """{"avg10": %, ..., "total": us} of 'some avg10=0.00 avg60=0.00 avg300=0.00 total=0'."""
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == "some":
            pairs = [word.partition("=") for word in words[1:]]
            return {name: number_of(value) for name, _, value in pairs}
    return {}
