"""Due times of every kind of arrival, and what waits when."""
from typing import Any

import pytest

from device_agents.arrivals import Arrivals, open_arrivals
from device_agents.clock import VirtualClock
from device_agents.seams import UserError
from device_agents.wire import LoadTrace

MS = 1000000
NOTHING = LoadTrace("idle", ("t_s",), ())


def arrivals(clock: VirtualClock, kind: str = "periodic", period_ms: Any = 10.0, trace: LoadTrace = NOTHING,
             seed: str = "s", end_ms: int = 100) -> Arrivals:
    return open_arrivals({"kind": kind}, period_ms, trace, seed, clock.now_ns(), clock.now_ns() + end_ms * MS, clock)


def due_ms(found: Arrivals) -> list:
    return [due_ns / MS for due_ns in found]


def test_periodic_waits_for_each_and_stops_at_the_end() -> None:
    clock = VirtualClock()
    clock.sleep_until(7 * MS)
    assert due_ms(arrivals(clock)) == [7 + 10 * step for step in range(10)]
    assert clock.now_ns() == 97 * MS


def test_closed_starts_when_the_last_ends() -> None:
    clock, found = VirtualClock(), []
    made = arrivals(clock, "closed", None)
    for due_ns in made:
        found.append(due_ns / MS)
        clock.sleep_until(clock.now_ns() + 30 * MS)
    assert found == [0, 30, 60, 90]
    assert list(made.rest()) == []
    assert made.waiting(clock.now_ns()) == 0


def test_a_slow_server_finds_a_queue_and_leaves_a_rest() -> None:
    clock = VirtualClock()
    made, waiting, taken = arrivals(clock), [], []
    for due_ns in made:
        taken.append(due_ns / MS)
        waiting.append(made.waiting(clock.now_ns()))
        clock.sleep_until(clock.now_ns() + 25 * MS)
    assert taken == [0, 10, 20, 30]
    assert waiting == [0, 1, 3, 4]                          # at 0, 25, 50, 75 ms
    assert [due_ns / MS for due_ns in made.rest()] == [40, 50, 60, 70, 80, 90]


def test_poisson_is_seeded_and_has_the_rate() -> None:
    first = due_ms(arrivals(VirtualClock(), "poisson", end_ms=20000))
    assert first == due_ms(arrivals(VirtualClock(), "poisson", end_ms=20000))
    assert first != due_ms(arrivals(VirtualClock(), "poisson", seed="other", end_ms=20000))
    assert 1800 < len(first) < 2200


def test_trace_multiplies_the_rate() -> None:
    trace = LoadTrace("x", ("t_s", "rate_x"), ((0.0, 1.0), (0.03, 2.0), (0.05, 0.0), (0.08, 1.0)))
    assert due_ms(arrivals(VirtualClock(), "trace", trace=trace)) == pytest.approx(
        [0, 10, 20, 30, 35, 40, 45, 50, 90], abs=1e-3)


def test_trace_begins_at_the_nominal_rate_and_may_end_for_good() -> None:
    trace = LoadTrace("x", ("t_s", "rate_x"), ((0.02, 0.0),))
    assert due_ms(arrivals(VirtualClock(), "trace", trace=trace)) == pytest.approx([0, 10, 20], abs=1e-3)


@pytest.mark.parametrize("kind, period_ms, trace, words", [
    ("burst", 10.0, NOTHING, "closed, periodic, poisson, trace"), ("periodic", None, NOTHING, "rate"),
    ("periodic", -1.0, NOTHING, "rate"), ("trace", 10.0, NOTHING, "rate_x")])
def test_bad_arrivals_are_refused(kind: str, period_ms: Any, trace: LoadTrace, words: str) -> None:
    with pytest.raises(UserError, match=words):
        list(arrivals(VirtualClock(), kind, period_ms, trace))
