"""AdaScale, offline half: Wang et al., "AdaScale", arXiv 2412.00724, 2024 (IEEE Internet of Things Journal, 2025).

Published: one training yields a multi-branch network with operator combinations; the device picks a branch from
resource availability. Left open by what could be read of the paper: how the set of branches is chosen and by what
objective. Our re-implementation keeps the Pareto set of the trained branches over validation accuracy, MACs and
file size (a branch that another beats or equals in all three cannot be the right answer on any device whose costs
grow with them), and hands the adapter neutral defaults that a campaign may override.
"""
from typing import Any

from device_agents.wire import Branch, BranchBundle
from workloads.seams import Method, Range


class Adascale(Method):
    space = {  # noqa: RUF012
        "rise": Range(0.1, 1.0), "fall": Range(0.02, 0.5), "margin": Range(0.0, 0.4), "up_margin": Range(0.0, 0.4),
        "patience": Range(1, 30)}

    def policy(self, bundle: BranchBundle) -> dict[str, Any]:
        return {"pareto": [branch.id for branch in pareto(bundle.branches)]}

    def notes(self, bundle: BranchBundle) -> list[str]:
        kept = pareto(bundle.branches)
        return [f"adascale leaves out {branch.id}: {better.id} is as accurate, and no dearer in MACs and bytes"
                for branch in bundle.branches if branch not in kept
                for better in [next(other for other in kept if _dominates(other, branch, earlier=True))]]


def pareto(branches: tuple[Branch, ...]) -> list[Branch]:
    """Branches that no other one dominates, most accurate first; of equals the first stays."""
    kept = [branch for index, branch in enumerate(branches)
            if not any(_dominates(other, branch, earlier=place < index)
                       for place, other in enumerate(branches) if other is not branch)]
    return sorted(kept, key=lambda branch: (-branch.accuracy, branch.macs, branch.id))


def _dominates(one: Branch, other: Branch, *, earlier: bool) -> bool:
    ours, theirs = _scores(one), _scores(other)
    return all(a >= b for a, b in zip(ours, theirs, strict=True)) and (ours != theirs or earlier)


def _scores(branch: Branch) -> tuple[float, int, int]:
    return branch.accuracy, -branch.macs, -branch.size_b
