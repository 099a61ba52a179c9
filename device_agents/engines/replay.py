"""No inference at all: sleeps for the stated or recorded cost of a branch and draws whether it was right.

For simulated devices (with a virtual clock the sleep is a jump) and for tests of the loop. Costs are the order's unless
Order.extra["replay"] = {"latency_ms": {branch: x}, "load_ms": {branch: x}, "contention": c, "jitter": j} states others:
a latency is cost * (1 + c * co_cpu_pct / 100) * (1 + j * N(0,1)), c = 1 and j = 0.02 by default. A branch is right with
the probability of its accuracy, decided once by (seed, branch, sample), wherever it was run.

"peers": {name: {branch: x}} among them are simulated peers, idle but for this work: the knob `target` asks one, over
the trial's link, and an inference that is not answered in time is served here, as by the engine `remote`. It refuses
costs that are not positive and targets that are no peer (UserError).
"""
import functools
import hashlib
import json
import os
import random
from typing import Any, Dict, List, Optional, Tuple

from device_agents.peer import Link, call_s
from device_agents.seams import Engine, Sensor, UserError
from device_agents.shaper import Shaper
from device_agents.simulated_peer import SimulatedPeer
from device_agents.wire import BranchBundle, Trial

_HERE = "local"
_LEAST_FACTOR = 0.2                             # a jittered latency never gets lower than this share of the cost


class Replay(Engine):
    """Needs a clock in the settings; loads nothing."""

    processor = ""                              # of whatever the costs are
    per_call = ("target",)

    @classmethod
    def runtime(cls) -> str:
        return "replay 1"

    def __init__(self) -> None:
        self._peers: Dict[str, SimulatedPeer] = {}
        self._link = Link("link")
        self._target: Optional[SimulatedPeer] = None

    def senses(self, trial: Trial) -> Dict[str, Sensor]:
        if not trial.peers:
            return {}
        self._link.source = "simulated: link to %s" % ", ".join(trial.peers)
        return {"link": self._link}

    def open(self, bundle: BranchBundle, store: str, settings: Dict[str, Any]) -> None:
        stated = settings.get("replay") or {}
        costs = settings.get("costs") or {}
        self._clock, self._seed = settings["clock"], settings.get("seed", 0)
        self._co_cpu_pct = settings.get("co_cpu_pct") or (lambda: None)
        self._contention, self._jitter = stated.get("contention", 1.0), stated.get("jitter", 0.02)
        self._random = random.Random("%s replay" % self._seed)
        self._latency_ms = _positive(bundle, {**{name: cost.latency_ms for name, cost in costs.items()},
                                              **stated.get("latency_ms", {})}, "Order.costs or extra.replay.latency_ms")
        self._load_ms = {**{name: cost.load_ms for name, cost in costs.items()}, **stated.get("load_ms", {})}
        self._open_peers(bundle, store, settings, stated.get("peers", {}))
        self._accuracy = {branch.id: branch.accuracy for branch in bundle.branches}
        self._classes = bundle.classes
        with open(os.path.join(store, bundle.labels), encoding="utf-8") as file:
            self._labels: List[int] = json.load(file)
        self._answers: Dict[Tuple[str, int], int] = {}

    def load(self, branch: str, knobs: Dict[str, Any]) -> None:  # noqa: ARG002
        self._spend(self._load_ms.get(branch) or 0.0)

    def adjust(self, knobs: Dict[str, Any]) -> None:
        name = knobs.get("target", _HERE)
        if name != _HERE and name not in self._peers:
            raise UserError("engine replay has no target %r; there is: %s" % (name, ", ".join([_HERE, *self._peers])))
        self._target = self._peers.get(name)
        self._link.last = self._target or self._link.last

    def infer(self, branch: str, sample: int) -> int:
        jitter = max(_LEAST_FACTOR, 1.0 + self._jitter * self._random.gauss(0.0, 1.0)) if self._jitter else 1.0
        if self._target is None or not self._served_there(self._target, branch, sample, jitter):
            co_cpu_pct: Optional[float] = self._co_cpu_pct()
            self._spend(self._latency_ms[branch] * ((1.0 + self._contention * (co_cpu_pct or 0.0) / 100.0) * jitter))
        if (branch, sample) not in self._answers:
            self._answers[branch, sample] = self._draw(branch, sample)
        return self._answers[branch, sample]

    def unload(self, branch: str) -> None:
        pass

    def _open_peers(self, bundle: BranchBundle, store: str, settings: Dict[str, Any], stated: Dict[str, Any]) -> None:
        """`stated`: peer -> branch -> what it takes there, in ms."""
        self._journal = settings.get("journal") or _nothing
        self._there_ms = {name: _positive(bundle, latency_ms, "extra.replay.peers.%s" % name)
                          for name, latency_ms in stated.items()}
        for name in sorted(stated):
            sample_b = os.path.getsize(os.path.join(store, bundle.samples)) // bundle.count
            shaped = functools.partial(Shaper, settings.get("link") or {}, self._seed, name,
                                       settings.get("scripted") or _nothing)
            self._peers[name] = SimulatedPeer(name, sample_b, call_s(settings.get("deadline_ms")), shaped, self._clock)
        self._link.peers = list(self._peers.values())
        self._link.last = self._link.peers[0] if self._link.peers else None

    def _served_there(self, peer: SimulatedPeer, branch: str, sample: int, jitter: float) -> bool:
        served_ms = self._there_ms[peer.name][branch] * jitter
        trip_ms = peer.ask(served_ms)
        self._journal("remote", peer=peer.name, branch=branch, sample=sample,
                      status="fallback" if trip_ms is None else "ok", trip_ms=trip_ms and round(trip_ms, 4),
                      served_ms=None if trip_ms is None else served_ms)
        return trip_ms is not None

    def _spend(self, cost_ms: float) -> None:
        self._clock.sleep_until(self._clock.now_ns() + int(cost_ms * 1e6))

    def _draw(self, branch: str, sample: int) -> int:
        digest = hashlib.sha256(("%s %s %d" % (self._seed, branch, sample)).encode("utf-8")).digest()
        chance = int.from_bytes(digest[:8], "big") / 2.0 ** 64
        label = self._labels[sample]
        return label if chance < self._accuracy[branch] else (label + 1) % self._classes


def _positive(bundle: BranchBundle, latency_ms: Dict[str, float], where: str) -> Dict[str, float]:
    """The costs of the bundle's branches. Raises UserError for one that is not known, or not positive."""
    for branch in bundle.branches:
        if not (latency_ms.get(branch.id) or 0.0) > 0.0:
            raise UserError("replay has no cost for branch %r: state it in %s" % (branch.id, where))
    return latency_ms


def _nothing(*_words: Any, **_fields: Any) -> None:
    """Outside a trial: no journal, no trace."""
