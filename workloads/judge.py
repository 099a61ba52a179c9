"""What each combination would be worth on one device, without training or running it there.

Accuracy: inherited weights, BatchNorm recalibrated on some training samples, on a fixed stratified part of the
validation split. Latency and energy: as measured where the combination is a measured branch, otherwise predicted
(cost_model.py); a pruned or factored part by its multiply-accumulates. Everything is worked out once, and accuracies
are kept for other searches. Used by offline halves; refuses a device without the full branch's cost.
"""
import time
from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from device_agents.seams import UserError
from device_agents.wire import Cost
from workloads import compress, cost_model, train
from workloads.branches import BranchSpec
from workloads.combinations import Choice, Parts, Space, inherit, parts_of
from workloads.export import folded
from workloads.judgements import Judgement, Judgements
from workloads.seams import Dataset, Task
from workloads.splits import stratified
from workloads.supernet import SuperNet

SAMPLES, RECALIBRATION, SEED = 500, 512, 20_180_610
FLOPS_A_MAC = 2                                 # forwards; nothing is trained here


class Estimate(NamedTuple):
    """`energy_x` and `storage_x` are shares of the full branch's. Storage: folded parameters in float32."""

    name: str
    accuracy: float
    latency_ms: float
    storage_x: float
    energy_x: float


class _Raw(NamedTuple):
    name: str
    accuracy: float
    latency_ms: float
    storage_b: int
    drain: float                                # mJ, or ms where joules were not profiled for all


class Judge:
    """Estimates of a space's combinations, of which the full branch is one."""

    def __init__(self, net: SuperNet, space: Space, task: Task, data: Dataset, costs: Mapping[str, Cost],
                 judgements: Judgements) -> None:
        """`borrowed_s` will say what accuracies took that another search has found."""
        self.net, self.space, self.shape, self.data = net, space, task.shape, data
        self.judgements, self.borrowed_s = judgements, 0.0
        rows, _ = stratified(data.val.y, min(SAMPLES, len(data.val.y)), SEED)
        self.val = data.val._replace(x=data.val.x[rows], y=data.val.y[rows])
        self.passes, self.flops = 0, 0.0
        self._seen: dict[Choice, Estimate] = {}
        known = {spec: costs[spec.id] for spec in net.specs if spec.id in costs and costs[spec.id].latency_ms > 0}
        if net.specs[0] not in known:
            raise UserError(f"no idle cost of branch {net.specs[0].id!r} is known on this device; profile it first")
        joules = {spec.id: cost.energy_mj for spec, cost in known.items() if cost.energy_mj}
        self.energy_profiled = len(joules) == len(known)
        self._ms = {spec.id: cost.latency_ms for spec, cost in known.items()}
        self._drain = joules if self.energy_profiled else self._ms
        parts = {spec.id: parts_of(inherit(net, spec), spec, self.shape) for spec in known}
        self.latency_rows = [(parts[name], value) for name, value in self._ms.items()]
        self.drain_rows = [(parts[name], value) for name, value in self._drain.items()]
        self._latency, self._energy = cost_model.fitted(self.latency_rows), cost_model.fitted(self.drain_rows)
        self.uncompressed = next(choice for choice in space.every() if space.spec(choice) == net.specs[0])
        self._full = self._raw(self.uncompressed)
        self.full = self.estimate(self.uncompressed)

    def __len__(self) -> int:
        """Combinations worked out so far."""
        return len(self._seen)

    def network(self, choice: Choice) -> nn.Sequential:
        """The plain network, before recalibration."""
        plain, extra = inherit(self.net, self.space.spec(choice)), self.space.extra(choice)
        if extra.get("prune"):
            plain = compress.pruned(plain, extra["prune"])
        if extra.get("rank"):
            plain = compress.factored(plain, int(extra["rank"]))
        return plain

    def estimate(self, choice: Choice) -> Estimate:
        if choice not in self._seen:
            raw, full = self._full if choice == self.uncompressed else self._raw(choice), self._full
            self._seen[choice] = Estimate(raw.name, raw.accuracy, raw.latency_ms, raw.storage_b / full.storage_b,
                                          raw.drain / full.drain)
        return self._seen[choice]

    def name(self, choice: Choice) -> str:
        extra = self.space.extra(choice)
        return "".join([self.space.spec(choice).id, *(f"+{name}{value:g}" for name, value in extra.items() if value)])

    def _raw(self, choice: Choice) -> _Raw:
        spec, plain = self.space.spec(choice), self.network(choice)
        whole, parts = parts_of(inherit(self.net, spec), spec, self.shape), parts_of(plain, spec, self.shape)
        passes = len(self.val.y) + recalibrated(len(self.data.train.y), RECALIBRATION)
        self.passes += passes
        self.flops += float(FLOPS_A_MAC * passes * sum(parts.values()))
        storage_b = sum(4 * parameter.numel() for parameter in folded(plain).parameters())
        return _Raw(self.name(choice), self._accuracy(self.name(choice), plain),
                    _cost(self._ms, self._latency, spec, whole, parts), storage_b,
                    _cost(self._drain, self._energy, spec, whole, parts))

    def _accuracy(self, name: str, plain: nn.Sequential) -> float:
        found = self.judgements.get(name)
        if found is not None:
            self.borrowed_s += found.seconds
            return found.accuracy
        began = time.monotonic()
        train.recalibrate(plain, self.data.train, limit=RECALIBRATION)
        accuracy = train.accuracy(plain, self.val)
        self.judgements.add(name, Judgement(accuracy, time.monotonic() - began))
        return accuracy


def recalibrated(count: int, limit: int = 4096, batch: int = 128) -> int:
    """How many of `count` samples train.recalibrate() sends forwards: whole batches, or all that fill none."""
    rows = min(limit, count)
    return rows // batch * batch or rows


def _cost(measured: Mapping[str, float], model: cost_model.CostModel, spec: BranchSpec, whole: Parts,
          parts: Parts) -> float:
    """The path's cost, measured or predicted, times what the model says that pruning and factoring leave of it."""
    cost = measured.get(spec.id, model.predict(whole))
    return cost * model.predict(parts) / model.predict(whole) if parts != whole else cost
