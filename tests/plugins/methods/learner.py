"""A method that learns: how many trials it was in, no more. Tests use it to follow the training chain."""
from typing import Any

from device_agents.wire import BranchBundle
from workloads.seams import Method, Range


class Learner(Method):
    training_trials = 3
    space = {"boldness": Range(0.5, 2.0, log=True)}  # noqa: RUF012

    def policy(self, bundle: BranchBundle) -> dict[str, Any]:
        return {"learn": False, "boldness": 1.0}
