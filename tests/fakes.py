"""Made-up but plausible trials and journals, for tests of whatever reads them: ingest, derive, reports, status.

`write_journal` plays a small queue model (seeded, no clock) and writes what an agent would have written, line by line.
Nothing here stands in for our own code: the output is input data, and every number is invented, whatever provenance
the journal is told to claim.
"""
import gzip
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_agents.wire import PROTOCOL, Branch, BranchBundle, Cost, LoadTrace, Order, Trial, sha256_of

#: id, kind, validation accuracy, MACs, idle latency in ms on a device of slowdown 1
BRANCHES = (
    ("full", "full", 0.985, 4_100_000, 4.0), ("half", "width", 0.972, 1_050_000, 2.2),
    ("depthwise", "operator", 0.964, 620_000, 1.9), ("exit2", "exit", 0.955, 2_000_000, 2.1),
    ("quarter", "width", 0.93, 280_000, 1.2), ("exit1", "exit", 0.88, 700_000, 0.9),
)
#: kind of the `energy` argument -> source, scope, provenance
ENERGY = {"counter": ("rapl", "soc", "measured"), "power": ("jetson_rail", "rail", "measured"),
          "modelled": ("modelled", "modelled", "modelled")}
BOOT_NS = 5_000_000_000_000
WALL_NS = 1_790_000_000_000_000_000


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sample_trace(name: str = "ramp", duration_s: float = 2.0) -> LoadTrace:
    """"idle": no load; anything else: rises to 80 % of all cores in four steps, and lowers the deadline at the end."""
    if name == "idle":
        return LoadTrace(name, ("t_s", "cpu_pct", "mem_mb"), ((0.0, 0.0, 0.0),))
    rows = tuple((duration_s * step / 4, 80.0 * step / 3, 16.0 * step, 1.0 if step < 3 else 0.75) for step in range(4))
    return LoadTrace(name, ("t_s", "cpu_pct", "mem_mb", "deadline_x"), rows)


