"""The fixed adapter: each of its words, and what it says to a word that it does not know."""
import random
from typing import Any

import pytest

from device_agents.adapters.fixed import Fixed
from device_agents.seams import UserError
from device_agents.wire import AdapterView, Branch, Context, Cost

#: id, accuracy, MACs, idle ms; the one with fewest MACs is not the fastest
BRANCHES = (("full", 0.95, 800, 8.0), ("half", 0.90, 400, 4.0), ("twin", 0.90, 500, 3.5), ("dw", 0.80, 100, 3.0),
            ("exit", 0.70, 200, 2.0))


def choice(branch: Any, deadline_ms: Any = 5.0, costs: bool = True, **more: Any) -> str:
    branches = tuple(Branch(name, "0" * 64, accuracy, macs, macs, macs) for name, accuracy, macs, _ in BRANCHES)
    known = {name: Cost(name, "replay", ms, ms, 1.0, None, None, "stated") for name, _, _, ms in BRANCHES}
    settings = dict({} if branch is None else {"branch": branch}, **more)
    adapter = Fixed()
    first = adapter.start(AdapterView(deadline_ms, None, None, branches, known if costs else {}, settings,
                                      random.Random(1)), None)
    assert adapter.decide(Context(5, co_cpu_pct=100.0, deadline_ms=0.1), None) == first
    return first.branch


def test_words() -> None:
    assert choice(None) == "full"
    assert choice("full") == "full"
    assert choice("half") == "half"
    assert choice("smallest") == "exit"
    assert choice("smallest", costs=False) == "dw"


def test_idle_best_is_the_most_accurate_that_fits_and_the_faster_of_two() -> None:
    assert choice("idle-best", 5.0) == "twin"
    assert choice("idle-best", None) == "full"
    assert choice("idle-best", 1.0) == "exit"


def test_unknown_words_are_named_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"'huge'.*full, half.*idle-best"):
        choice("huge")
    with pytest.raises(UserError, match="profile"):
        choice("idle-best", costs=False)
    with pytest.raises(UserError, match="branches"):
        choice("full", branches="x")
