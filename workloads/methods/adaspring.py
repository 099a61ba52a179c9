"""AdaSpring, offline half: Liu et al., "AdaSpring", arXiv 2101.11800 (IMWUT/UbiComp 5(1), 2021).

Published: ensemble training of a retraining-free network that holds many compression configurations, structure and
weights, among which the device searches while it runs. A contributor's public workflow starts from a backbone made by
AdaDeep and a set of operators. Left open by what could be read: the operators, the training, what is prepared offline.
Our re-implementation takes the bundle as the set of configurations. Deviations: the backbone is this project's, not
AdaDeep's; branches are exported beforehand (a row is called adaspring-select); nothing is pruned here, because the
search and its Pareto front belong to the device, whose own costs decide.
"""
from typing import Any

from device_agents.wire import BranchBundle
from workloads.seams import Method, Range


class Adaspring(Method):
    space = {  # noqa: RUF012
        "smoothing": Range(0.05, 1.0), "margin": Range(0.0, 0.4), "up_margin": Range(0.0, 0.4), "hold": Range(1, 30)}

    def policy(self, bundle: BranchBundle) -> dict[str, Any]:
        return {"branches": [branch.id for branch in bundle.branches]}
