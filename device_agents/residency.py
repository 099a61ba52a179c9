"""Which branches stay loaded: `all`, `one`, or `cache:K` (the K used last). Loads, unloads, and journals both.

The loop asks for a branch before every inference; a switch between resident branches costs a dictionary look-up, one
that must load is journalled with its load_ms. Peak memory is therefore the policy's. It refuses (UserError) branches
that the bundle does not have: an adapter's slip, named as such.
"""
import collections
from typing import Any, Dict, List

from device_agents.journal import Journal
from device_agents.seams import Clock, Engine, UserError
from device_agents.wire import BranchBundle


class Residency:
    """The loaded branches of one trial. Knobs belong to a load: other knobs mean unload and load again, but for those
    that the engine names in `per_call`, which it is told before each inference."""

    def __init__(self, policy: str, bundle: BranchBundle, engine: Engine, clock: Clock, journal: Journal) -> None:
        self._branches = [branch.id for branch in bundle.branches]
        self._most = _most_resident(policy, len(self._branches))
        self._engine, self._clock, self._journal = engine, clock, journal
        self._per_call = frozenset(engine.per_call)
        self._loaded: collections.OrderedDict[str, Dict[str, Any]] = collections.OrderedDict()

    def start(self, first: str, knobs: Dict[str, Any]) -> None:
        """Load what is resident from the beginning: everything, or the first branch alone."""
        if self._most >= len(self._branches):
            for branch in self._branches:
                self.use(branch, knobs)
        self.use(first, knobs)

    def use(self, branch: str, knobs: Dict[str, Any]) -> None:
        """Have `branch` loaded with `knobs`."""
        loaded = self._loaded
        if self._per_call:
            self._engine.adjust({name: value for name, value in knobs.items() if name in self._per_call})
            knobs = {name: value for name, value in knobs.items() if name not in self._per_call}
        if loaded.get(branch) == knobs:
            if self._most < len(self._branches):
                loaded.move_to_end(branch)
            return
        if branch not in self._branches:
            raise UserError("the adapter chose branch %r; the bundle has: %s" % (branch, ", ".join(self._branches)))
        if branch in loaded:
            self._unload(branch)
        while len(loaded) >= self._most:
            self._unload(next(iter(loaded)))
        begun_ns = self._clock.now_ns()
        parts = self._engine.load(branch, knobs)
        load_ms = (self._clock.now_ns() - begun_ns) / 1e6
        loaded[branch] = knobs
        told: Dict[str, Any] = {"parts": parts} if parts else {}
        self._journal.write("load", branch=branch, load_ms=load_ms, **told)

    def resident(self) -> List[str]:
        """Loaded branches, the one used longest ago first."""
        return list(self._loaded)

    def _unload(self, branch: str) -> None:
        del self._loaded[branch]
        self._engine.unload(branch)
        self._journal.write("unload", branch=branch)


def _most_resident(policy: str, branches: int) -> int:
    kind, _, count = policy.partition(":")
    if policy == "all":
        return branches
    if policy == "one":
        return 1
    if kind == "cache" and count.isdigit() and int(count) >= 1:
        return int(count)
    raise UserError("residency %r is unknown; there is: all, one, cache:K with K >= 1" % policy)
