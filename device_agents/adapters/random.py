"""Any branch, drawn anew all the time: the hand-made baseline (no paper) that a method must beat to have chosen at all.

settings {"every": N}: inferences between two draws, 1 unless stated. Draws are uniform over the bundle's branches and
come from the view's generator, so that a trial's seed repeats them. It senses nothing and refuses (UserError) other
settings.
"""
from typing import Any, Dict, Optional

from device_agents.seams import Adapter
from device_agents.settings import check_within, with_defaults
from device_agents.wire import AdapterView, Context, Decision, Outcome


class RandomBranch(Adapter):
    @staticmethod
    def checked(settings: Dict[str, Any]) -> Dict[str, Any]:
        settings = with_defaults("random", settings, {"every": 1})
        check_within("random", settings, [("every", 1, 10 ** 9)])
        return settings

    def start(self, view: AdapterView, learned: Optional[bytes]) -> Decision:  # noqa: ARG002
        self._every = self.checked(view.settings)["every"]
        self._rng = view.rng
        self._decisions = [Decision(branch.id, reason="random") for branch in view.branches]
        self._draw()
        return self._decision

    def decide(self, context: Context, last: Optional[Outcome]) -> Decision:  # noqa: ARG002
        if not self._left:
            self._draw()
        self._left -= 1
        return self._decision

    def _draw(self) -> None:
        self._decision: Decision = self._rng.choice(self._decisions)
        self._left: int = self._every
