"""Packs device_agents/ into agent.pyz, the one file that a device needs besides its Python. Called by device.py.

The archive is a function of the sources alone: sorted names, one fixed date and mode. Any folder and umask give the
same bytes, so a device that has a version never gets it twice. It refuses anything but .py files: a .pyc would tie
the agent to the controller's Python, while the agent runs on whatever the device has.
"""
import hashlib
import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import device_agents

_SOURCES = Path(device_agents.__file__).parent
_TOO_OLD = b"""import sys

if sys.version_info < (3, 6):                   # in any Python's syntax: the rest would be a SyntaxError there
    sys.stderr.write("edgefleet agent: needs Python >= 3.6, and this is %d.%d\\n" % tuple(sys.version_info[:2]))
    sys.exit(3)
"""
_MAIN = _TOO_OLD + b"\nfrom device_agents.__main__ import main\n\nsys.exit(main())\n"
_OLDEST_DATE = (1980, 1, 1, 0, 0, 0)            # the zip format has no earlier one
_UNIX = 3
_MODE = 0o100644 << 16


class AgentZip(NamedTuple):
    """`path` is agent-<first 12 of sha256>.pyz; the device uses the same name, so two versions never collide."""

    path: Path
    sha256: str


def build_agent(cache: Path) -> AgentZip:
    """Pack the agent into `cache` (made if absent) and return it; an identical file there is left alone.

    Packing takes milliseconds, so the file's content is compared, not its date: a damaged cache heals itself.
    """
    data = pack(_SOURCES)
    sha256 = hashlib.sha256(data).hexdigest()
    path = cache / f"agent-{sha256[:12]}.pyz"
    if not (path.is_file() and path.read_bytes() == data):
        cache.mkdir(parents=True, exist_ok=True)
        _write_whole(path, data)
    return AgentZip(path, sha256)


def pack(sources: Path) -> bytes:
    """The bytes of a zipapp of the package in `sources`: its .py files under their package's name, and a __main__."""
    files = {
        f"{sources.name}/{path.relative_to(sources).as_posix()}": path.read_bytes() for path in sources.rglob("*.py")
    }
    files["__main__.py"] = _MAIN
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _OLDEST_DATE)
            entry.create_system = _UNIX
            entry.external_attr = _MODE
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def _write_whole(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(name).replace(path)
