"""Debian packages and sources, fetched by apt's own tools without root and without touching the system.

Called by runtimes/aarch64_bundle.py and lab/adbd_build.py. apt gets a configuration of its own (sources, lists, status,
cache), so that nothing of this machine's is read but the mirror's address and Debian's keys, by which apt verifies what
it fetches. Refuses a machine without apt or without those keys, and says what to install.
"""
import contextlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import ConfigError

SUITE = "bookworm"
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE = "EDGEFLEET_DEBIAN_MIRROR"
PROGRAMS = {"apt-get": "apt", "dpkg-deb": "dpkg"}
FETCH_S = 600.0
SILENCE_S = 30                                  # of a mirror, before apt gives up on it


def fetch(packages: Sequence[str], architecture: str, folder: Path, source: str = "",
          etc_apt: Path = Path("/etc/apt")) -> Path:
    """A folder in `folder` with the packages as .deb files, and the files of the source package. Raises ConfigError.

    `architecture` "" is this machine's own.
    """
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        raise ConfigError("Debian's packages are needed, and apt to fetch them; "
                          f"not installed: {', '.join(missing)}. Work from a Debian or Ubuntu machine.")
    if not KEYS.is_file():
        raise ConfigError(f"there is no {KEYS} to verify Debian's packages with; type: "
                          "sudo apt-get install debian-archive-keyring")
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    environment = {**os.environ, "APT_CONFIG": str(_configuration(folder, architecture, mirror(etc_apt), bool(source)))}
    _apt(["update"], downloads, environment)
    if source:
        _apt(["source", "--download-only", source], downloads, environment)
    _apt(["download", *packages], downloads, environment)
    return downloads


def members(package: Path) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Every member of a .deb with its content, None for what is no regular file."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        whole = False
        with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                yield member, file.read() if file is not None else None
            whole = True
    if process.returncode or not whole:
        raise ConfigError(f"{package.name} cannot be unpacked by dpkg-deb; type the same command again")


def mirror(etc_apt: Path) -> str:
    """The address of Debian's main archive: as the user states it, else the one that this machine uses."""
    if stated := os.environ.get(MIRROR_VARIABLE):
        return stated
    listed = [*sorted((etc_apt / "sources.list.d").glob("*.sources")),
              *sorted((etc_apt / "sources.list.d").glob("*.list")), etc_apt / "sources.list"]
    for path in listed:
        text = path.read_text(errors="replace") if path.is_file() else ""
        found = re.search(r"^(?:URIs:|deb\s+(?:\[[^\]]*\])?)\s*(\S+/debian/?)(?=\s|$)", text, re.M)
        if found:
            return found[1]
    raise ConfigError(f"apt on this machine names no mirror of Debian ({etc_apt}/sources.list and sources.list.d); "
                      f"set {MIRROR_VARIABLE} to the address of one, which ends in /debian")


def _configuration(folder: Path, architecture: str, address: str, with_sources: bool) -> Path:
    apt = folder / "apt"
    for name in ("sources", "lists/partial", "cache/archives/partial", "preferences"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources" / "debian.sources").write_text(
        f"Types: deb{' deb-src' if with_sources else ''}\nURIs: {address}\nSuites: {SUITE}\nComponents: main\n"
        f"Signed-By: {KEYS}\n")
    config = apt / "apt.conf"
    foreign = f'APT::Architecture "{architecture}";\nAPT::Architectures "{architecture}";\n' if architecture else ""
    config.write_text(foreign + f'Dir::Etc::sourcelist "{apt}/none.list";\nDir::Etc::sourceparts "{apt}/sources";\n'
                      f'Dir::Etc::preferences "{apt}/none";\nDir::Etc::preferencesparts "{apt}/preferences";\n'
                      f'Dir::State "{apt}";\nDir::State::lists "{apt}/lists";\nDir::State::status "{apt}/status";\n'
                      f'Dir::Cache "{apt}/cache";\nAPT::Sandbox::User "{_user()}";\nAcquire::Languages "none";\n'
                      f'Acquire::Retries "2";\nAcquire::http::Timeout "{SILENCE_S}";\n'
                      f'Acquire::https::Timeout "{SILENCE_S}";\n')
    return config


def _user() -> str:
    """apt as root would else change to a user of its own, who may not write here."""
    return "root" if os.getuid() == 0 else os.environ.get("USER", "")


def _apt(words: Sequence[str], cwd: Path, environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(["apt-get", "-q", *words], cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"apt-get {words[0]} did not end within {FETCH_S:.0f} s; check the network") from None
    text = done.stdout.decode("utf-8", "replace")
    # `update` ends with 0 when it could fetch nothing at all
    failed = [line for line in text.splitlines() if line.startswith(("E:", "W: Failed", "Err:"))]
    if done.returncode or (words[0] == "update" and failed):
        todo = "free some space" if "No space left" in text else "check the network, then type the same command again"
        raise ConfigError(f"apt-get {words[0]} could not fetch Debian's packages: "
                          f"{' / '.join(failed[-2:]) or text.strip()[-300:]}; {todo}")
