"""What this device is, for people: model, SoC and system, clocks and governors, and what only root may read.

Called by probe.py. Reads small files; on Android `getprop` is asked, once. Nothing here enters a trial: what of it may
change a result is in identity.fingerprint. What is not known is None or left out. Jetson's power mode and DMI from the
vendors' documents; not verified on boards.
"""
import os
import re
import shutil
import subprocess
from typing import Any, Dict, List, Optional

from device_agents.identity import read_text
from device_agents.sysfs import Files, board_model, find

_GETPROP_S = 5.0


def facts(root: str) -> Dict[str, Any]:
    """Everything is JSON."""
    android, dmi = _properties(), root + "/sys/class/dmi/id/"
    release = android.get("ro.build.version.release")
    return {
        "model": board_model(root) or _words(android.get("ro.product.manufacturer"), android.get("ro.product.model"))
        or _words(read_text(dmi + "sys_vendor"), read_text(dmi + "product_name")),
        "soc": android.get("ro.soc.model") or android.get("ro.board.platform"),
        "system": "Android " + release if release else _release(root),
        "clocks": _clocks(root), "governors": _governors(root),
        "power_mode": read_text(root + "/var/lib/nvpmodel/status"),
        "shut": [path[len(root):] for path in find(root, "/sys/class/powercap/intel-rapl:*/energy_uj")
                 if read_text(path) is None],
    }


def _clocks(root: str) -> List[Dict[str, Any]]:
    """One entry a cluster of cores that share a clock."""
    files, found = Files(), []
    for policy in find(root, "/sys/devices/system/cpu/cpufreq/policy*"):
        limits = {name: files.number("%s/%s_freq" % (policy, key)) for name, key in
                  (("min_mhz", "scaling_min"), ("max_mhz", "scaling_max"), ("limit_mhz", "cpuinfo_max"))}
        entry = {name: None if value is None else value / 1000.0
                 for name, value in limits.items()}  # type: Dict[str, Any]
        entry.update(policy=os.path.basename(policy), cpus=files.text(policy + "/related_cpus"),
                     governor=files.text(policy + "/scaling_governor"))
        found.append(entry)
    return found


def _governors(root: str) -> List[str]:
    """Those that may be chosen."""
    listed = [read_text(path) or "" for path in
              find(root, "/sys/devices/system/cpu/cpufreq/policy*/scaling_available_governors")]
    return sorted({word for line in listed for word in line.split()})


def _properties() -> Dict[str, str]:
    """Android's, {} elsewhere."""
    program = shutil.which("getprop")
    if program is None:
        return {}
    try:
        done = subprocess.run([program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              timeout=_GETPROP_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(re.findall(r"^\[([^\]]+)\]: \[([^\]]+)\]", done.stdout.decode("utf-8", "replace"), re.M))


def _words(*parts: Optional[str]) -> Optional[str]:
    return " ".join(part for part in parts if part) or None


def _release(root: str) -> Optional[str]:
    text = Files().text(root + "/etc/os-release") or Files().text(root + "/usr/lib/os-release") or ""
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', text, re.M)
    return found.group(1) if found else None
