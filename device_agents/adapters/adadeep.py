"""AdaDeep, online half: Liu et al., MobiSys 2018; Liu et al., arXiv 2006.04432 (IEEE TMC, 2020).

Published: the network is compressed for a device and its user's demands before it is deployed; nothing adapts while it
runs. Our re-implementation, therefore: one branch for ever, the one that the offline half made for this device and put
into a bundle of its own. Every choice, and every deviation, is the offline half's (workloads/methods/adadeep.py).

settings {"branch": X}, X = "adadeep" unless stated. Settings of the offline half are known and mean nothing here,
because a campaign states both in one place. It refuses (UserError) others, and a bundle without the branch.
"""
from typing import Any, Dict, Optional

from device_agents.seams import Adapter, UserError
from device_agents.settings import with_defaults
from device_agents.wire import AdapterView, Context, Decision, Outcome

_DEFAULTS: Dict[str, Any] = {"branch": "adadeep"}
_OFFLINE = ("budgets", "space", "storage_x", "energy_x", "energy_weight", "episodes", "finetune_epochs")


class Adadeep(Adapter):
    @staticmethod
    def checked(settings: Dict[str, Any]) -> Dict[str, Any]:
        return with_defaults("adadeep", settings, _DEFAULTS, _OFFLINE)

    def start(self, view: AdapterView, learned: Optional[bytes]) -> Decision:  # noqa: ARG002
        wanted, there = self.checked(view.settings)["branch"], [branch.id for branch in view.branches]
        if wanted not in there:
            raise UserError("adadeep: the bundle has no branch %r, but: %s. The offline half makes it for each device "
                            "from that device's profile; run its bundle, not the parent's" % (wanted, ", ".join(there)))
        self._decision = Decision(wanted, {}, "adadeep: compressed for this device beforehand")
        return self._decision

    def decide(self, context: Context, last: Optional[Outcome]) -> Decision:  # noqa: ARG002
        return self._decision
