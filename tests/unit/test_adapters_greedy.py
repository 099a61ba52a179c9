"""The greedy adapter on latencies written by hand: down after a miss, up after enough headroom, nothing else."""
import random
from typing import Any, List

import pytest

from device_agents.adapters.greedy import Greedy
from device_agents.seams import UserError
from device_agents.wire import AdapterView, Branch, Context, Cost, Outcome

#: id, MACs, idle ms
BRANCHES = (("exit", 200, 2.0), ("full", 800, 8.0), ("half", 400, 4.0))


class Played:
    """An adapter on a made-up device: latency = idle cost x `slow`; keeps the branches that it chose."""

    def __init__(self, deadline_ms: Any = 10.0, costs: bool = True, **settings: Any) -> None:
        branches = tuple(Branch(name, "0" * 64, 0.9, macs, macs, macs) for name, macs, _ in BRANCHES)
        self.idle_ms = {name: ms for name, _, ms in BRANCHES}
        known = {name: Cost(name, "replay", ms, ms, 1.0, None, None, "stated") for name, ms in self.idle_ms.items()}
        self.deadline_ms = deadline_ms
        self.adapter = Greedy()
        self.first = self.adapter.start(AdapterView(deadline_ms, None, None, branches, known if costs else {},
                                                    settings, random.Random(1)), None)
        self.last: Any = None
        self.chosen: List[str] = []

    def run(self, count: int, slow: Any = 1.0, **context: Any) -> List[str]:
        for step in range(count):
            values = dict({"deadline_ms": self.deadline_ms}, **context)
            decision = self.adapter.decide(Context(step, **values), self.last)
            self.chosen.append(decision.branch)
            latency_ms = self.idle_ms[decision.branch] * (slow if isinstance(slow, float) else slow[decision.branch])
            self.last = Outcome(decision, latency_ms, None, None)
        return self.chosen[-count:]


def test_it_starts_with_the_largest_that_fits_idle_and_stays() -> None:
    assert Played().first.branch == "full"
    assert set(Played().run(50)) == {"full"}
    assert set(Played(deadline_ms=5.0).run(50)) == {"half"}


def test_a_miss_steps_down_at_once() -> None:
    played = Played()
    played.run(5)
    assert played.run(2, 1.5) == ["full", "half"]
    assert played.run(3, 4.0)[1:] == ["exit", "exit"]


def test_headroom_steps_up_one_at_a_time_after_patience() -> None:
    played = Played(patience=6)
    played.run(5, 6.0)
    assert played.chosen[-1] == "exit"
    climbed = played.run(30)
    assert climbed[-1] == "full"
    assert climbed.index("half") >= 5
    assert climbed.index("full") - climbed.index("half") >= 6


def test_it_stays_down_without_headroom() -> None:
    """half takes 4.8 ms; full would take 9.6, which is in time, but not with a tenth on top."""
    played = Played()
    played.run(3, 1.5)
    assert set(played.run(200, 1.2)) == {"half"}
    assert played.run(20, 1.1)[-1] == "full"


def test_contention_that_lasts_does_not_make_it_oscillate() -> None:
    for slow in (1.2, 1.3, 2.0, 3.0):
        played = Played()
        played.run(20, slow)
        assert len(set(played.run(300, slow))) == 1, slow


def test_a_branch_that_suffers_more_than_others_is_tried_again_only_after_patience() -> None:
    played = Played(patience=10)
    found = played.run(220, {"full": 2.0, "half": 1.0, "exit": 1.0})
    assert 10 <= found.count("full") <= 20


def test_the_deadline_in_force_counts() -> None:
    played = Played()
    played.run(5)
    assert played.run(1, deadline_ms=3.0) == ["exit"]
    assert played.run(30, deadline_ms=20.0)[-1] == "full"


def test_no_deadline_is_always_met_and_nothing_that_meets_it_means_the_smallest() -> None:
    assert set(Played(deadline_ms=None).run(20, 9.0)) == {"full"}
    assert set(Played(deadline_ms=1.0).run(50)) == {"exit"}


def test_without_costs_it_tries_and_scales_by_macs() -> None:
    played = Played(deadline_ms=5.0, costs=False)
    assert played.run(2) == ["full", "half"]
    assert set(played.run(100)) == {"half"}


@pytest.mark.parametrize("settings, words", [({"patient": 2}, "patient"), ({"patience": 0}, "patience"),
                                             ({"headroom": "x"}, "headroom")])
def test_bad_settings_are_named(settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Played(**settings)
