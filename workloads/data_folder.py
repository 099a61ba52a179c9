"""Where data sets lie on this machine: $EDGEFLEET_DATA, in the layout that their authors publish.

Called by tasks. A missing variable, folder or file is a UserError that says what to set or fetch; nothing is
downloaded here.
"""
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from device_agents.seams import UserError

VARIABLE = "EDGEFLEET_DATA"


def published_folder(task: str, name: str, where: str) -> Path:
    """$EDGEFLEET_DATA/<name>. `where` says in a few words how to get it. Raises UserError."""
    root = os.environ.get(VARIABLE)
    if not root:
        raise UserError(f"task {task} needs its data: set {VARIABLE} to the folder that holds {name!r} ({where})")
    path = Path(root).expanduser() / name
    if not path.is_dir():
        raise UserError(f"task {task}: there is no folder {path} ({VARIABLE}={root}); {where}")
    return path


def present(task: str, folder: Path, names: Iterable[str]) -> list[Path]:
    """The named files below `folder`. Raises UserError listing what is missing."""
    paths = [folder / name for name in names]
    missing = [str(path.relative_to(folder)) for path in paths if not path.is_file()]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise UserError(f"task {task}: {folder} is incomplete: {shown}; lay the data set out again")
    return paths


def content_digest(paths: Iterable[Path]) -> str:
    """sha256 over names and contents, in the order of names."""
    total = sha256()
    for path in sorted(paths, key=lambda one: one.name):
        total.update(path.name.encode("utf-8") + b"\0" + sha256(path.read_bytes()).digest())
    return total.hexdigest()
