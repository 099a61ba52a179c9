"""One branch for ever: the baseline that every adaptive method is held against.

settings {"branch": X}: a branch's id; "full" = the most multiply-accumulates; "smallest" = the lowest idle latency, or
the fewest multiply-accumulates where no costs are known; "idle-best" = the most accurate branch whose idle latency fits
the deadline, ties to the faster one, and "smallest" where none fits. It refuses (UserError) other words.
"""
from typing import Any, Dict, Optional

from device_agents.seams import Adapter, UserError
from device_agents.settings import with_defaults
from device_agents.wire import AdapterView, Branch, Context, Decision, Outcome

_WORDS = ("full", "smallest", "idle-best")


class Fixed(Adapter):
    @staticmethod
    def checked(settings: Dict[str, Any]) -> Dict[str, Any]:
        return with_defaults("fixed", settings, {"branch": "full"})

    def start(self, view: AdapterView, learned: Optional[bytes]) -> Decision:  # noqa: ARG002
        wanted = self.checked(view.settings)["branch"]
        self._decision = Decision(_choose(view, wanted).id, reason="fixed: %s" % wanted)
        return self._decision

    def decide(self, context: Context, last: Optional[Outcome]) -> Decision:  # noqa: ARG002
        return self._decision


def _choose(view: AdapterView, wanted: str) -> Branch:
    if wanted == "full":
        return max(view.branches, key=lambda branch: branch.macs)
    if wanted == "smallest":
        return _smallest(view)
    if wanted == "idle-best":
        deadline_ms = float("inf") if view.deadline_ms is None else view.deadline_ms
        fitting = [branch for branch in view.branches
                   if branch.id in view.costs and view.costs[branch.id].latency_ms <= deadline_ms]
        if not view.costs:
            raise UserError("fixed: idle-best needs the costs of this device; profile it first")
        return max(fitting, key=lambda branch: (branch.accuracy, -view.costs[branch.id].latency_ms),
                   default=_smallest(view))
    for branch in view.branches:
        if branch.id == wanted:
            return branch
    raise UserError("fixed: no branch %r; there is: %s, or a word: %s" % (
        wanted, ", ".join(branch.id for branch in view.branches), ", ".join(_WORDS)))


def _smallest(view: AdapterView) -> Branch:
    if all(branch.id in view.costs for branch in view.branches):
        return min(view.branches, key=lambda branch: view.costs[branch.id].latency_ms)
    return min(view.branches, key=lambda branch: branch.macs)
