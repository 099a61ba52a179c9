"""Reads the small files of /proc and /sys: opened once, then one `pread` a reading, because a sampler reads them often.

Called by sensors/ and energy/. A file that is missing, refused or broken is `None`, never an exception: on most
devices most of these files are absent. Paths carry the caller's root prefix already. Refuses to guess: no units,
no scaling, no plausibility; the sensor that knows its format decides those.
"""
import glob
import os
from typing import Dict, List, Optional

#: A file that says: every sensor of this device is a fixture. The virtual lab's devices have it (harness/lab/board.py).
SYNTHETIC = "/sys/edgefleet-synthetic"


def is_synthetic(root: str) -> bool:
    """Whether what /sys shows here was made up."""
    return os.path.exists(root + SYNTHETIC)


class Files:
    """Descriptors of small files, cached by path. Not shared between threads."""

    def __init__(self) -> None:
        self._descriptors: Dict[str, int] = {}

    def text(self, path: str, size: int = 4096) -> Optional[str]:
        """The first `size` bytes, stripped; None when it cannot be read now. What failed is opened anew next time."""
        descriptor = self._descriptors.get(path)
        try:
            if descriptor is None:
                descriptor = self._descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(descriptor, size, 0).decode("utf-8", "replace").strip("\0 \t\r\n")
        except OSError:
            self.forget(path)
            return None

    def number(self, path: str) -> Optional[float]:
        """The file's number, None also for garbage, nan and infinity."""
        return number_of(self.text(path, 64))

    def forget(self, path: str) -> None:
        """Closes one file, if it is open."""
        descriptor = self._descriptors.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        for path in list(self._descriptors):
            self.forget(path)

    def __del__(self) -> None:
        try:
            self.close()
        except (OSError, TypeError):            # TypeError: the interpreter is half gone
            pass


def number_of(text: Optional[str]) -> Optional[float]:
    """A finite decimal number, else None. Stricter than float(): no "nan", "inf" or "1_000"."""
    if not text or not (text[-1].isdigit() or text[-1] == ".") or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e300 else None


def find(root: str, pattern: str) -> List[str]:
    """Sorted paths that match `pattern` below `root`; the root itself may hold special characters."""
    return sorted(glob.glob(glob.escape(root) + pattern), key=_natural)


def board_model(root: str) -> str:
    """The device tree's model, e.g. "Raspberry Pi 5 Model B Rev 1.0"; '' where there is no device tree."""
    files = Files()
    for path in ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model"):
        text = files.text(root + path)
        if text:
            return text
    return ""


def _natural(path: str) -> List[str]:
    """Order in which thermal_zone10 comes after thermal_zone9."""
    parts = [""]
    for character in path:
        if character.isdigit() == parts[-1][-1:].isdigit():
            parts[-1] += character
        else:
            parts.append(character)
    return [part.zfill(8) if part.isdigit() else part for part in parts]
