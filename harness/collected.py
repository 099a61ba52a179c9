"""Which journals of a device are safe here, and which of its trial folders may therefore go.

Kept by the runner, one object a device. The runner says what came back, the driver (in another thread, over Ray in
another process) what it stored. Until then the folder over there is the only copy that outlives us.
"""
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from db.store import Store

Name = tuple[str, int]                          # trial id, attempt


def kept_by(store: Store) -> set[Name]:
    """Attempts whose journal is in the store."""
    return {(row["trial"], row["number"]) for row in store.read("attempt", ("trial", "number", "journal"))
            if row["journal"]}


class Collected:
    """`kept`: journals that the store had before this run."""

    def __init__(self, kept: Iterable[Name]) -> None:
        self._here = set(kept)
        self._stored: deque[Name] = deque()     # appended by one thread, emptied by another

    def __contains__(self, name: object) -> bool:
        return name in self._here

    def add(self, name: Name) -> None:
        """Its journal came back."""
        self._here.add(name)

    def stored(self, name: Name) -> None:
        """It is in the store: its folder may go."""
        self._stored.append(name)

    @contextmanager
    def leaving(self) -> Iterator[list[Name]]:
        """Folders that may go, to be removed in the block; they are offered again when it fails."""
        names = [self._stored.popleft() for _ in range(len(self._stored))]
        try:
            yield names
        except BaseException:
            self._stored.extend(names)
            raise
