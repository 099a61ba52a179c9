"""Who runs where: the agent's own sha256, the device's boot id and the environment fingerprint of a trial.

Called for the journal's first line, for probe and by the warm parent, which must not serve another agent's trials.
Reads only files that every Linux has; what is missing is None.
"""
import hashlib
import os
import platform
import sys
from typing import Any, Dict, Optional

import device_agents


def agent_sha256() -> str:
    """Of agent.pyz, or of the sources when the agent runs from a source tree."""
    here = os.path.dirname(os.path.abspath(device_agents.__file__))     # not ours: that may be the unpacked copy's
    archive = os.path.dirname(here)
    if os.path.isfile(archive):
        with open(archive, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    digest = hashlib.sha256()
    for folder, _, files in sorted(os.walk(here)):
        for name in sorted(files):
            if name.endswith(".py"):
                with open(os.path.join(folder, name), "rb") as file:
                    digest.update(name.encode("utf-8") + b"\\0" + file.read())
    return digest.hexdigest()


def boot_id(root: str = "") -> Optional[str]:
    return read_text(root + "/proc/sys/kernel/random/boot_id")


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) or 1


def fingerprint(root: str = "") -> Dict[str, Any]:
    """What of the environment may change a result, and is the same for all trials until somebody changes it."""
    return {
        "kernel": platform.release(), "machine": platform.machine(), "cores": cores(), "uid": os.getuid(),
        "governor": read_text(root + "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "board": read_text(root + "/sys/firmware/devicetree/base/model"),
        "python": "%d.%d.%d" % sys.version_info[:3],
    }


def read_text(path: str) -> Optional[str]:
    """First line of a small file, without trailing NULs; None when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip().rstrip("\0") or None
    except OSError:
        return None
