"""How long a decision takes: every adapter, 64 branches, contexts that change all the time."""
import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from device_agents import registry
from device_agents.seams import Adapter
from device_agents.wire import AdapterView, Branch, Context, Cost, Outcome

COMMAND = "make bench"
BRANCHES, DECISIONS, WARMUP = 64, 20000, 200


def main() -> None:
    for name in registry.names("device_agents.adapters"):
        taken_us = sorted(decisions_us(registry.load("device_agents.adapters", name, Adapter)()))
        p99_us = taken_us[int(0.99 * len(taken_us))]
        print(json.dumps({
            "figure": f"a decision of {name}, {BRANCHES} branches, p99", "value": round(p99_us / 1e3, 4),
            "target": "<= 1", "unit": "ms", "command": COMMAND,
            "note": f"median {taken_us[len(taken_us) // 2] / 1e3:.4f} ms of {DECISIONS}"}), flush=True)


def decisions_us(adapter: Adapter) -> list[float]:
    rng = random.Random(7)
    # adadeep decides on bundles that hold its own branch only; the others take it as one of many
    names = [*(f"b{number}" for number in range(BRANCHES - 1)), "adadeep"]
    branches = tuple(Branch(name, "0" * 64, 0.95 - number / 200, 10 ** 7 - 10 ** 5 * number, 10 ** 5, 10 ** 6)
                     for number, name in enumerate(names))
    costs = {branch.id: Cost(branch.id, "replay", 20.0 - 0.25 * number, 22.0, 3.0, 120.0 - number, None, "stated")
             for number, branch in enumerate(branches)}
    decision = adapter.start(AdapterView(20.0, 0.5, 25.0, branches, costs, {}, rng), None)
    taken, last = [], None
    for step in range(DECISIONS + WARMUP):
        context = Context(step * 10 ** 7, co_cpu_pct=rng.uniform(0, 100), mem_free_mb=rng.uniform(20, 200),
                          battery_pct=rng.uniform(0, 100), queue_ms=rng.uniform(0, 10), deadline_ms=rng.uniform(5, 30),
                          accuracy_floor=rng.uniform(0.5, 0.8))
        begun = time.perf_counter()
        decision = adapter.decide(context, last)
        taken.append((time.perf_counter() - begun) * 1e6)
        latency_ms = costs[decision.branch].latency_ms * rng.uniform(0.9, 3.0)
        last = Outcome(decision, latency_ms, None, latency_ms < 20.0)
    return taken[WARMUP:]


if __name__ == "__main__":
    main()
