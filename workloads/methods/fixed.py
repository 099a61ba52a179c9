"""Fixed, one branch for ever: the hand-made baseline (no paper). Offline it names the branches that its words mean.

Deviations: none. Which branch is used is the campaign's choice (`branch = "full" | "smallest" | "idle-best" | ID`);
"idle-best" needs a device's own costs and is therefore resolved by the adapter.
"""
from typing import Any

from device_agents.wire import BranchBundle
from workloads.seams import Method


class Fixed(Method):
    def policy(self, bundle: BranchBundle) -> dict[str, Any]:  # noqa: ARG002
        return {"branch": "full"}
