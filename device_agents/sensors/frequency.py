"""CPU clock from cpufreq, of the fastest cluster and of each.

Read by the sampler from /sys/devices/system/cpu. On a Raspberry Pi and on some Amlogic and Allwinner boards the value
is the clock that was *asked for*: the firmware throttles behind the kernel's back (raspberrypi/linux#2986), so
the source says "requested", and such a value alone never supports "not throttled". None where there is no cpufreq
(virtual machines, containers). Refuses to average clusters: a mean of a big and a little core is no clock at all.
"""
from typing import Dict, List, Optional, Tuple

from device_agents.seams import Sensor
from device_agents.sysfs import Files, board_model, find

_FIRMWARE_THROTTLES = ("raspberry pi", "amlogic", "allwinner")


class Frequency(Sensor):
    """freq_mhz, freq_max_mhz: MHz of the cluster with the highest maximum now allowed; clusterN_freq_mhz where > 1."""

    metrics = ("freq_mhz", "freq_max_mhz")
    source = "cpufreq scaling_cur_freq"
    period_s = 0.2

    def __init__(self) -> None:
        self._files = Files()
        self._root: Optional[str] = None
        self._clusters: List[Tuple[float, str]] = []

    def read(self, root: str) -> Dict[str, Optional[float]]:
        if root != self._root:
            self._root = root
            self._clusters = self._discover(root)
            board = board_model(root).lower()
            if any(name in board for name in _FIRMWARE_THROTTLES):
                self.source = "cpufreq scaling_cur_freq (requested, not what the firmware grants)"
        reading: Dict[str, Optional[float]] = {"freq_mhz": None, "freq_max_mhz": None}
        if not self._clusters:
            return reading
        fastest = max(range(len(self._clusters)), key=lambda index: self._clusters[index][0])
        for index, (_, folder) in enumerate(self._clusters):
            now = _mhz(self._files.number(folder + "/scaling_cur_freq"))
            if index == fastest:
                reading["freq_mhz"] = now
                reading["freq_max_mhz"] = _mhz(self._files.number(folder + "/scaling_max_freq"))
            if len(self._clusters) > 1:
                reading["cluster%d_freq_mhz" % index] = now
        return reading

    def _discover(self, root: str) -> List[Tuple[float, str]]:
        """(hardware maximum in kHz, folder) of every cluster, in order of its first core."""
        folders = (find(root, "/sys/devices/system/cpu/cpufreq/policy*")
                   or self._one_per_cluster(find(root, "/sys/devices/system/cpu/cpu[0-9]*/cpufreq")))
        return [(self._files.number(folder + "/cpuinfo_max_freq") or 0.0, folder) for folder in folders]

    def _one_per_cluster(self, folders: List[str]) -> List[str]:
        """Before kernel 4.3 each core has its own folder; cores that change together name each other."""
        kept: Dict[str, str] = {}
        for folder in folders:
            related = self._files.text(folder + "/related_cpus") or folder
            kept.setdefault(related, folder)
        return list(kept.values())


def _mhz(khz: Optional[float]) -> Optional[float]:
    """kHz to MHz; None for what no core runs at (0, or above 20 GHz)."""
    return khz / 1000.0 if khz is not None and 1000 <= khz <= 20e6 else None
