"""Accuracies that searches found of one parent's combinations, kept: they depend on no device and on no budget.

Written and read by judge.py, in the home's cache, one JSON file for each bundle and version of the judging code. The
seconds are kept as well, so that a search that starts from what another left is billed as if it had been alone.
"""
import json
import os
from pathlib import Path
from typing import NamedTuple

from device_agents.seams import UserError
from device_agents.wire import canonical_json, sha256_of
from workloads.recipe import source_digests

#: Files that decide what an accuracy comes out as
SOURCES = ("combinations.py", "compress.py", "judge.py", "train.py")


class Judgement(NamedTuple):
    """Accuracy on the judge's part of the validation split, 0..1, and what it took to find."""

    accuracy: float
    seconds: float


class Judgements:
    """By the combination's name. What cannot be read is found anew."""

    def __init__(self, home: Path, bundle: str) -> None:
        digest = sha256_of({"bundle": bundle, "sources": source_digests(SOURCES)})
        self.path = home / "cache" / "judged" / f"{digest}.json"
        self._known = self._read()
        self._new: dict[str, Judgement] = {}

    def get(self, name: str) -> Judgement | None:
        return self._known.get(name)

    def add(self, name: str, judgement: Judgement) -> None:
        self._known[name] = self._new[name] = judgement

    def keep(self) -> None:
        """Write what is new, beside what others wrote meanwhile. Raises UserError when the disk is full."""
        if not self._new:
            return
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(canonical_json({name: list(one) for name, one in {**self._read(), **self._new}.items()}))
            part.replace(self.path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UserError(f"cannot keep what the search found in {self.path}: {error.strerror}") from None
        self._new = {}

    def _read(self) -> dict[str, Judgement]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return {name: Judgement(float(accuracy), float(seconds)) for name, (accuracy, seconds) in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
