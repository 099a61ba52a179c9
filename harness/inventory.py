"""A first fleet.toml from what is attached to this machine and what ~/.ssh/config names. Called by the verb `init`.

Pure but for `ssh_hosts`, which reads the configuration. Proposes, and connects to nothing: which hosts are boards only
a person knows. A phone that is not usable yet is commented out, together with what to do about it. Refuses to guess
about patterns (`Host *`) and about hosts that are logged into as `git`.
"""
import glob
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.cable.adb_program import AdbDevice, trouble
from harness.errors import ConfigError

_WILD = re.compile(r"[*?!]")
_DEPTH = 8                                      # of Include within Include
_HEAD = """\
# Proposed by `edgefleet init`. Delete what is no device, then: edgefleet doctor
# Tags are yours; "board" and "phone" are those that workloads/campaigns/fleet-smoke.toml asks for.
"""


def propose(hosts: Sequence[str], phones: Sequence[AdbDevice], note: str = "") -> str:
    """The text of a fleet.toml that loads. `note` says why phones could not be listed."""
    used: set[str] = set()
    parts = [_HEAD]
    parts += [_stanza(_unique(host, used), 'transport = "ssh"', f"host = {json.dumps(host)}", 'tags = ["board"]')
              for host in hosts]
    serials = [phone.serial for phone in phones]
    for phone in phones:
        serial = phone.serial
        if serials.count(serial) > 1 and "usb" in phone.details:
            serial = f"usb:{phone.details['usb']}"      # two phones may share one
        name = _unique(phone.details.get("model") or f"phone-{phone.serial}", used)
        text = _stanza(name, 'transport = "adb"', f"serial = {json.dumps(serial)}", 'tags = ["phone"]')
        parts.append(text if phone.state == "device" else _commented(phone, text))
    if note:
        parts.append("".join(f"# {line}\n" for line in note.splitlines()))
    host = _stanza("host", 'transport = "local"')
    parts.append("# This machine as a device, too:\n" + _hashed(host) if _counts(parts) else host)
    return "\n".join(parts)


def _counts(parts: Iterable[str]) -> bool:
    """Whether some stanza counts."""
    return any(line.startswith("[devices.") for part in parts for line in part.splitlines())


def ssh_hosts(config: Path) -> list[str]:
    """What its Host lines name, Include followed, patterns left out. [] without a file. Raises ConfigError."""
    found: list[str] = []
    _read(config, config.parent, found, _DEPTH)
    return list(dict.fromkeys(found))


def _read(config: Path, folder: Path, found: list[str], depth: int) -> None:
    if not config.is_file() or depth == 0:
        return
    try:
        lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {config}: {error.strerror}") from None
    block: list[str] = []
    for line in lines:
        key, *words = [word.strip('"') for word in line.replace("=", " ", 1).split()] or [""]
        if key.lower() == "host":
            block = [word for word in words if not _WILD.search(word)]
            found.extend(block)
        elif key.lower() == "match":
            block = []
        elif key.lower() == "user" and words == ["git"]:
            found[:] = [name for name in found if name not in block]
        elif key.lower() == "include":
            for word in words:
                pattern = str(folder / Path(word).expanduser())
                for path in sorted(glob.glob(pattern)):  # noqa: PTH207  an absolute pattern
                    _read(Path(path), folder, found, depth - 1)


def _unique(text: str, used: set[str]) -> str:
    """A name that fleet.toml takes, and that nobody has."""
    base = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_").lower()[:40] or "device"
    name, number = base, 2
    while name in used or name == "host":
        name, number = f"{base}-{number}", number + 1
    used.add(name)
    return name


def _stanza(name: str, *lines: str) -> str:
    return "".join(f"{line}\n" for line in (f"[devices.{name}]", *lines))


def _commented(phone: AdbDevice, text: str) -> str:
    reason = trouble("this phone", phone.serial, f"device {phone.state}") or f"{phone.serial} is {phone.state!r}"
    return _hashed(f"{reason}\n{text}")


def _hashed(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())
