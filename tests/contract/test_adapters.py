"""What every file in adapters/ promises, ours and a user's (EDGEFLEET_PLUGINS, folders separated by ":")."""
import ast
import os
import random
import sys
from typing import Any

import pytest

from device_agents import registry
from device_agents.seams import Adapter
from device_agents.wire import AdapterView, Branch, Context, Cost, Decision, Outcome

PLUGINS = [folder for folder in os.environ.get("EDGEFLEET_PLUGINS", "").split(os.pathsep) if folder]
NAMES = registry.names("device_agents.adapters", PLUGINS)
#: what Python 3.6 has and an adapter may want; a device has nothing else
ALLOWED = {"device_agents", "typing", "math", "random", "collections", "itertools", "functools", "json", "bisect",
           "statistics", "heapq", "operator", "enum", "struct", "array", "copy", "hashlib"}
#: the last is what the offline half of adadeep adds to a bundle
NAMES_OF_BRANCHES = (*(f"b{number}" for number in range(11)), "adadeep")
BRANCHES = tuple(Branch(name, "0" * 64, 0.95 - number / 100, 1000 - 10 * number, 100, 400)
                 for number, name in enumerate(NAMES_OF_BRANCHES))


@pytest.fixture(params=NAMES)
def adapter(request: Any) -> Any:
    """The class."""
    return registry.load("device_agents.adapters", request.param, Adapter, PLUGINS)


def view(settings: Any = None, deadline_ms: Any = 10.0, seed: int = 1) -> AdapterView:
    costs = {branch.id: Cost(branch.id, "replay", 12.0 - number, 13.0 - number, 1.0, 90.0 - number, None, "stated")
             for number, branch in enumerate(BRANCHES)}
    return AdapterView(deadline_ms, None, 12.0, BRANCHES, costs, settings or {}, random.Random(seed))


def context(rng: random.Random, step: int) -> Context:
    return Context(step * 10 ** 7, co_cpu_pct=rng.uniform(0, 100), mem_free_mb=rng.uniform(0, 200),
                   battery_pct=rng.uniform(0, 100), charging=rng.random() < 0.2, temp_c=rng.uniform(20, 90),
                   throttled=rng.random() < 0.1, power_w=rng.uniform(1, 9), queue_len=rng.randrange(4),
                   queue_ms=rng.uniform(0, 15), deadline_ms=rng.uniform(2, 20), accuracy_floor=rng.uniform(0.5, 1.0))


def play(made: Any, steps: int = 200) -> list:
    rng, decision = random.Random(5), made.start(view(), None)
    decisions, last = [decision], None
    for step in range(steps):
        decision = made.decide(context(rng, step), last)
        decisions.append(decision)
        latency_ms = rng.uniform(1, 30)
        last = Outcome(decision, latency_ms, rng.choice([None, 5.0]), latency_ms < 10)
    return decisions


def test_it_always_decides_on_a_branch_of_the_bundle(adapter: Any) -> None:
    known = {branch.id for branch in BRANCHES}
    for decision in play(adapter()):
        assert decision.__class__ is Decision and decision.branch in known
        assert isinstance(decision.knobs, dict) and decision.reason
        assert all(name in known for name, _ in decision.candidates)


def test_same_view_and_contexts_same_decisions(adapter: Any) -> None:
    assert play(adapter()) == play(adapter())


def test_it_lives_with_senses_that_know_nothing(adapter: Any) -> None:
    made = adapter()
    decision = made.start(view(deadline_ms=None), None)
    for step in range(50):
        decision = made.decide(Context(step), Outcome(decision, 5.0, None, None) if step else None)
        assert decision.branch in {branch.id for branch in BRANCHES}


def test_it_does_not_change_what_it_is_given(adapter: Any) -> None:
    given = view()
    before = (dict(given.costs), dict(given.settings), given.branches)
    made = adapter()
    made.start(given, None)
    play(made, 20)
    assert (given.costs, given.settings, given.branches) == before


def test_learned_is_bytes_or_nothing(adapter: Any) -> None:
    made = adapter()
    play(made, 50)
    learned = made.learned()
    assert learned is None or isinstance(learned, bytes)


def test_it_needs_nothing_but_the_standard_library(adapter: Any) -> None:
    module = sys.modules[adapter.__module__]
    with open(module.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    assert ast.get_docstring(tree)
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            rooms.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            rooms.add((node.module or "").partition(".")[0])
    assert rooms <= ALLOWED