def sample_bundle(task: str = "digits", model: str = "resnet8") -> BranchBundle:
    branches = tuple(
        Branch(name, _sha(f"artifact {name}"), accuracy, macs, macs // 50, macs // 12 + 4000, "float32", kind)
        for name, kind, accuracy, macs, _ in BRANCHES)
    return BranchBundle(_sha(f"bundle {task} {model}"), task, model, 7, 10, (1, 32, 32), "float32", _sha("samples"),
                        _sha("labels"), 360, branches, {"epochs": 20, "seconds": 41.5})


def sample_costs(bundle: BranchBundle | None = None, slowdown: float = 1.0, provenance: str = "measured",
                 engine: str = "onnxruntime_cpu") -> tuple[Cost, ...]:
    """Idle costs of every branch on a device `slowdown` times as slow as the first one."""
    idle = {name: latency for name, _, _, _, latency in BRANCHES}
    return tuple(
        Cost(branch.id, engine, idle[branch.id] * slowdown, idle[branch.id] * slowdown * 1.15, 3.0 * slowdown,
             60.0 + branch.size_b / 2**20, None, "profile", provenance)
        for branch in (bundle or sample_bundle()).branches)


def sample_trial(**overrides: Any) -> Trial:
    """A valid trial; the id follows from the fields that define it unless `id` is given."""
    values: dict[str, Any] = {
        "campaign": "quickstart", "device": "host", "peers": (), "task": "digits", "model": "resnet8",
        "bundle": sample_bundle().id, "method": "adascale", "label": "adascale", "settings": {"hysteresis": 0.1},
        "learned": None, "engine": "onnxruntime_cpu", "runtime": "onnxruntime 1.31.1", "knobs": {"threads": 1},
        "residency": "all", "trace": sample_trace(), "arrival": {"kind": "periodic", "rate": {"utilisation": 0.8}},
        "deadline": {"x_full": 1.3}, "late": "drop", "duration_s": 2.0, "warmup_s": 0.2, "sample_hz": 10.0,
        "accuracy_floor": None, "slowdown": 1.0, "seed": 7, "repeat": 0, "block": 0, **overrides}
    if "id" not in values:
        defining = [values[key] for key in ("device", "task", "model", "bundle", "method", "settings", "engine",
                                            "runtime", "residency", "arrival", "deadline", "late", "duration_s",
                                            "warmup_s", "seed", "repeat")]
        defining += [overrides[key] for key in ("knobs", "method_sha256") if key in overrides]
        values["id"] = sha256_of([*defining, values["trace"].digest()])[:24]
    return Trial(**values)


def sample_order(trial: Trial | None = None, **overrides: Any) -> Order:
    """The order of `trial` as the controller would resolve it: period and deadline from the full branch's idle cost."""
    trial = trial or sample_trial()
    provenance = overrides.pop("provenance", "measured" if trial.slowdown == 1.0 else "emulated")
    costs = sample_costs(slowdown=trial.slowdown, provenance=provenance, engine=trial.engine)
    full_ms = costs[0].latency_ms
    values: dict[str, Any] = {
        "attempt": 1, "token": 1, "period_ms": full_ms / 0.8, "deadline_ms": full_ms * 1.3, "costs": costs,
        "preflight": {}, "provenance": provenance, "power_model": None, "plugins": {}, **overrides}
    return Order(trial, **values)


@dataclass
class _Journal:
    """Lines of a journal in the making: counts `seq` and keeps the device's clock."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    t_ns: int = BOOT_NS

    def add(self, kind: str, phase: str, t_ns: int | None = None, **fields: Any) -> None:
        """Numbers are rounded as the agent rounds them."""
        at = self.t_ns if t_ns is None else t_ns
        rounded = {name: round(value, 4 if name == "latency_ms" else 3) if isinstance(value, float) else value
                   for name, value in fields.items()}
        self.lines.append({"seq": len(self.lines), "kind": kind, "t_ns": at, "phase": phase, **rounded})


def write_journal(path: Path | None, order: Order, inferences: int = 400, warmup: int = 12, ending: str = "done",
                  energy: str = "", throttled: bool = False) -> list[dict[str, Any]]:
    """Write a journal (gzip when `path` ends in .gz) of `inferences` window arrivals and return its lines.

    `ending`: done | failed | crashed (the file stops in the middle of a line). `energy`: "" none | counter (a RAPL-like
    energy_j) | power (power_w of a rail) | modelled. Same order, same bytes.
    """
    journal = _Journal()
    _head(journal, order, energy)
    _warm_up(journal, order, warmup)
    switches = _window(journal, order, inferences, warmup, energy, throttled)
    if ending == "done":
        journal.add("done", "cool", inferences=inferences, decisions=inferences, switches=switches,
                    sampler_cpu_pct=0.42, peak_rss_mb=74.5, learned=None)
    elif ending == "failed":
        journal.add("failed", "cool", error="agent", message="ZeroDivisionError: division by zero",
                    traceback="Traceback (most recent call last):\n  ...\nZeroDivisionError: division by zero")
    if path is not None:
        _write(path, journal.lines, cut=ending == "crashed")
    return journal.lines


def _write(path: Path, lines: Sequence[dict[str, Any]], cut: bool) -> None:
    data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    data = data[:-40] if cut else data
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _head(journal: _Journal, order: Order, energy: str) -> None:
    sensors = {"co_cpu_pct": "proc_stat", "own_cpu_pct": "proc_stat", "mem_free_mb": "proc_meminfo",
               "temp_c": "thermal", "throttled": "cpufreq", "rss_mb": "proc_status"}
    declared = {}
    if energy:
        name, scope, provenance = ENERGY[energy]
        declared[name] = {"scope": scope, "provenance": provenance}
    journal.add("start", "setup", protocol=PROTOCOL, trial=order.trial.id, attempt=order.attempt, token=order.token,
                agent="a" * 12, wall_ns=WALL_NS, boot_id="11111111-2222-3333-4444-555555555555",
                runtime=order.trial.runtime, provenance=order.provenance, sensors=sensors, energy=declared,
                fingerprint={"kernel": "6.1.0", "machine": "x86_64", "cores": 4, "governor": None, "python": "3.11.7"})
    journal.add("preflight", "setup", validity="unknown",
                findings=[{"check": "above_idle_c", "value": None, "limit": 5, "ok": None}])
    for cost in order.costs:
        journal.t_ns += int((cost.load_ms or 0) * 1e6)
        journal.add("load", "setup", branch=cost.branch, load_ms=cost.load_ms)


def _warm_up(journal: _Journal, order: Order, count: int) -> None:
    for index in range(count):
        cost = order.costs[index % len(order.costs)]
        _decide(journal, order, index, cost.branch, "warm-up runs every branch", {})
        end = journal.t_ns + int(cost.latency_ms * 1e6)
        journal.add("inference", "warmup", index=index, status="ok", due_ns=journal.t_ns, branch=cost.branch,
                    sample=index, label=index % 10, correct=True, queue_ms=0.0, decide_us=8.0, switch_ms=0.01,
                    latency_ms=cost.latency_ms, response_ms=cost.latency_ms + 0.02, met=True, queue_len=0,
                    deadline_ms=order.deadline_ms, feasible=len(order.costs))
        journal.t_ns = end


def _decide(journal: _Journal, order: Order, index: int, branch: str, reason: str, context: dict[str, Any]) -> None:
    journal.add("decision", "window" if context else "warmup", index=index, branch=branch, knobs={}, reason=reason,
                candidates=[[cost.branch, round(cost.latency_ms, 3)] for cost in order.costs], decide_us=21.5,
                context=context)


def _choose(order: Order, deadline_ms: float | None, factor: float) -> Cost:
    """fixed-* labels never move; any other method takes the most accurate branch that it predicts to fit."""
    if order.trial.label.startswith("fixed"):
        return order.costs[-1] if "small" in order.trial.label else order.costs[0]
    for cost in order.costs:
        if deadline_ms is None or cost.latency_ms * factor <= deadline_ms * 0.9:
            return cost
    return order.costs[-1]


def _window(journal: _Journal, order: Order, count: int, first: int, energy: str, throttled: bool) -> int:
    """FIFO queue over `count` arrivals, one a period (closed loop: one after the other). Returns the switches."""
    rng, start_ns = random.Random(trial_seed(order)), journal.t_ns
    free_ns, current, switches = start_ns, "", 0
    ticks = _ticks(order, start_ns, energy, throttled)
    tick_ns, values = next(ticks)
    for number in range(count):
        due_ns = free_ns if order.period_ms is None else start_ns + int(number * order.period_ms * 1e6)
        begin_ns = max(due_ns, free_ns)
        while tick_ns <= begin_ns:
            _tick(journal, order.trial, tick_ns, start_ns, values)
            tick_ns, values = next(ticks)
        journal.t_ns = begin_ns
        before, (free_ns, current) = current, _serve(journal, order, rng, first + number, start_ns, due_ns, current)
        switches += before not in ("", current)
    journal.t_ns = max(free_ns, tick_ns)
    _tick(journal, order.trial, tick_ns, start_ns, values)
    return switches


def _serve(journal: _Journal, order: Order, rng: random.Random, index: int, start_ns: int, due_ns: int,
           current: str) -> tuple[int, str]:
    """Journal what becomes of one arrival; (when the server is free again, the branch in place)."""
    begin_ns, trace, t_s = journal.t_ns, order.trial.trace, (journal.t_ns - start_ns) / 1e9
    deadline_ms = order.deadline_ms and order.deadline_ms * (trace.at(t_s, "deadline_x") or 1.0)
    factor = 1.0 + (trace.at(t_s, "cpu_pct") or 0.0) / 100.0
    waited_ms = (begin_ns - due_ns) / 1e6
    shared: dict[str, Any] = {
        "index": index, "due_ns": due_ns, "sample": index % 360, "queue_ms": waited_ms, "deadline_ms": deadline_ms,
        "queue_len": int(waited_ms // order.period_ms) if order.period_ms else 0,
        "feasible": sum(deadline_ms is None or cost.latency_ms <= deadline_ms for cost in order.costs)}
    if order.trial.late == "drop" and deadline_ms is not None and waited_ms > deadline_ms:
        journal.add("inference", "window", status="expired", branch=None, label=None, correct=None, decide_us=None,
                    switch_ms=None, latency_ms=None, response_ms=None, met=False, **shared)
        return begin_ns, current
    cost = _choose(order, deadline_ms, factor)
    if cost.branch != current:
        _decide(journal, order, index, cost.branch, f"predicted {cost.latency_ms * factor:.2f} ms fits",
                {"co_cpu_pct": round((factor - 1) * 100, 1), "deadline_ms": deadline_ms, "queue_len": 0})
    accuracy = next(entry[2] for entry in BRANCHES if entry[0] == cost.branch)
    latency_ms = cost.latency_ms * factor * rng.lognormvariate(0.0, 0.06)
    free_ns = begin_ns + int(latency_ms * 1e6) + 30_000
    response_ms = (free_ns - due_ns) / 1e6
    journal.add("inference", "window", status="ok", branch=cost.branch, label=index % 10,
                correct=rng.random() < accuracy, decide_us=rng.uniform(8, 30), switch_ms=0.012, latency_ms=latency_ms,
                response_ms=response_ms, met=None if deadline_ms is None else response_ms <= deadline_ms, **shared)
    return free_ns, cost.branch


def trial_seed(order: Order) -> int:
    """One seed for each trial, so that two trials of a fake campaign never share their noise."""
    return int(_sha(f"{order.trial.id} {order.trial.seed}")[:12], 16)


def _ticks(order: Order, start_ns: int, energy: str, throttled: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """(time, sampler values), from the window's start on."""
    rng, joules, number = random.Random(trial_seed(order) + 1), 100.0, 0
    while True:
        t_s = number / order.trial.sample_hz
        cpu = order.trial.trace.at(t_s, "cpu_pct") or 0.0
        values: dict[str, Any] = {"co_cpu_pct": cpu + rng.uniform(0, 2), "own_cpu_pct": 20.0, "mem_free_mb": 4000.0,
                                  "temp_c": 45.0 + cpu / 20 + number / 100, "throttled": float(throttled),
                                  "rss_mb": 72.5}
        power_w = 3.0 + cpu / 40
        if energy == "counter":
            values["rapl.energy_j"] = joules
        elif energy:
            values[f"{ENERGY[energy][0]}.power_w"] = power_w
        yield start_ns + int(t_s * 1e9), {name: round(value, 6) for name, value in values.items()}
        joules += power_w / order.trial.sample_hz
        number += 1


def _tick(journal: _Journal, trial: Trial, t_ns: int, start_ns: int, values: dict[str, Any]) -> None:
    t_s = (t_ns - start_ns) / 1e9
    journal.add("sample", "window", t_ns, values=values, cost_us=160.0)
    if round(t_s * trial.sample_hz) % 10 == 0:
        asked = trial.trace.at(t_s, "cpu_pct") or 0.0
        memory = trial.trace.at(t_s, "mem_mb") or 0.0
        journal.add("loadgen", "window", t_ns, asked_cpu_pct=asked, achieved_cpu_pct=asked * 0.98, asked_mem_mb=memory,
                    achieved_mem_mb=memory, span_s=1.0)
