"""Figures of an evolution: decision, weights derived from the parent's, session, first inference; cold and warm.

Run by `make bench`. Every float32 branch of resnet20 with random weights, in turn. Cold: the first time in a new
engine, in a process that has run others, with the files in the page cache; warm: derived before by this engine. A
decision is a search of adaspring, forced by an accuracy floor that changes each time. No speed is asserted.
"""
import json
import random
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from device_agents import registry
from device_agents.seams import Adapter, Engine
from device_agents.wire import AdapterView, Branch, BranchBundle, Context, Cost
from workloads.branches import trained
from workloads.evolve import RECIPE, WEIGHTS, evolve_files
from workloads.export import to_onnx
from workloads.models.resnet20 import Resnet20

SHAPE, CLASSES, ROUNDS = (3, 32, 32), 10, 12
PARTS = ("decide", "derive", "session", "first")
STATES = {"cold": "cold (first in its engine)", "warm": "warm (derived before)"}
COMMAND = "make bench (python tests/benchmarks/record.py evolve)"
PAPER = "AdaSpring states <= 6.2 ms for an evolution [paper], on other devices, of other networks: no comparison"


def main() -> None:
    with tempfile.TemporaryDirectory() as store:
        bundle, note = made(Path(store))
        rounds = [spent for _ in range(ROUNDS) for spent in one_round(bundle, store)]
    for state in ("cold", "warm"):
        chosen = [spent for spent in rounds if spent["state"] == state]
        middle = {part: quantile([spent[part] for spent in chosen], 0.5) for part in PARTS}
        whole = [sum(spent[part] for part in PARTS) for spent in chosen]
        split = ", ".join(f"{part} {ms:.3f}" for part, ms in middle.items())
        print(json.dumps({
            "figure": f"evolution of resnet20, {STATES[state]}, median", "value": round(quantile(whole, 0.5), 3),
            "target": "", "unit": "ms", "command": COMMAND,
            "note": f"p95 {quantile(whole, 0.95):.3f} ms of {len(whole)}; medians in ms: {split}; {note}; {PAPER}"}))


def made(store: Path) -> tuple[BranchBundle, str]:
    """The bundle in its store, and what it weighs."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    specs = trained(Resnet20().branches())
    net = Resnet20().build(SHAPE, CLASSES, specs).eval()
    plains = {spec.id: net.extract(spec).eval() for spec in specs}
    for plain in plains.values():               # equal tensors would be written once: none are, in a trained network
        for norm in (module for module in plain.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    exported = {branch: to_onnx(plain, SHAPE) for branch, plain in plains.items()}
    files = evolve_files(net, plains, exported)
    files["samples"] = np.random.default_rng(0).standard_normal(SHAPE).astype("<f4").tobytes()
    digests = {name: sha256(data).hexdigest() for name, data in files.items()}
    for name, data in files.items():
        (store / digests[name]).write_bytes(data)
    branches = tuple(Branch(spec.id, digests[spec.id + RECIPE], 0.9 - number / 100, 10 ** 7, 10 ** 5, 10 ** 5)
                     for number, spec in enumerate(specs))
    recipes_b = sum(len(files[spec.id + RECIPE]) for spec in specs)
    note = (f"{len(specs)} recipes of {recipes_b / 1e6:.2f} MB and weights of {len(files[WEIGHTS]) / 1e6:.2f} MB "
            f"for {sum(map(len, exported.values())) / 1e6:.2f} MB of ONNX files")
    return BranchBundle("0" * 64, "random", "resnet20", 0, CLASSES, SHAPE, "float32", digests["samples"], "", 1,
                        branches, {"form": "evolve"}), note


def one_round(bundle: BranchBundle, store: str) -> list[dict[str, Any]]:
    """Each branch twice, with a new engine: first cold, then warm."""
    engine = registry.load("device_agents.engines", "onnxruntime_evolve", Engine)()
    engine.open(bundle, store, {})
    decide = searching(bundle)
    spent = []
    for state in ("cold", "warm"):
        for branch in bundle.branches:
            decide_ms = decide()
            parts = engine.load(branch.id, {})
            begun = time.perf_counter()
            engine.infer(branch.id, 0)
            first_ms = (time.perf_counter() - begun) * 1e3
            engine.unload(branch.id)
            assert parts["cold"] == (state == "cold")
            spent.append({"state": state, "decide": decide_ms, "derive": parts["derive_ms"],
                          "session": parts["session_ms"], "first": first_ms})
    return spent


def searching(bundle: BranchBundle) -> Any:
    """A call that makes adaspring search once and returns what that took, in ms."""
    adapter: Adapter = registry.load("device_agents.adapters", "adaspring", Adapter)()
    costs = {branch.id: Cost(branch.id, "onnxruntime_evolve", 20.0 - number, None, None, None, None, "stated")
             for number, branch in enumerate(bundle.branches)}
    adapter.start(AdapterView(50.0, 0.5, None, bundle.branches, costs, {"hold": 1}, random.Random(0)), None)
    floors = [0.5, 0.6]                         # a new accuracy floor is a change that acts at once

    def search() -> float:
        floors.reverse()
        context = Context(0, deadline_ms=50.0, accuracy_floor=floors[0], battery_pct=50.0, charging=False)
        begun = time.perf_counter()
        decision = adapter.decide(context, None)
        spent_ms = (time.perf_counter() - begun) * 1e3
        assert decision.reason.startswith("accuracy floor changed")
        return spent_ms

    return search


def quantile(values: list[float], share: float) -> float:
    """Nearest rank."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    main()
