"""What this device is and can do: hardware, sensors with their present values, energy sources, engines, trials.

The verb `probe`; trial_process.py takes the sensors' sources for the journal's first line from here. Reads only. An
engine that is not installed is a reason, not an error; so is one of the user's that cannot be imported. Rates need two
readings: a probe takes a tenth of a second.
"""
import os
import platform
import socket
import sys
import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from device_agents import hardware, identity, registry, trial_folder
from device_agents.clock import BootClock
from device_agents.sampler import open_energy, open_sensors, reading_of
from device_agents.seams import EnergySource, Engine, Sensor, Unsupported
from device_agents.sysfs import is_synthetic

_BETWEEN_READINGS_S = 0.1
_REAL = ("/proc/", "link to ", "emulated: ")    # no fixture is behind them: the kernel's, and what we time ourselves


class Reading(NamedTuple):
    """`source`: where the value comes from, for people; `sensor`: its plug-in's name."""
    value: Optional[float]
    source: str
    sensor: str


def facts(home: str, root: str, plugin_dirs: Iterable[str] = ()) -> Dict[str, Any]:
    """`root` = prefix of /proc and /sys; engines of `plugin_dirs` are asked, too. JSON; None = not known here."""
    sensors = open_sensors()
    read_all(sensors, root)
    time.sleep(_BETWEEN_READINGS_S)
    readings = read_all(sensors, root)
    found = identity.fingerprint(root)
    found.update(
        hostname=socket.gethostname(), boot_id=identity.boot_id(root), agent=identity.agent_sha256(),
        executable=sys.executable, mem_total_mb=_mem_total_mb(root), disk_free_mb=_disk_free_mb(home),
        platform=platform.platform(),
        sensors={metric: {"value": one.value, "source": one.source} for metric, one in sorted(readings.items())},
        hardware=hardware.facts(root), energy=energy_facts(open_energy(root, None)),
        engines=_engines(list(plugin_dirs)), trials=trial_folder.trials(home))
    found.update(wall_ns=int(time.time() * 1e9), t_ns=BootClock().now_ns())     # last: engines import for seconds
    return found


def read_all(sensors: Dict[str, Sensor], root: str) -> Dict[str, Reading]:
    """Every declared metric as it is now. The first sensor that has a value is believed.

    On a device whose /sys is made up, sources of it begin with "synthetic: ", which the database turns into provenance.
    """
    found: Dict[str, Reading] = {}
    synthetic = is_synthetic(root)
    for name, sensor in sensors.items():
        try:
            reading = reading_of(sensor.read(root))
        except Exception:                       # a user's sensor: the sampler switches it off, with a note
            continue
        made_up = "synthetic: " if synthetic and not sensor.source.startswith(_REAL) else ""
        for metric, value in reading.items():
            if metric not in found or (found[metric].value is None and value is not None):
                found[metric] = Reading(value, made_up + (sensor.source or name), name)
    return found


def energy_facts(sources: Dict[str, EnergySource]) -> Dict[str, Dict[str, str]]:
    return {name: {"scope": source.scope, "provenance": source.provenance} for name, source in sources.items()}


def _engines(plugin_dirs: List[str]) -> Dict[str, Dict[str, Optional[str]]]:
    found: Dict[str, Dict[str, Optional[str]]] = {}
    for name in registry.names("device_agents.engines", plugin_dirs):
        try:
            runtime = registry.load("device_agents.engines", name, Engine, plugin_dirs).runtime()
            found[name] = {"runtime": runtime, "reason": None}
        except Unsupported as error:
            found[name] = {"runtime": None, "reason": str(error)}
        except Exception as error:              # a broken installation must not hide the other facts
            found[name] = {"runtime": None, "reason": "%s: %s" % (type(error).__name__, error)}
    return found


def _mem_total_mb(root: str) -> Optional[float]:
    line = identity.read_text(root + "/proc/meminfo") or ""
    words = line.split()
    return int(words[1]) / 1024.0 if len(words) >= 2 and words[0] == "MemTotal:" and words[1].isdigit() else None


def _disk_free_mb(home: str) -> Optional[float]:
    path = os.path.abspath(home)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize / 2.0 ** 20
