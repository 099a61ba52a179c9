"""Modelled energy: idle power all the time, plus the busy surplus for the share of the cores that the trial uses.

    energy_j = idle_w * t + (busy_w - idle_w) * own_cpu_s / cores

For devices without a meter. idle_w, busy_w (all cores busy) and where they come from are Order.power_model, stated by
device class. The trial's CPU time is real, the joules are not: provenance `modelled`, and they never enter a
comparison, a headline or a verdict. It knows nothing of clocks, voltage, accelerators, memory traffic or co-running
load. Refuses a model without a source.
"""
import os
import time
from typing import Any, Callable, Dict, List, Optional

from device_agents.seams import EnergySource
from device_agents.wire import Measurement


class Modelled(EnergySource):
    """Total: power_w since the last reading and energy_j since the first. `power_model` is set by whoever opens it."""

    scope = "modelled"
    provenance = "modelled"

    def __init__(self, cpu_s: Callable[[], float] = time.process_time, cores: Optional[int] = None) -> None:
        self.power_model: Optional[Dict[str, Any]] = None
        self._cpu_s, self._cores = cpu_s, cores or os.cpu_count() or 1
        self._last_t_ns: Optional[int] = None
        self._last_cpu_s, self._energy_j = 0.0, 0.0

    def available(self, root: str) -> bool:    # noqa: ARG002
        model = self.power_model or {}
        idle_w, busy_w = model.get("idle_w"), model.get("busy_w")
        if not isinstance(idle_w, (int, float)) or not isinstance(busy_w, (int, float)) or not model.get("source"):
            self.reason = "the fleet file states no power model (idle_w, busy_w, source) for this device"
            return False
        if not 0 <= idle_w <= busy_w:
            self.reason = "power model makes no sense: idle_w %g, busy_w %g" % (idle_w, busy_w)
            return False
        self.reason = ""
        return True

    def read(self, root: str, t_ns: int) -> List[Measurement]:
        if not self.available(root):
            return []
        assert self.power_model is not None
        cpu_s, last_t_ns = self._cpu_s(), self._last_t_ns
        last_cpu_s, self._last_t_ns, self._last_cpu_s = self._last_cpu_s, t_ns, cpu_s
        found: List[Measurement] = []
        if last_t_ns is not None and t_ns > last_t_ns:
            idle_w, busy_w, span_s = self.power_model["idle_w"], self.power_model["busy_w"], (t_ns - last_t_ns) / 1e9
            share = min(1.0, max(0.0, (cpu_s - last_cpu_s) / (span_s * self._cores)))
            power_w = idle_w + (busy_w - idle_w) * share
            self._energy_j += power_w * span_s
            found.append(Measurement(t_ns, "power_w", power_w, "W", self._label(), "modelled"))
        found.append(Measurement(t_ns, "energy_j", self._energy_j, "J", self._label(), "modelled"))
        return found

    def _label(self) -> str:
        return "modelled: %s" % (self.power_model or {}).get("source")
