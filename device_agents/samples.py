"""The trial's samples: which is next (a seeded shuffle, the same for every method), its label, and the lines' index.

Used by the loop alone. The n-th arrival of a window has the same sample whatever the method does, expired or served,
so that trials of one seed compare pair by pair. Labels never leave this file but as right or wrong, in the journal.
"""
import json
import os
import random
from typing import Any, List, Optional

from device_agents.seams import UserError
from device_agents.wire import BranchBundle


class Samples:
    """Which sample is next (a seeded shuffle, the same for every method), its label, and the running index."""

    def __init__(self, bundle: BranchBundle, store: str, seed: int) -> None:
        with open(os.path.join(store, bundle.labels), encoding="utf-8") as file:
            self._labels: List[Any] = json.load(file)
        if len(self._labels) != bundle.count or bundle.count < 1:
            raise UserError("bundle %s states %d samples and has %d labels"
                            % (bundle.id[:12], bundle.count, len(self._labels)))
        self._order = list(range(bundle.count))
        random.Random("%d samples" % seed).shuffle(self._order)
        self._quoted = {branch.id: json.dumps(branch.id) for branch in bundle.branches}
        self._taken = 0
        self.index = 0                          # of the next inference line

    def next(self) -> int:
        sample = self._order[self._taken % len(self._order)]
        self._taken += 1
        return sample

    def correct(self, sample: int, label: Any) -> Optional[bool]:
        """None for an engine that does not answer with a label."""
        return None if label is None else bool(label == self._labels[sample])

    def quoted(self, branch: str) -> str:
        return self._quoted[branch]
