"""Files for one folder of a phone that travel by `adb push`, and the line that puts them in their places there.

Called by transports/adb.py. adb's file service is faster than any shell's stdin, but copies in place: so they come into
a folder beside their own, `push.*.part`, and a shell that waited over there all the while checks their sizes and moves
them; when the cable is cut, those that are whole. Small pushes and targets below "~" are no business of this file.
"""
import posixpath
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.cable import receive, shell

LARGE_B = 4 << 20                               # less for one folder: starting adb once more costs more than it saves
BATCH_B = 64 << 20                              # what a cut may cost
BATCH_FILES = 400                               # a line may not be longer than 128 KiB
LANES, A_LANE = 3, 16                           # adb waits for an answer after each file, so that several copy at once

Files = Sequence[tuple[Path, str]]


class Batch(NamedTuple):
    """`size_b` is that of all files; `stage` the folder on the phone that they come into."""

    files: Files
    size_b: int
    folder: str
    stage: str

    @classmethod
    def of(cls, files: Files) -> "Batch":
        folder = posixpath.dirname(files[0][1])
        return cls(files, sum(source.stat().st_size for source, _ in files), folder,
                   f"{folder}/push.{secrets.token_hex(4)}.part")

    def arguments(self, links: Path) -> list[list[str]]:
        """Of each `adb push`. It names several files as they are named here: `links`, an empty folder, renames them."""
        names = [posixpath.basename(target) for _, target in self.files]
        if len(names) == 1:                     # adb makes the folders of one file, and asks for those of several
            return [["push", str(self.files[0][0]), f"{self.stage}/{names[0]}"]]
        for name, (source, _) in zip(names, self.files, strict=True):
            (links / name).symlink_to(source.absolute())
        lanes = min(LANES, -(-len(names) // A_LANE))
        return [["push", *(f"{links}/{name}" for name in names[lane::lanes]), f"{self.stage}/"]
                for lane in range(lanes)]

    def line(self) -> str:
        """Waits for a line on stdin, when all has come, or for its end; ends with receive's exit codes."""
        names = " ".join(shell.word(f"./{posixpath.basename(target)}") for _, target in self.files)
        sizes = [str(source.stat().st_size) for source, _ in self.files]
        there, expected = f"{shell.word(self.folder)}/", "\n".join(sizes)
        return (f"stage={shell.word(self.stage)}; trap 'cd /; rm -rf \"$stage\"' EXIT; read -r go; "
                f"cd \"$stage\" || exit {receive.CUT}; set -- {names}; "
                # A program takes some 4 ms to start, so that two run side by side.
                f"chmod 600 \"$@\" 2>/dev/null & sizes=$(stat -c %s \"$@\" 2>/dev/null); wait $!; private=$?; "
                f"if [ \"$sizes\" = '{expected}' ]; then "
                f"[ $private = 0 ] && mv -f \"$@\" {there} || exit {receive.CANNOT_WRITE}; exit 0; fi; "
                # Cut: what is whole is kept, file by file, though a program for each takes a while.
                f"for size in {' '.join(sizes)}; do [ \"$(stat -c %s \"$1\")\" != $size ] || "
                f"{{ chmod 600 \"$1\" && mv -f \"$1\" {there}; }}; shift; done 2>/dev/null; exit {receive.CUT}")


def apart(files: Files) -> tuple[list[Batch], list[tuple[Path, str]]]:
    """Batches, and what is not worth one. A file that is not there is somebody else's to complain about."""
    folders: dict[str, list[tuple[Path, str]]] = {}
    for source, target in files:
        folders.setdefault(posixpath.dirname(target), []).append((source, target))
    batches, rest = [], []
    for folder, those in folders.items():
        there = all(source.is_file() for source, _ in those)
        if not there or folder.startswith("~") or sum(source.stat().st_size for source, _ in those) < LARGE_B:
            rest += those
        else:
            batches += [Batch.of(some) for some in _cut(those)]
    return batches, rest


def _cut(files: Iterable[tuple[Path, str]]) -> Iterator[list[tuple[Path, str]]]:
    """Of BATCH_B and BATCH_FILES at most, but for one file that is larger."""
    some: list[tuple[Path, str]] = []
    size_b = 0
    for source, target in files:
        if some and (size_b + source.stat().st_size > BATCH_B or len(some) == BATCH_FILES):
            yield some
            some, size_b = [], 0
        some.append((source, target))
        size_b += source.stat().st_size
    if some:
        yield some
