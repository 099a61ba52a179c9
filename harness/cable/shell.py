"""argv -> one line for a device's shell, quoted in this one place. Called by the transports ssh and adb.

A word that begins with "~/" lies in the login's home. The line ends in its own exit status, also when the command was
killed (128 + signal), so that "no exit status" can only mean a lost connection. Refuses nothing but a nameless command:
every other word travels as it is. The login shell must be a POSIX one (not csh, not fish).
"""
import re
import shlex
from collections.abc import Mapping, Sequence

from harness.errors import ConfigError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def word(text: str) -> str:
    """One quoted word; "~/x" becomes "$HOME"/x."""
    if text == "~":
        return '"$HOME"'
    if text.startswith("~/"):
        return '"$HOME"/' + shlex.quote(text[2:])
    return shlex.quote(text)


def line(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """The whole command. Raises ConfigError for a variable's name that no shell takes."""
    if not argv:
        raise ValueError("an empty command")
    for name in environment:
        if not _VARIABLE.match(name):
            raise ConfigError(f"{name!r} in `env` of fleet.toml is no variable name: letters, digits and '_' only")
    words = [f"{name}={shlex.quote(value)}" for name, value in environment.items()] + [word(one) for one in argv]
    return " ".join(words) + "; exit $?"
