"""Reads a journal's lines, whatever is in the file: cut, garbage, giant lines, terminal escapes, numbers that are none.

Called by db.ingest. Yields batches of parsed lines and complains about the rest; never raises for content. Memory is
bounded: a line longer than 1 MB is dropped unread. Refuses nothing but a file that cannot be opened.
"""
import gzip
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import orjson

LINE_LIMIT_B = 1_000_000
READ_B = 1 << 17
SHOWN = 200                                     # characters of a bad line that are kept

Line = dict[str, Any]

# Control characters but tab and newline, both directions of writing, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Bad(NamedTuple):
    """A line that is not taken over, and why. `text` is safe to print."""

    number: int                                 # in the file, from 1
    reason: str
    text: str


class Batch(NamedTuple):
    """Some lines, their numbers in the file, and those of the same stretch that could not be read."""

    numbers: Sequence[int]
    lines: list[Line]
    bad: list[Bad]


class JournalFile:
    """One journal, .jsonl or .jsonl.gz (told by its first bytes). After batches() has ended, `sha256` is that of its
    text, `size_b` its length and `damage` says how the file ended badly, "" when it did not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.sha256 = ""
        self.size_b = 0
        self.damage = ""

    def batches(self) -> Iterator[Batch]:
        """Raises OSError when the file cannot be opened or read."""
        digest, rest, number, skipping = hashlib.sha256(), b"", 0, False
        with self._path.open("rb") as raw:
            for block in self._blocks(raw):
                digest.update(block)
                self.size_b += len(block)
                *whole, rest = (rest + block).split(b"\n")
                if skipping and whole:              # the end of a giant line
                    del whole[0]
                    number += 1
                    skipping = False
                if whole:
                    yield _parse(whole, number)
                    number += len(whole)
                if len(rest) > LINE_LIMIT_B:
                    if not skipping:
                        yield Batch([], [], [_too_long(number + 1, rest)])
                    rest, skipping = b"", True
        if rest and not skipping:
            self.damage = self.damage or "its last line is cut off"
            yield _parse([rest], number)
        self.sha256 = digest.hexdigest()

    def _blocks(self, raw: BinaryIO) -> Iterator[bytes]:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if packed else raw
        while True:
            try:
                block = file.read1(READ_B) if packed else file.read(READ_B)     # type: ignore[union-attr]
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                self.damage = f"its compressed data is cut or damaged ({clean(str(error))})"
                return
            if not block:
                return
            yield block


def clean(text: str) -> str:
    """The text without what a terminal or a database could choke on."""
    return _UNPRINTABLE.sub("\ufffd", text)


def cleaned(value: Any, depth: int = 0) -> Any:
    """JSON value with clean texts and storable numbers: an infinity becomes None,
    so does a giant integer."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**63 else None
    if depth > 20:                                  # deeper than anything that we write
        return None
    if isinstance(value, dict):
        return {clean(key): cleaned(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list):
        return [cleaned(entry, depth + 1) for entry in value]
    return value


def excerpt(line: bytes) -> str:
    text = clean(line[:4 * SHOWN].decode("utf-8", "replace"))
    return text if len(line) <= SHOWN else f"{text[:SHOWN]} ... ({len(line)} bytes)"


def _too_long(number: int, line: bytes) -> Bad:
    return Bad(number, f"longer than {LINE_LIMIT_B} bytes", excerpt(line[:LINE_LIMIT_B]))


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _parse(texts: list[bytes], before: int) -> Batch:
    """All lines with one call of a fast parser; one by one, by json, when that gives no object a line."""
    if max(map(len, texts)) <= LINE_LIMIT_B:
        try:
            found = orjson.loads(b"[" + b",".join(texts) + b"]")
        except ValueError:
            found = []
        if len(found) == len(texts) and set(map(type, found)) == {dict}:
            return Batch(range(before + 1, before + 1 + len(found)), found, [])
    numbers: list[int] = []
    lines: list[Line] = []
    bad: list[Bad] = []
    for number, text in enumerate(texts, before + 1):
        reason, line = _parse_one(text)
        if line is None:
            bad.append(Bad(number, reason, excerpt(text)))
        else:
            numbers.append(number)
            lines.append(line)
    return Batch(numbers, lines, bad)


def _parse_one(text: bytes) -> tuple[str, Line | None]:
    if len(text) > LINE_LIMIT_B:
        return f"longer than {LINE_LIMIT_B} bytes", None
    try:
        line = json.loads(text.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError:
        return "not UTF-8", None
    except RecursionError:
        return "nested too deeply", None
    except ValueError as error:
        return f"not JSON ({clean(str(error))})"[:SHOWN], None
    return ("", line) if isinstance(line, dict) else ("not a JSON object", None)
