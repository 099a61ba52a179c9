"""Files as one stream to a device, and the command over there that makes files of it again.

Called by shell_device.py. `with_python` feeds receive.py, which keeps what was complete before a cut; `with_tar` serves
a device without a Python (the one that is about to be given one), all files or none; `with_cat` takes one file, and a
trial's order is one, without starting a Python. Refuses names that a stream cannot carry and files that shrink on the
way.
"""
import posixpath
import secrets
import tarfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.cable import receive, shell
from harness.errors import ConfigError, DeviceError, DeviceNotReady, DeviceUnreachable, DeviceUnsupported

BLOCK_B = 1 << 18
LOOK_FIRST_B = 1 << 20                          # a smaller file finds room, or says so itself
_LAST = "last"                                  # a tar's last member: without it the tar was cut

Files = Sequence[tuple[Path, str]]


class Stream(NamedTuple):
    """`command` is a shell line for the device; `size_b` is the payload, without names and padding."""

    command: str
    size_b: int
    files: Files
    tag: str

    @classmethod
    def with_python(cls, python: str, files: Files) -> "Stream":
        """One Python over there for all files."""
        line = shell.line([python, "-I", "-S", "-c", _receiver()], {})
        return cls(line, _checked(files), files, secrets.token_hex(4))

    @classmethod
    def with_tar(cls, files: Files) -> "Stream":
        """tar, mv and df over there: what every busybox and toybox has."""
        size_b, tag = _checked(files), secrets.token_hex(4)
        folders = [shell.word(one) for one in _folders(files)]
        names = [_patterns(files, folder) for folder in _folders(files)]
        moves = "; ".join(f"mv -f {' '.join(f'{number}/{name}' for name in names[number])} {folder}/"
                          for number, folder in enumerate(folders))
        return cls(f"set -e; umask 077; mkdir -p {' '.join(folders)}; "
                   f"{room(folders[0], size_b)}"
                   f"stage={folders[0]}/push.{tag}.part; mkdir \"$stage\"; cd \"$stage\"; "
                   f"trap 'cd /; rm -rf \"$stage\"' EXIT; tar -xof - || exit {receive.CUT}; "
                   f"[ -e {_LAST} ] || exit {receive.CUT}; {moves}; exit 0", size_b, files, tag)

    @classmethod
    def with_cat(cls, files: Files) -> "Stream":
        """cat, wc and mv over there, for one file."""
        [(_, target)] = files
        size_b, tag = _checked(files), secrets.token_hex(4)
        folder, there = shell.word(posixpath.dirname(target)), shell.word(target)
        part = f"{there}.{tag}.part"
        return cls(f"umask 077; [ -d {folder} ] || mkdir -p {folder} || exit {receive.CANNOT_WRITE}; "
                   f"{room(folder, size_b) if size_b > LOOK_FIRST_B else ''}"
                   f"cat > {part} || {{ rm -f {part}; exit {receive.CANNOT_WRITE}; }}; "
                   f"if [ \"$(wc -c < {part})\" -eq {size_b} ]; then mv -f {part} {there}; "
                   f"else rm -f {part}; exit {receive.CUT}; fi", size_b, files, tag)

    def cat_blocks(self) -> Iterator[bytes]:
        """The file, in blocks of BLOCK_B."""
        return _content(self.files[0][0], self.size_b)

    def python_blocks(self) -> Iterator[bytes]:
        """What receive.py reads, in blocks of BLOCK_B."""
        return _blocks(self._python_pieces())

    def tar_blocks(self) -> Iterator[bytes]:
        """A tar of `<number of the folder>/<name>`, in blocks of BLOCK_B."""
        return _blocks(self._tar_pieces())

    def _python_pieces(self) -> Iterator[bytes]:
        yield f"{len(self.files)} {self.size_b} {self.tag}\n".encode()
        for source, target in self.files:
            size_b = source.stat().st_size
            yield f"{size_b} {target}\n".encode()
            yield from _content(source, size_b)
        yield b"end\n"

    def _tar_pieces(self) -> Iterator[bytes]:
        number = {folder: index for index, folder in enumerate(_folders(self.files))}
        for source, target in self.files:
            size_b = source.stat().st_size
            yield _member(f"{number[posixpath.dirname(target)]}/{posixpath.basename(target)}", size_b)
            yield from _content(source, size_b)
            yield bytes(-size_b % tarfile.BLOCKSIZE)
        yield _member(_LAST, 0)
        yield bytes(2 * tarfile.BLOCKSIZE)


def failure(device: str, code: int, stderr: bytes) -> DeviceError:
    """What the receiving end's exit code means."""
    words = stderr.decode("utf-8", "replace").strip() or f"exit status {code}, no message"
    if code == receive.NO_ROOM or "No space left" in words:
        return DeviceNotReady(f"{device}: its disk is full: {words}. Free some space there, or type: "
                              f"edgefleet device gc {device}")
    if code == receive.CANNOT_WRITE:
        return DeviceUnsupported(f"{device}: {words}. Set `home` of this device in fleet.toml to a folder that its "
                                 "login may write.")
    if code == receive.CUT:
        return DeviceUnreachable(f"{device}: the push was cut on the way ({words})")
    return DeviceUnreachable(f"{device}: the push failed over there: {words}")


@cache
def _receiver() -> str:
    return Path(receive.__file__).read_text(encoding="utf-8")


def _checked(files: Files) -> int:
    """Bytes of all files. Raises ConfigError for one that cannot be read or named."""
    size_b = 0
    for source, target in files:
        if "\n" in target or not posixpath.dirname(target):
            raise ConfigError(f"{target!r} is no path on a device")
        try:
            size_b += source.stat().st_size
        except OSError as error:
            raise ConfigError(f"cannot push {source}: {error.strerror}") from None
    return size_b


def room(folder: str, size_b: int) -> str:
    """A piece of shell that ends it all when there is not enough room; `folder` is quoted."""
    need_kb = size_b // 1024 + 1
    return (f"free=$(df -Pk {folder} | {{ read -r a; read -r a b c free d; echo \"$free\"; }}); "
            f"if [ \"$free\" -lt {need_kb} ]; then "
            f"echo \"{need_kb} kB are needed and $free kB are free\" >&2; exit {receive.NO_ROOM}; fi; ")


def _folders(files: Files) -> list[str]:
    return list(dict.fromkeys(posixpath.dirname(target) for _, target in files))


def _patterns(files: Files, folder: str) -> list[str]:
    """What a shell calls the files of one folder; `*` leaves out names with a leading dot."""
    hidden = {posixpath.basename(target).startswith(".") for _, target in files if posixpath.dirname(target) == folder}
    return ["*"] * (False in hidden) + [".[!.]*"] * (True in hidden)


def _member(name: str, size_b: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_b, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _content(path: Path, size_b: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        left_b = size_b
        while left_b:
            chunk = file.read(min(BLOCK_B, left_b))
            if not chunk:
                raise ConfigError(f"{path} shrank while it was pushed; push it again")
            left_b -= len(chunk)
            yield chunk


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger steps: two hundred small files are not four hundred packets."""
    waiting, size_b = [], 0
    for piece in pieces:
        waiting.append(piece)
        size_b += len(piece)
        if size_b >= BLOCK_B:
            yield b"".join(waiting)
            waiting, size_b = [], 0
    if waiting:
        yield b"".join(waiting)
