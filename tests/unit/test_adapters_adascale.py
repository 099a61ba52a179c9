"""AdaScale's adapter on contexts written by hand: what it reacts to, and what it must not do."""
import random
from typing import Any

import pytest

from device_agents.adapters.adascale import Adascale
from device_agents.seams import UserError
from device_agents.wire import AdapterView, Branch, Context, Cost, Outcome

#: id, accuracy, MACs, idle ms, peak MiB
BRANCHES = (("full", 0.95, 800, 8.0, 90.0), ("half", 0.90, 400, 4.0, 70.0), ("exit", 0.80, 200, 2.0, 60.0))


def view(deadline_ms: Any = 10.0, period_ms: Any = None, **settings: Any) -> AdapterView:
    branches = tuple(
        Branch(name, "0" * 64, accuracy, macs, macs // 10, macs) for name, accuracy, macs, _, _ in BRANCHES)
    costs = {name: Cost(name, "replay", ms, ms, 1.0, rss, None, "stated") for name, _, _, ms, rss in BRANCHES}
    return AdapterView(deadline_ms, None, period_ms, branches, costs, settings, random.Random(1))


class Played:
    """An adapter on a made-up device: latency = idle cost x `slow`; keeps the branches that it chose."""

    def __init__(self, **arguments: Any) -> None:
        self.view = view(**arguments)
        self.adapter = Adascale()
        self.last: Any = None
        self.decision = self.adapter.start(self.view, None)
        self.chosen: list = []

    def run(self, count: int, slow: Any = lambda _: 1.0, **context: Any) -> "Played":
        values = dict({"deadline_ms": self.view.deadline_ms}, **context)
        for step in range(count):
            self.decision = self.adapter.decide(Context(step, **values), self.last)
            self.chosen.append(self.decision.branch)
            latency_ms = self.view.costs[self.decision.branch].latency_ms * slow(step)
            self.last = Outcome(self.decision, latency_ms, None, None)
        return self

    def switches(self) -> int:
        return sum(one != other for one, other in zip(self.chosen, self.chosen[1:]))


def test_idle_takes_the_most_accurate_that_fits() -> None:
    assert set(Played(deadline_ms=10.0).run(20).chosen) == {"full"}
    assert set(Played(deadline_ms=8.5).run(20).chosen) == {"half"}      # 8 ms does not leave the margin
    assert set(Played(deadline_ms=None).run(20).chosen) == {"full"}


def test_contention_shrinks_it_and_relief_brings_it_back() -> None:
    played = Played().run(10)
    assert played.run(10, lambda _: 2.0).chosen[-1] == "half"
    assert played.run(20, lambda _: 4.0).chosen[-1] == "exit"
    played.run(40, lambda _: 1.0)
    assert played.chosen[-1] == "full"
    assert played.switches() <= 4


def test_first_prediction_is_seeded_by_the_load_around() -> None:
    assert Played().run(1, co_cpu_pct=80.0).chosen == ["half"]
    assert dict(Played().run(1, co_cpu_pct=80.0).decision.candidates)["half"] == pytest.approx(7.2)


def test_prediction_follows_what_is_observed() -> None:
    played = Played(deadline_ms=None).run(40, lambda _: 3.0)
    assert dict(played.decision.candidates)["full"] == pytest.approx(24.0, rel=0.01)


def test_time_spent_waiting_counts_against_the_deadline() -> None:
    assert Played().run(1, queue_ms=4.0).chosen == ["half"]
    assert Played().run(1, queue_ms=6.5).chosen == ["exit"]


def test_a_branch_slower_than_the_arrivals_is_not_taken() -> None:
    assert set(Played(deadline_ms=100.0, period_ms=5.0).run(10).chosen) == {"half"}


def test_memory_short_takes_a_smaller_one() -> None:
    played = Played(mem_reserve_mb=32.0).run(5, mem_free_mb=500.0)
    assert played.chosen[-1] == "full"
    assert played.run(1, mem_free_mb=12.0).chosen[-1] == "half"          # 20 MiB too much: full - half frees them
    assert Played(mem_reserve_mb=32.0).run(1, mem_free_mb=5.0).chosen == ["exit"]
    assert Played(mem_reserve_mb=32.0).run(1, mem_free_mb=0.0).decision.reason.startswith("memory is short")


def test_low_battery_takes_a_cheaper_one_unless_it_charges() -> None:
    assert Played().run(20, battery_pct=80.0).chosen[-1] == "full"
    assert Played().run(20, battery_pct=5.0, charging=True).chosen[-1] == "full"
    cheaper = Played().run(20, battery_pct=2.0)
    assert cheaper.chosen[-1] != "full"
    assert "battery" in cheaper.decision.reason


def test_accuracy_floor_rules_branches_out() -> None:
    played = Played().run(20, lambda _: 5.0, accuracy_floor=0.85)
    assert played.chosen[-1] == "half"
    assert "accuracy floor" in played.decision.reason
    assert Played().run(20, lambda _: 5.0, accuracy_floor=0.99).chosen[-1] == "exit"


@pytest.mark.parametrize("slow", [
    lambda step: 1.12 if step % 2 else 1.1,                 # around the border between full and half
    lambda step: 1.3 if step % 12 < 6 else 0.9,
    lambda step: random.Random(step).uniform(0.9, 1.4),
])
def test_it_does_not_oscillate(slow: Any) -> None:
    played = Played().run(400, slow)
    assert played.switches() <= 40
    assert played.run(400, slow).switches() <= 60           # and it calms down


def test_one_that_fits_barely_does_not_keep_it_from_one_that_fits_amply() -> None:
    """At 1.07 times idle `full` is within the deadline's margin, but not within that of a change to it."""
    played = Played(rise=1.0, fall=1.0).run(10, lambda _: 4.0)
    assert played.chosen[-1] == "exit"
    assert played.run(60, lambda _: 1.07).chosen[-1] == "half"


def test_patience_is_for_something_better_not_for_the_same_each_time() -> None:
    """Now `full` fits by the margin of a change, now only `half` does: it goes to the one that fits all the time."""
    played = Played(rise=1.0, fall=1.0).run(10, lambda _: 4.0)
    assert played.chosen[-1] == "exit"
    played.run(12, lambda step: 1.0 if step % 2 else 1.1)
    assert played.chosen[-1] == "half"


def test_a_change_upwards_waits_for_patience() -> None:
    played = Played(patience=7).run(10, lambda _: 2.0)
    assert played.chosen[-1] == "half"
    before = len(played.chosen)
    played.run(40, lambda _: 1.0)
    back = played.chosen.index("full", before) - before
    assert back >= 7


def test_same_input_same_decisions() -> None:
    def play() -> list:
        played, rng, found = Played(), random.Random(3), []
        for _ in range(300):
            factor, load, battery = rng.uniform(0.8, 3.0), rng.uniform(0, 100), rng.uniform(0, 100)
            played.run(1, lambda _, factor=factor: factor, co_cpu_pct=load, battery_pct=battery)     # type: ignore[misc]
            found.append(played.decision)
        return found

    assert play() == play()


def test_pareto_limits_the_choice() -> None:
    assert set(Played(pareto=["half", "exit"]).run(10).chosen) == {"half"}


@pytest.mark.parametrize("settings, words", [
    ({"pareto": ["nope"]}, "nope"), ({"margins": 0.1}, "margins"), ({"margin": 2}, "margin"),
    ({"patience": 0}, "patience"), ({"rise": "x"}, "rise")])
def test_bad_settings_are_named(settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Adascale().start(view(**settings), None)


def test_without_profiled_costs_it_says_what_to_do() -> None:
    with pytest.raises(UserError, match="profile this device"):
        Adascale().start(view()._replace(costs={}), None)
