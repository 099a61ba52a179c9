"""AdaSpring's selecting adapter on contexts written by hand: battery, demand, load, memory, and a constant context."""
import random
from typing import Any

import pytest

from device_agents.adapters.adaspring import Adaspring
from device_agents.seams import UserError
from device_agents.wire import AdapterView, Branch, Context, Cost, Outcome

#: id, accuracy, MACs, idle ms, peak MiB; nothing speaks for "poor"
BRANCHES = (("full", 0.95, 800, 8.0, 90.0), ("half", 0.90, 400, 4.0, 70.0), ("poor", 0.85, 500, 5.0, 70.0),
            ("exit", 0.80, 200, 2.0, 60.0))


def view(deadline_ms: Any = 10.0, period_ms: Any = None, energy_mj: Any = None, **settings: Any) -> AdapterView:
    branches = tuple(
        Branch(name, "0" * 64, accuracy, macs, macs // 10, macs) for name, accuracy, macs, _, _ in BRANCHES)
    costs = {name: Cost(name, "replay", ms, ms, 1.0, rss, (energy_mj or {}).get(name), "stated")
             for name, _, _, ms, rss in BRANCHES}
    return AdapterView(deadline_ms, None, period_ms, branches, costs, settings, random.Random(1))


class Played:
    """An adapter on a made-up device: latency = idle cost x `slow`; keeps what it decided."""

    def __init__(self, **arguments: Any) -> None:
        self.view = view(**arguments)
        self.adapter = Adaspring()
        self.decision = self.adapter.start(self.view, None)
        self.last: Any = None
        self.decided: list = []

    def run(self, count: int, slow: Any = 1.0, **context: Any) -> str:
        """`slow`: a number, numbers by branch, or a function of the step. Returns the last branch."""
        values = dict({"deadline_ms": self.view.deadline_ms}, **context)
        for step in range(count):
            self.decision = self.adapter.decide(Context(step, **values), self.last)
            self.decided.append(self.decision)
            factor = slow(step) if callable(slow) else slow[self.decision.branch] if isinstance(slow, dict) else slow
            latency_ms = self.view.costs[self.decision.branch].latency_ms * factor
            self.last = Outcome(self.decision, latency_ms, None, None)
        return str(self.decision.branch)

    def switches(self) -> int:
        return sum(one.branch != other.branch for one, other in zip(self.decided, self.decided[1:]))


def test_with_a_full_battery_or_none_the_most_accurate_that_fits_is_taken() -> None:
    assert Played().run(20) == "full"
    assert Played().run(20, battery_pct=100.0) == "full"
    assert Played(deadline_ms=8.5).run(20) == "half"                # 8 ms does not leave the margin
    assert Played(deadline_ms=None).run(20) == "full"


def test_a_falling_battery_moves_to_cheaper_branches_and_recovery_moves_back() -> None:
    played = Played()
    fallen = [played.run(10, battery_pct=float(level)) for level in range(100, 0, -5)]
    assert fallen[0] == "full" and fallen[-1] == "exit"
    costs = [played.view.costs[name].latency_ms for name in fallen]
    assert costs == sorted(costs, reverse=True)
    assert set(fallen) == {"full", "half", "exit"}
    risen = [played.run(10, battery_pct=float(level)) for level in range(5, 105, 5)]
    assert risen[-1] == "full"
    assert played.switches() == 4


def test_a_charger_counts_as_a_full_battery() -> None:
    played = Played()
    assert played.run(10, battery_pct=10.0) == "exit"
    assert played.run(10, battery_pct=10.0, charging=True) == "full"
    assert played.run(10, battery_pct=10.0, charging=False) == "exit"


def test_rising_demand_for_accuracy_moves_up_and_falling_demand_back() -> None:
    played = Played()
    assert played.run(10, battery_pct=10.0) == "exit"
    assert played.run(1, battery_pct=10.0, accuracy_floor=0.82) == "half"       # at once; "poor" fits, too
    assert played.run(1, battery_pct=10.0, accuracy_floor=0.93) == "full"
    assert played.run(10, battery_pct=10.0) == "exit"


def test_demand_weighs_even_where_the_floor_excludes_nothing() -> None:
    """At 60 % half is best; a floor that half keeps leaves it in, but gives accuracy more weight."""
    played = Played()
    assert played.run(10, battery_pct=60.0) == "half"
    assert played.run(10, battery_pct=60.0, accuracy_floor=0.89) == "full"


def test_a_tighter_deadline_moves_to_a_faster_branch_and_a_looser_one_back() -> None:
    played = Played()
    assert played.run(5) == "full"
    assert played.run(1, deadline_ms=5.0) == "half"
    assert played.run(1, deadline_ms=2.5) == "exit"
    assert played.run(40, deadline_ms=10.0) == "full"


def test_contention_moves_down_and_relief_back() -> None:
    played = Played()
    played.run(10)
    assert played.run(20, 2.0) == "half"
    assert played.run(20, 4.0) == "exit"
    assert played.run(60, 1.0) == "full"
    assert played.switches() <= 6


def test_waiting_and_period_count() -> None:
    assert Played().run(1, queue_ms=4.0) == "half"
    assert Played(deadline_ms=100.0, period_ms=5.0).run(10) == "half"


def test_memory_short_takes_a_smaller_one() -> None:
    assert Played(mem_reserve_mb=32.0).run(5, mem_free_mb=500.0) == "full"
    assert Played(mem_reserve_mb=32.0).run(1, mem_free_mb=12.0) == "half"
    played = Played(mem_reserve_mb=32.0)
    assert played.run(10, mem_free_mb=0.0) == "exit"
    assert "memory is short" in played.decision.reason
    assert played.run(1, mem_free_mb=500.0) == "full"


def test_when_nothing_fits_it_says_what_it_gave_up() -> None:
    played = Played()
    assert played.run(20, 5.0, accuracy_floor=0.88) == "half"
    assert "within memory and accuracy floor" in played.decision.reason
    played = Played()
    assert played.run(5, accuracy_floor=0.99) == "full"
    assert "most accurate in time" in played.decision.reason


def test_the_search_is_run_again_only_on_a_change_of_context() -> None:
    played = Played()
    played.run(10, battery_pct=70.0)
    found = played.decision
    for battery in (69.0, 71.5, 68.0, 66.0):
        played.run(20, lambda step: 1.0 + 0.05 * (step % 3), battery_pct=battery)
        assert played.decision is found             # not even an equal one: nothing was searched
    played.run(1, battery_pct=64.0)
    assert played.decision is not found
    assert played.decision.reason.startswith("battery changed")


def test_candidates_are_the_front_with_predicted_latencies() -> None:
    played = Played()
    played.run(30, 1.1)
    played.run(1, 1.1, battery_pct=50.0)
    assert [name for name, _ in played.decision.candidates] == ["exit", "half", "full"]      # "poor" is beaten by half
    assert dict(played.decision.candidates)["half"] == pytest.approx(4.4, rel=0.01)


@pytest.mark.parametrize("context", [
    {}, {"battery_pct": 65.0}, {"battery_pct": 34.0, "accuracy_floor": 0.82}, {"mem_free_mb": 45.0},
    {"queue_ms": 1.0, "battery_pct": 5.0}, {"accuracy_floor": 0.99}])
@pytest.mark.parametrize("slow", [1.0, 1.12, 1.9, 4.4, 9.0])
def test_no_oscillation_under_a_constant_context(context: Any, slow: float) -> None:
    played = Played()
    played.run(60, slow, **context)
    settled = played.switches()
    played.run(300, slow, **context)
    assert played.switches() == settled


@pytest.mark.parametrize("slow", [
    lambda step: 1.2 if step % 2 else 1.05,                 # around the border between full and half
    lambda step: random.Random(step).uniform(0.9, 1.4),
    {"full": 1.6, "half": 1.0, "poor": 1.0, "exit": 1.0},   # a load that only one branch feels
])
def test_it_calms_down_when_it_cannot_be_right(slow: Any) -> None:
    played = Played()
    played.run(400, slow)
    before = played.switches()
    assert before <= 40
    played.run(400, slow)
    assert played.switches() - before <= 12


def test_profiled_energy_decides_where_all_branches_have_it() -> None:
    """On a device on which half costs more joules than full, a low battery leaves half out."""
    joules = {"full": 10.0, "half": 11.0, "poor": 11.0, "exit": 3.0}
    played = Played(energy_mj=joules)
    assert {played.run(10, battery_pct=float(level)) for level in range(100, 0, -10)} == {"full", "exit"}
    assert Played(energy_mj={"full": 10.0}).run(10, battery_pct=50.0) == "half"


def test_weights_can_be_stated() -> None:
    assert Played(energy_weight_full=1.0).run(5, battery_pct=100.0) == "exit"
    assert Played(energy_weight_empty=0.0).run(5, battery_pct=1.0) == "full"


def test_branches_limits_the_choice() -> None:
    assert Played(branches=["half", "exit"]).run(10) == "half"


def test_both_forms_decide_alike() -> None:
    assert Played(form="evolve").run(10, battery_pct=50.0) == Played(form="select").run(10, battery_pct=50.0)


def test_same_input_same_decisions() -> None:
    def play() -> list:
        played, rng = Played(), random.Random(3)
        for _ in range(300):
            played.run(1, rng.uniform(0.8, 3.0), battery_pct=rng.uniform(0, 100), mem_free_mb=rng.uniform(0, 200))
        return played.decided

    assert play() == play()


@pytest.mark.parametrize("settings, words", [
    ({"branches": ["nope"]}, "nope"), ({"margins": 0.1}, "margins"), ({"margin": 2}, "margin"),
    ({"form": "evolved"}, "form"),
    ({"hold": 0}, "hold"), ({"smoothing": "x"}, "smoothing"), ({"energy_weight_empty": 2.0}, "energy_weight_empty")])
def test_bad_settings_are_named(settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Adaspring().start(view(**settings), None)


def test_without_profiled_costs_it_says_what_to_do() -> None:
    with pytest.raises(UserError, match="profile this device"):
        Adaspring().start(view()._replace(costs={}), None)
