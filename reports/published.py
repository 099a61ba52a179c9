"""Free text of errors as a report may print it: without a user's paths, logins and the addresses of devices.

Called by Query for the reasons of trials and by the page for the campaign's own paths: reports are published, and two
checkouts of one campaign must give the same bytes.
"""
import posixpath
import re
from collections.abc import Iterable
from typing import Any

_KERNEL = r"(?!/(?:proc|sys|dev)/)"                         # the same on every machine, and worth telling
_PATH = re.compile(rf"(?<![\w/.])(?:~[\w.-]*)?{_KERNEL}/(?:[^\s/:;,'\"()\[\]]+/)+([^\s/:;,'\"()\[\]]*)")
_LOGIN = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)")
_HOMES = ("/home", "/Users")                               # what lies in them is named like its user
_NAMING = ("host", "address", "hostname", "serial")


def addresses(*documents: Any) -> set[str]:
    """Every name of a machine that a fleet or a probe states, at any depth."""
    found: set[str] = set()
    for document in documents:
        if isinstance(document, dict):
            found |= {value for key, value in document.items() if key in _NAMING and isinstance(value, str) and value}
            found |= addresses(*document.values())
    return found


def published(text: str, hosts: Iterable[str] = ()) -> str:
    """`text` with file names for paths, and with words for logins, IPv4 addresses and `hosts`."""
    text = _LOGIN.sub("(login)", _PATH.sub(_file, text))
    for host in sorted(hosts, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-]|\.\w)", "(address)", text)
    return _IPV4.sub("(address)", text)


def _file(path: re.Match[str]) -> str:
    return "(folder)" if not path[1] or posixpath.dirname(path[0]) in _HOMES else path[1]
