"""No inference at all: sleeps for the stated or recorded cost of a branch and draws whether it was right.

For simulated devices (with a virtual clock the sleep is a jump) and for tests of the loop. Costs are the order's unless
Order.extra["replay"] = {"latency_ms": {branch: x}, "load_ms": {branch: x}, "contention": c, "jitter": j} states others:
a latency is cost * (1 + c * co_cpu_pct / 100) * (1 + j * N(0,1)), c = 1 and j = 0.02 by default. A branch is right with
the probability of its accuracy, decided once by (seed, branch, sample). It refuses costs that are not positive.
"""
import hashlib
import json
import os
import random
from typing import Any, Dict, List, Optional, Tuple

from device_agents.seams import Engine, UserError
from device_agents.wire import BranchBundle

_LEAST_FACTOR = 0.2                             # a jittered latency never gets lower than this share of the cost


class Replay(Engine):
    """Needs a clock in the settings; loads nothing."""

    processor = ""                              # of whatever the costs are

    @classmethod
    def runtime(cls) -> str:
        return "replay 1"

    def open(self, bundle: BranchBundle, store: str, settings: Dict[str, Any]) -> None:
        stated = settings.get("replay") or {}
        costs = settings.get("costs") or {}
        self._clock, self._seed = settings["clock"], settings.get("seed", 0)
        self._co_cpu_pct = settings.get("co_cpu_pct") or (lambda: None)
        self._contention, self._jitter = stated.get("contention", 1.0), stated.get("jitter", 0.02)
        self._random = random.Random("%s replay" % self._seed)
        self._latency_ms: Dict[str, float] = {}
        self._load_ms: Dict[str, float] = {}
        for branch in bundle.branches:
            cost = costs.get(branch.id)
            latency_ms = stated.get("latency_ms", {}).get(branch.id, cost.latency_ms if cost else None)
            if not latency_ms or latency_ms <= 0:
                raise UserError("replay has no cost for branch %r: state it in Order.costs or extra.replay.latency_ms"
                                % branch.id)
            load_ms = stated.get("load_ms", {}).get(branch.id, cost.load_ms if cost else None)
            self._latency_ms[branch.id], self._load_ms[branch.id] = latency_ms, load_ms or 0.0
        self._accuracy = {branch.id: branch.accuracy for branch in bundle.branches}
        self._classes = bundle.classes
        with open(os.path.join(store, bundle.labels), encoding="utf-8") as file:
            self._labels: List[int] = json.load(file)
        self._answers: Dict[Tuple[str, int], int] = {}

    def load(self, branch: str, knobs: Dict[str, Any]) -> None:  # noqa: ARG002
        self._spend(self._load_ms[branch])

    def infer(self, branch: str, sample: int) -> int:
        co_cpu_pct: Optional[float] = self._co_cpu_pct()
        factor = 1.0 + self._contention * (co_cpu_pct or 0.0) / 100.0
        if self._jitter:
            factor *= max(_LEAST_FACTOR, 1.0 + self._jitter * self._random.gauss(0.0, 1.0))
        self._spend(self._latency_ms[branch] * factor)
        if (branch, sample) not in self._answers:
            self._answers[branch, sample] = self._draw(branch, sample)
        return self._answers[branch, sample]

    def unload(self, branch: str) -> None:
        pass

    def _spend(self, cost_ms: float) -> None:
        self._clock.sleep_until(self._clock.now_ns() + int(cost_ms * 1e6))

    def _draw(self, branch: str, sample: int) -> int:
        digest = hashlib.sha256(("%s %s %d" % (self._seed, branch, sample)).encode("utf-8")).digest()
        chance = int.from_bytes(digest[:8], "big") / 2.0 ** 64
        label = self._labels[sample]
        return label if chance < self._accuracy[branch] else (label + 1) % self._classes
