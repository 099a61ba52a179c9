"""GPU load and clock of a Jetson.

Read by the sampler from /sys/class/devfreq (Nano 57000000.gpu, TX2 gp10b, Xavier gv11b, Orin ga10b): `device/load` in
0.1 %, `cur_freq` in Hz. None elsewhere. Refuses to split the load into own and co-running: the file does not say
whose it is. Paths as jetson_stats documents them; not verified on hardware.
"""
from typing import Dict, Optional

from device_agents.seams import Sensor
from device_agents.sysfs import Files, find

_NAMES = ("gpu", "gp10b", "gv11b", "ga10b")


class GpuJetson(Sensor):
    """gpu_pct 0..100, gpu_freq_mhz."""

    metrics = ("gpu_pct", "gpu_freq_mhz")
    source = "/sys/class/devfreq"

    def __init__(self) -> None:
        self._files = Files()
        self._root: Optional[str] = None
        self._folder = ""

    def read(self, root: str) -> Dict[str, Optional[float]]:
        if root != self._root:
            self._root = root
            folders = [folder for folder in find(root, "/sys/class/devfreq/*")
                       if any(name in folder.rpartition("/")[2].lower() for name in _NAMES)
                       and self._files.text(folder + "/device/load") is not None]
            self._folder = folders[0] if folders else ""
            self.source = folders[0][len(root):] if folders else "/sys/class/devfreq"
        if not self._folder:
            return dict.fromkeys(self.metrics)
        permille, hz = self._files.number(self._folder + "/device/load"), self._files.number(self._folder + "/cur_freq")
        return {"gpu_pct": permille / 10.0 if permille is not None and 0 <= permille <= 1000 else None,
                "gpu_freq_mhz": hz / 1e6 if hz is not None and 0 <= hz <= 1e10 else None}
