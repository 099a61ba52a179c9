"""Random, any branch drawn anew all the time: a hand-made baseline (no paper). Offline there is nothing to derive.

Deviations: none. `every`, the inferences between two draws, is the campaign's to state; it is 1 otherwise.
"""
from typing import Any

from device_agents.wire import BranchBundle
from workloads.seams import Method, Range


class RandomBranch(Method):
    space = {"every": Range(1, 100, log=True)}  # noqa: RUF012

    def policy(self, bundle: BranchBundle) -> dict[str, Any]:  # noqa: ARG002
        return {"every": 1}
