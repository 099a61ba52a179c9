"""The folder that a lab lives in: what may become one, and how it goes.

Called by lab.py alone. `down` deletes the folder with all that is in it, so `claim` refuses one that holds something
already. `remove` refuses while anything is mounted below, and deletes the state file, without which nobody finds the
lab again, last.
"""
import os
import shutil
from pathlib import Path

import psutil

from harness.errors import ConfigError


def claim(folder: Path) -> None:
    """Make the folder, or take an empty one. Raises ConfigError, having changed nothing."""
    todo = "name one that does not exist yet: edgefleet lab up --folder DIR"
    if os.path.lexists(folder) and not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; {todo}")
    if folder.is_dir() and (any(folder.iterdir()) or _mounted(folder.resolve())):
        raise ConfigError(f"{folder} is not empty or is a mount point, and `lab down` deletes it with all "
                          f"that is in it; {todo}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def remove(folder: Path, last: str) -> None:
    """Delete the folder, its file `last` after everything else. Raises ConfigError while that cannot be done."""
    mounted = _mounted(folder)
    if mounted:
        raise ConfigError(f"the lab's processes have ended, but {', '.join(mounted)} is still mounted, and nothing is "
                          "deleted through a mount: leave that folder or umount it, then again: edgefleet lab down")
    try:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != last:
                path.unlink()
        (folder / last).unlink()
        folder.rmdir()
    except OSError as error:
        raise ConfigError(f"the lab's processes have ended, but {error.filename} cannot be deleted "
                          f"({error.strerror}); mend that, then again: edgefleet lab down") from None


def _mounted(folder: Path) -> list[str]:
    """Mount points at or below an absolute path."""
    points = [one.mountpoint for one in psutil.disk_partitions(all=True)]
    return sorted({point for point in points if Path(point).is_relative_to(folder)})
