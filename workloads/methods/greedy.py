"""Greedy, the largest branch whose last latency met the deadline: a hand-made baseline (no paper).

Deviations: none. Offline there is nothing to derive: what it knows of a branch, it learns by running it. `patience` and
`headroom` of the adapter are the campaign's to state.
"""
from typing import Any

from device_agents.wire import BranchBundle
from workloads.seams import Method, Range


class Greedy(Method):
    space = {"patience": Range(1, 60), "headroom": Range(0.0, 0.5)}  # noqa: RUF012

    def policy(self, bundle: BranchBundle) -> dict[str, Any]:  # noqa: ARG002
        return {}
