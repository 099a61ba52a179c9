"""Peak memory of this process, as the kernel keeps it (VmHWM of /proc/self/status).

Only /proc/self/clear_refs can set the peak back, and some kernels lack it; a trial is a process of its own, so without
it the peak covers the interpreter's start too, which is smaller than any loaded branch.
"""
from typing import Optional


def reset_peak() -> bool:
    """Make the present size the peak; False where the kernel does not let us."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return True
    except OSError:
        return False


def peak_rss_mb() -> Optional[float]:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024.0
    except (OSError, ValueError, IndexError):
        pass
    return None
