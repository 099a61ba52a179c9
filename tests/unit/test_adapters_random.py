"""The random adapter: every branch in turn, by the seed and nothing else."""
import random
from collections import Counter
from typing import Any, List

import pytest

from device_agents.adapters.random import RandomBranch
from device_agents.seams import UserError
from device_agents.wire import AdapterView, Branch, Context

NAMES = ("full", "half", "dw", "exit")


def drawn(seed: int = 1, count: int = 400, **settings: Any) -> List[str]:
    branches = tuple(Branch(name, "0" * 64, 0.9, 100, 10, 10) for name in NAMES)
    adapter = RandomBranch()
    first = adapter.start(AdapterView(10.0, None, None, branches, {}, settings, random.Random(seed)), None)
    rest = [adapter.decide(Context(step, co_cpu_pct=float(step % 100)), None).branch for step in range(count)]
    assert rest[0] == first.branch                  # what start() had loaded is what serves first
    return rest


def test_it_visits_every_branch_about_equally() -> None:
    counts = Counter(drawn())
    assert set(counts) == set(NAMES)
    assert min(counts.values()) > 60                # of 400, 100 expected


def test_the_seed_decides() -> None:
    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_every_holds_a_draw() -> None:
    found = drawn(every=5)
    assert all(len(set(found[start:start + 5])) == 1 for start in range(0, 400, 5))
    assert set(found) == set(NAMES)


@pytest.mark.parametrize("settings, words", [({"each": 2}, "each"), ({"every": 0}, "every"), ({"every": 1.5}, "every")])
def test_bad_settings_are_named(settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        drawn(**settings)
