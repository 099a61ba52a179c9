"""The equal tuning budget: random search over a method's settings, scored on a simulated twin of the device.

Called by prepare.py. The twin runs the agent's own loop on a virtual clock with the device's measured costs and a
stated contention, on traces whose seeds the evaluation never uses; correctness follows validation accuracy, so the
test split is not touched. Peers are twins too: their costs, idle, over the link that the campaign asks for. One score
for all: on-time accuracy, mean over the traces; a method that learns is scored frozen, after lessons inside the twin.
The first configuration is the method's defaults, so that tuning never ends below them on its own traces.
"""
import gzip
import hashlib
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
from harness.preparation import learned_in
from workloads.bundle import BundleFolder, write_file
from workloads.seams import Range

CONTENTION = 1.0                                # latency x (1 + share of the cores that others use): a fair scheduler's
JITTER = 0.05
WAIT_S = 600.0


class Draw(NamedTuple):
    """One configuration and its score: on-time accuracy in %, mean over the tuning traces."""

    settings: dict[str, Any]
    score: float


class Lesson(NamedTuple):
    """One trial of a training chain inside the twin."""

    trace: LoadTrace
    duration_s: float
    seed: int


class Twin:
    """A device's simulated twin: open one, score configurations, close it. `plugins` as device.plugin_files gives them;
    `peers` = what the branches cost at each peer."""

    def __init__(self, home: Home, device: DeviceSpec, folder: BundleFolder, costs: Mapping[str, Cost],
                 plugins: Mapping[str, tuple[str, Path]], peers: Mapping[str, Sequence[Cost]]) -> None:
        simulate = {"latency_ms": {name: cost.latency_ms for name, cost in costs.items()},
                    "load_ms": {name: cost.load_ms or 0.0 for name, cost in costs.items()},
                    "peers": {name: {cost.branch: cost.latency_ms for cost in found} for name, found in peers.items()},
                    "contention": CONTENTION, "jitter": JITTER}
        spec = DeviceSpec(name=f"{device.name}.twin", transport="simulated", simulate=simulate)
        self._device: Device = open_device(spec, home)
        self._costs = tuple(cost._replace(engine="replay", provenance="simulated") for cost in costs.values())
        self._simulate, self._number = simulate, 0
        self._store, self._learned = home.device(spec.name) / "store", set[Path]()
        self._plugins = {name: digest for name, (digest, _) in plugins.items()}
        self._device.push({**folder.files, **dict(plugins.values())})

    def score(self, trial: Trial, lessons: Sequence[Lesson], traces: Sequence[LoadTrace], period_ms: float | None,
              deadline_ms: float | None) -> float:
        """On-time accuracy in %, mean over `traces`, of the trial's method with the trial's settings.

        Where there are lessons it learns from them first, each from what the one before has taught.
        """
        for lesson in lessons:
            journal_gz = self._run(trial._replace(trace=lesson.trace, seed=lesson.seed, duration_s=lesson.duration_s,
                                                  settings={**trial.settings, "learn": True}), period_ms, deadline_ms)
            trial = trial._replace(learned=self._keep(learned_in(journal_gz, trial)))
        if lessons:
            trial = trial._replace(settings={**trial.settings, "learn": False})
        return math.fsum(_on_time_pct(self._run(trial._replace(trace=trace), period_ms, deadline_ms))
                         for trace in traces) / len(traces)

    def close(self) -> None:
        for path in self._learned:              # of no use to anybody: other settings have learned it
            path.unlink(missing_ok=True)
        self._device.close()

    def _keep(self, learned: bytes) -> str:
        digest = hashlib.sha256(learned).hexdigest()
        self._learned.add(self._store / digest)
        write_file(self._store / digest, learned)
        return digest

    def _run(self, trial: Trial, period_ms: float | None, deadline_ms: float | None) -> bytes:
        """The journal of one trial on the twin. Raises AgentFailed."""
        self._number += 1
        trial = trial._replace(id=f"tuning{self._number}", engine="replay", slowdown=1.0)
        self._device.clean([(trial.id, 1)])     # of a run that was killed here
        self._device.start(Order(trial, 1, 0, period_ms, deadline_ms, self._costs, {}, "simulated", None,
                                 dict(self._plugins), {"replay": self._simulate}))
        state, journal_gz = self._device.wait(trial.id, 1, WAIT_S)
        self._device.clean([(trial.id, 1)])
        if state != "done":
            last = json.loads(gzip.decompress(journal_gz).splitlines()[-1])
            raise AgentFailed(f"tuning {trial.method} with {trial.settings}: {last.get('message')}", blame="user")
        return journal_gz


def _on_time_pct(journal_gz: bytes) -> float:
    lines = [json.loads(line) for line in gzip.decompress(journal_gz).splitlines()]
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
