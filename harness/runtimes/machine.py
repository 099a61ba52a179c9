"""What a device's processor, C library and Python are: the facts on which the choice of a runtime rests.

Called by provision.py, before any agent is there. Asks with one shell-free command each; a Python that lacks what an
installation needs (zlib, say) counts as none.
"""
import json
from typing import NamedTuple

from harness.errors import DeviceUnsupported
from harness.seams import Transport

ASK_S = 30.0
OLDEST = (3, 6)
_FACTS = """
import sys
if sys.version_info < (3, 6): sys.exit(9)
import fcntl, hashlib, json, os, platform, struct, zipfile, zlib
try: libc = os.confstr("CS_GNU_LIBC_VERSION")
except (ValueError, OSError, AttributeError): libc = None
print(json.dumps({"version": sys.version_info[:3], "flags": getattr(sys, "abiflags", ""), "libc": libc,
                  "bits": 8 * struct.calcsize("P"), "implementation": sys.implementation.name,
                  "executable": os.path.realpath(sys.executable)}))
"""


class Platform(NamedTuple):
    """`python` is (major, minor) of a CPython, None without a usable one; `glibc` None with another C library."""

    machine: str                                # as uname -m says
    python: tuple[int, int] | None = None
    flags: str = ""                             # sys.abiflags
    bits: int = 64                              # of that Python
    glibc: tuple[int, int] | None = None
    executable: str = ""

    @property
    def version(self) -> str:
        return ".".join(map(str, self.python or ()))

    @property
    def abi(self) -> str:
        """The wheel tag of its Python, e.g. cp36m, cp311."""
        return "cp" + "".join(map(str, self.python or ())) + self.flags


def ask(transport: Transport, python: str) -> Platform:
    """Two commands. Raises DeviceUnreachable."""
    machine = transport.run(["uname", "-m"], ASK_S).stdout.decode("utf-8", "replace").strip() or "unknown"
    try:
        done = transport.run([python, "-I", "-S", "-c", _FACTS], ASK_S)
        told = json.loads(done.stdout) if done.rc == 0 else None
    except (DeviceUnsupported, ValueError):
        told = None
    if not isinstance(told, dict) or told.get("implementation") != "cpython":
        return Platform(machine)
    return Platform(machine, tuple(told["version"][:2]), told["flags"], told["bits"], _glibc(told["libc"]),
                    told["executable"])


def _glibc(said: str | None) -> tuple[int, int] | None:
    """(2, 36) of "glibc 2.36"."""
    words = (said or "").split()
    if len(words) != 2 or words[0] != "glibc":
        return None
    numbers = words[1].split(".")
    return (int(numbers[0]), int(numbers[1])) if len(numbers) >= 2 and numbers[1].isdigit() else None
