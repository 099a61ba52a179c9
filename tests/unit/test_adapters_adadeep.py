"""The adadeep adapter: one branch for ever, and clear words where the bundle does not have it."""
import random
from typing import Any

import pytest

from device_agents.adapters.adadeep import Adadeep
from device_agents.seams import UserError
from device_agents.wire import AdapterView, Branch, Context, Cost, Outcome


def view(*names: str, **settings: Any) -> AdapterView:
    branches = tuple(Branch(name, "0" * 64, 0.9, 100, 10, 40) for name in names)
    costs = {name: Cost(name, "replay", 5.0, 5.0, 1.0, None, None, "stated") for name in names}
    return AdapterView(5.0, None, None, branches, costs, settings, random.Random(1))


def test_it_stays_on_its_branch_whatever_happens() -> None:
    adapter = Adadeep()
    first = adapter.start(view("full", "adadeep"), None)
    assert first.branch == "adadeep"
    late = Outcome(first, 100.0, None, False)
    assert adapter.decide(Context(1, co_cpu_pct=100.0, deadline_ms=0.1, battery_pct=1.0), late) == first
    assert adapter.learned() is None


def test_settings_of_the_offline_half_are_known_and_change_nothing() -> None:
    given = view("full", "adadeep", space="own", budgets="load", storage_x=0.5, finetune_epochs=0)
    assert Adadeep().start(given, None).branch == "adadeep"
    assert Adadeep().start(view("full", "mine", branch="mine"), None).branch == "mine"


def test_a_bundle_without_it_is_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no branch 'adadeep', but: full, exit1.*for each device"):
        Adadeep().start(view("full", "exit1"), None)
    with pytest.raises(UserError, match=r"no setting 'storage'"):
        Adadeep().start(view("full", "adadeep", storage=0.5), None)
