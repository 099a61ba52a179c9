"""RAPL: the energy counters of Intel and AMD processors.

Read by the sampler from /sys/class/powercap/intel-rapl:*/energy_uj. The total is the sum of the packages, or of their
dies where the kernel counts by die (package-0-die-0). core, uncore and dram are reported as parts and psys (the
platform, which contains the package) apart; none is added. Counters wrap at max_energy_range_uj, which is undone here
as long as no more than one wrap lies between two readings. Since kernel 5.10 only root may read them: then this source
is not available, and `reason` says what would change it. Not verified on hardware.
"""
from typing import Dict, List, NamedTuple, Optional, Set

from device_agents.seams import EnergySource
from device_agents.sysfs import Files, find
from device_agents.wire import Measurement


class Zone(NamedTuple):
    """`is_package`: it is a package, or one of a package's dies where each has a zone of its own."""
    name: str
    folder: str
    is_package: bool


class Rapl(EnergySource):
    """Total: energy_j of all packages since the first reading. Parts: <zone>_energy_j, e.g. package_0_core_energy_j."""

    scope = "soc"

    def __init__(self) -> None:
        self._files = Files()
        self._root: Optional[str] = None
        self._zones: List[Zone] = []
        self._last_uj: Dict[str, float] = {}
        self._sum_uj: Dict[str, float] = {}
        self._lost: Set[str] = set()            # zones that went back: what they used meanwhile nobody knows

    def available(self, root: str) -> bool:
        self._open(root)
        packages = [zone.folder for zone in self._zones if zone.is_package]
        if not packages:
            self.reason = "no /sys/class/powercap/intel-rapl:* package (no RAPL, or a virtual machine)"
        elif any(self._files.number(folder + "/energy_uj") is None for folder in packages):
            self.reason = ("%s/energy_uj may not be read; as root: chmod o+r /sys/class/powercap/intel-rapl*/energy_uj"
                           % packages[0][len(root):])
        else:
            self.reason = ""
        return not self.reason

    def read(self, root: str, t_ns: int) -> List[Measurement]:
        self._open(root)
        found: List[Measurement] = []
        total_uj: Optional[float] = 0.0
        for zone in self._zones:
            counted_uj = self._count(zone.folder)
            if zone.is_package:
                total_uj = None if counted_uj is None or total_uj is None else total_uj + counted_uj
            if counted_uj is not None:
                found.append(self._joules(t_ns, zone.name + "_energy_j", counted_uj))
        if self._zones:
            found.append(self._joules(t_ns, "energy_j", total_uj))
        return found

    def _joules(self, t_ns: int, metric: str, value_uj: Optional[float]) -> Measurement:
        value_j = None if value_uj is None else value_uj * 1e-6
        return Measurement(t_ns, metric, value_j, "J", "rapl", self.provenance)

    def _count(self, folder: str) -> Optional[float]:
        """uJ since the first reading of this zone; None when it cannot be read now or went back inexplicably."""
        now_uj = self._files.number(folder + "/energy_uj")
        if now_uj is None or now_uj < 0:
            return None
        delta_uj = now_uj - self._last_uj.get(folder, now_uj)
        if delta_uj < 0:
            # A counter that the machine's sleep has set to zero looks like one that wrapped, but for the energy:
            # between two readings a wrap takes a small part of the range (some 262 kJ), and a reset anything.
            range_uj = self._files.number(folder + "/max_energy_range_uj") or 0.0
            delta_uj += range_uj
            if not 0 <= delta_uj < range_uj / 2:
                self._lost.add(folder)
                self.reason = "%s went back, and not by a wrap" % folder
        if folder in self._lost:
            return None
        self._last_uj[folder] = now_uj
        self._sum_uj[folder] = self._sum_uj.get(folder, 0.0) + delta_uj
        return self._sum_uj[folder]

    def _open(self, root: str) -> None:
        """Zones by a name that is a metric's prefix: package_0, package_0_core, psys. intel-rapl-mmio repeats them."""
        if root == self._root:
            return
        self._root, self._zones = root, []
        for folder in find(root, "/sys/class/powercap/intel-rapl:*"):
            name = self._name(folder)
            parts = folder.rpartition("/")[2].split(":")
            if len(parts) == 3:
                name = self._name(folder.rpartition(":")[0]) + "_" + name
            if name.strip("_"):
                self._zones.append(Zone(name, folder, len(parts) == 2 and name.startswith("package")))

    def _name(self, folder: str) -> str:
        return (self._files.text(folder + "/name") or "").lower().replace("-", "_")
