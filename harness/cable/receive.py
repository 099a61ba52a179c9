"""The far end of a push: a stream of files on standard input -> files, each complete or absent. Runs ON THE DEVICE.

Sent as `python -c` by a transport, before any agent is there, so: standard library, Python >= 3.6, one file. The
stream is `files total_bytes tag` and a line feed, then for each file `bytes path`, a line feed and its content, then
`end`. Exit 0 all there | 28 no room (found before the first byte is written) | 73 a path cannot be written | 74 the
stream was cut or stalled. A file that was complete before a cut stays: the next push need not bring it.
"""
# ruff: noqa: PTH103, PTH104, PTH108, PTH110, PTH111, PTH120, PTH123, ARG001
import errno
import os
import signal
import sys

TYPE_CHECKING = False                           # importing typing would cost a board more than the rest of this file
if TYPE_CHECKING:
    from typing import BinaryIO

CHUNK_B = 1 << 20
SILENCE_S = 120                                 # a cable that was cut says nothing: do not wait for ever
NO_ROOM, CANNOT_WRITE, CUT = 28, 73, 74


def main(source: "BinaryIO") -> int:
    os.umask(0o077)
    signal.signal(signal.SIGALRM, fall_silent)
    signal.alarm(SILENCE_S)
    count, total_b, tag = source.readline().decode("ascii").split()
    checked = False
    for _ in range(int(count)):
        size_b, name = source.readline().rstrip(b"\n").split(b" ", 1)
        path = os.path.expanduser(name)
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            if not checked:
                refuse_when_full(os.path.dirname(path), int(total_b))
                checked = True
            receive(source, int(size_b), path, path + b"." + tag.encode("ascii") + b".part")
        except OSError as error:
            where, why = path.decode("utf-8", "replace"), error.strerror or error
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                sys.stderr.write(f"no room for {where}: {why}\n")
                return NO_ROOM
            sys.stderr.write(f"cannot write {where}: {why}\n")
            return CANNOT_WRITE
    if source.readline() != b"end\n":
        raise EOFError
    return 0


def refuse_when_full(folder: bytes, wanted_b: int) -> None:
    stat = os.statvfs(folder)
    free_b = stat.f_bavail * stat.f_frsize
    if free_b < wanted_b:
        raise OSError(errno.ENOSPC, f"{wanted_b / 1e6:.1f} MB are needed and {free_b / 1e6:.1f} MB are free")


def receive(source: "BinaryIO", size_b: int, path: bytes, part: bytes) -> None:
    """One file, under its final name only when every byte of it has come."""
    try:
        with open(part, "wb") as target:
            while size_b:
                chunk = source.read(min(CHUNK_B, size_b))
                if not chunk:
                    raise EOFError
                signal.alarm(SILENCE_S)
                target.write(chunk)
                size_b -= len(chunk)
        os.rename(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise


def fall_silent(number: int, frame: object) -> None:
    raise EOFError


if __name__ == "__main__":
    try:
        sys.exit(main(sys.stdin.buffer))
    except (EOFError, ValueError):
        sys.stderr.write("the stream ended early\n")
        sys.exit(CUT)
