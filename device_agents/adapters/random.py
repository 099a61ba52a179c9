"""Any branch, drawn anew all the time: the hand-made baseline (no paper) that a method must beat to have chosen at all.

settings {"every": N}: inferences between two draws, 1 unless stated. Draws are uniform over the bundle's branches and
come from the view's generator, so that a trial's seed repeats them. It senses nothing and refuses (UserError) other
settings.
"""
from typing import Optional

from device_agents.seams import Adapter, UserError
from device_agents.wire import AdapterView, Context, Decision, Outcome


class RandomBranch(Adapter):
    def start(self, view: AdapterView, learned: Optional[bytes]) -> Decision:  # noqa: ARG002
        unknown = sorted(set(view.settings) - {"every"})
        if unknown:
            raise UserError("random has no setting %r; there is: every" % unknown[0])
        self._every = view.settings.get("every", 1)
        if not isinstance(self._every, int) or isinstance(self._every, bool) or self._every < 1:
            raise UserError("random: every must be a whole number of inferences from 1 on, is %r" % (self._every,))
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
