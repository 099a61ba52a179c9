"""AutoScale, offline half: Kim, Wu, "AutoScale", arXiv 2005.02544, 2020 (MICRO 2020).

Published: reinforcement learning picks the execution target of each inference, online; nothing of the network is
changed. Our re-implementation therefore prepares no network. It names the branches that stand for precision (the full
network in float32, and in 8-bit integers where the bundle has that), and what a remote inference sends. What the
method learns is a table that leaves a training trial and enters the next; evaluation starts from a frozen one.
Left open by what could be read: how much training its results had; ours is stated below.
"""
import math
from typing import Any

import numpy as np

from device_agents.wire import BranchBundle
from workloads.seams import Method, Range


class Autoscale(Method):
    training_trials = 6
    #: Powers and the choice of actions are no knobs of the tuning: they say what the device and the method are.
    space = {                                   # noqa: RUF012
        "epsilon": Range(0.02, 0.3, log=True), "rate": Range(0.1, 1.0), "discount": Range(0.0, 0.9),
        "alpha": Range(0.01, 10.0, log=True), "beta": Range(0.01, 10.0, log=True)}

    def policy(self, bundle: BranchBundle) -> dict[str, Any]:
        full = max((branch for branch in bundle.branches if branch.precision == "float32"),
                   key=lambda branch: branch.macs, default=bundle.branches[0])
        eight_bit = [branch.id for branch in bundle.branches if branch.precision == "int8" and branch.macs == full.macs]
        return {"exact": [full.id, *eight_bit[:1]],
                "sample_b": math.prod(bundle.shape) * np.dtype(bundle.dtype).itemsize}
