"""Where state lives: $EDGEFLEET_HOME, or the nearest .edgefleet/ upwards. One object that names every path in it.

Called by every CLI verb and by the runner. `find_home` never creates anything; `make_home` does, for `run` and `build`.
"""
import os
from pathlib import Path

from harness.errors import ConfigError

FOLDER = ".edgefleet"
VARIABLE = "EDGEFLEET_HOME"
FOLDERS = ("journals", "bundles", "reports", "devices", "cache", "leases")


class Home:
    """The paths under one home folder. Existence is not promised: a reader checks, a writer calls `make_home`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results.sqlite"
        self.journals, self.bundles, self.reports, self.devices, self.cache, self.leases = (
            path / name for name in FOLDERS)

    def __str__(self) -> str:
        return str(self.path)

    def has_results(self) -> bool:
        """Whether there is a database to read; a disk that filled up while it was made leaves an empty file."""
        return self.results.is_file() and self.results.stat().st_size > 0

    def device(self, name: str) -> Path:
        """Folder of a local device, or what the controller keeps about a remote one."""
        return self.devices / name


def find_home(start: Path) -> Path | None:
    """$EDGEFLEET_HOME when set (it need not exist yet), else the nearest .edgefleet/ at or above `start`, else None."""
    stated = os.environ.get(VARIABLE)
    if stated:
        return Path(stated).expanduser().absolute()
    start = start.absolute()
    return next((folder / FOLDER for folder in (start, *start.parents) if (folder / FOLDER).is_dir()), None)


def make_home(start: Path) -> Path:
    """The home, created with its folders (0700) when it is not there. Raises ConfigError when that is impossible."""
    path = find_home(start) or start.absolute() / FOLDER
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in FOLDERS:
            (path / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the home folder {path}: {error.strerror}. "
                          f"Set {VARIABLE} to a folder that you may write.") from None
    return path
