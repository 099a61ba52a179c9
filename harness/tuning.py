"""The equal tuning budget: random search over a method's settings, scored on a simulated twin of the device.

Called by prepare.py. The twin runs the agent's own loop on a virtual clock with the device's measured costs and a
stated contention, on traces whose seeds the evaluation never uses; correctness follows validation accuracy, so the
test split is not touched. One score for all: on-time accuracy, mean over the traces. The first configuration is the
method's defaults, so that tuning never ends below them on its own traces.
"""
import gzip
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from device_agents.wire import Cost, LoadTrace, Order, Trial
from harness.device import Device, open_device
from harness.errors import AgentFailed
from harness.fleet import DeviceSpec
from harness.home import Home
from workloads.bundle import BundleFolder
from workloads.seams import Range

CONTENTION = 1.0                                # latency x (1 + share of the cores that others use): a fair scheduler's
JITTER = 0.05
WAIT_S = 600.0


class Draw(NamedTuple):
    """One configuration and its score: on-time accuracy in %, mean over the tuning traces."""

    settings: dict[str, Any]
    score: float


class Twin:
    """A device's simulated twin: open one, score configurations, close it."""

    def __init__(self, home: Home, device: DeviceSpec, folder: BundleFolder, costs: Mapping[str, Cost]) -> None:
        simulate = {"latency_ms": {name: cost.latency_ms for name, cost in costs.items()},
                    "load_ms": {name: cost.load_ms or 0.0 for name, cost in costs.items()},
                    "contention": CONTENTION, "jitter": JITTER}
        spec = DeviceSpec(name=f"{device.name}.twin", transport="simulated", simulate=simulate)
        self._device: Device = open_device(spec, home)
        self._costs = tuple(cost._replace(engine="replay", provenance="simulated") for cost in costs.values())
        self._simulate, self._number = simulate, 0
        self._device.push(folder.files)

    def score(self, trial: Trial, traces: Sequence[LoadTrace], period_ms: float | None, deadline_ms: float | None,
              plugins: Mapping[str, str], files: Mapping[str, Path]) -> float:
        """On-time accuracy in %, mean over `traces`, of the trial's method with the trial's settings."""
        if files:
            self._device.push(files)
        found = []
        for trace in traces:
            self._number += 1
            one = trial._replace(id=f"tuning{self._number}", trace=trace, engine="replay", slowdown=1.0, peers=())
            order = Order(one, 1, 0, period_ms, deadline_ms, self._costs, {}, "simulated", None, dict(plugins),
                          {"replay": self._simulate})
            found.append(self._run(order))
        return math.fsum(found) / len(found)

    def close(self) -> None:
        self._device.close()

    def _run(self, order: Order) -> float:
        trial = order.trial
        self._device.start(order)
        state, journal_gz = self._device.wait(trial.id, 1, WAIT_S)
        self._device.clean([(trial.id, 1)])
        lines = [json.loads(line) for line in gzip.decompress(journal_gz).splitlines()]
        if state != "done":
            raise AgentFailed(f"tuning {trial.method} with {trial.settings}: {lines[-1].get('message')}", blame="user")
        window = [line for line in lines if line["kind"] == "inference" and line["phase"] == "window"]
        right = sum(bool(line["correct"]) and line["met"] is not False for line in window)
        return 100.0 * right / max(1, len(window))


def draws(space: Mapping[str, Range], count: int, seed: int) -> list[dict[str, Any]]:
    """`count` configurations, the first one empty (the defaults); the same for the same seed."""
    rng = random.Random(seed)
    return [{}, *({name: _draw(space[name], rng) for name in sorted(space)} for _ in range(count - 1))]


def search(space: Mapping[str, Range], count: int, seed: int, score: Callable[[dict[str, Any]], float]) -> list[Draw]:
    """Every draw with its score, in order. The best is the first of the highest score."""
    return [Draw(settings, round(score(settings), 4)) for settings in draws(space, count, seed)]


def best_of(found: Sequence[Draw]) -> Draw:
    return max(found, key=lambda draw: draw.score)


def _draw(span: Range, rng: random.Random) -> float:
    whole = isinstance(span.low, int) and isinstance(span.high, int)
    if whole and not span.log:
        return rng.randint(int(span.low), int(span.high))
    value = math.exp(rng.uniform(math.log(span.low), math.log(span.high))) if span.log else rng.uniform(*span[:2])
    return round(value) if whole else float(f"{value:.4g}")
