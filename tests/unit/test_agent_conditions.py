"""What the adapter is told: scripted columns over sensed values, and nothing of the trial's secrets."""
from device_agents.clock import VirtualClock
from device_agents.conditions import Column, Conditions, Script
from device_agents.wire import AdapterView, Context, LoadTrace, Outcome, link_is_shaped, provenance_of
from tests.agent_kit import BRANCHES, make_home, order_for

TRACE = LoadTrace("x", ("t_s", "cpu_pct", "battery_pct", "deadline_ms", "deadline_x", "accuracy_floor"), (
    (1.0, 50.0, 80.0, None, 0.5, None), (2.0, 50.0, None, 5.0, None, 0.9), (3.0, 0.0, 10.0, 6.0, 2.0, None)))


def test_a_column_reads_what_the_trace_says() -> None:
    for name in (*TRACE.columns[1:], "absent"):
        column = Column(TRACE, name)
        for t_s in (-1.0, 0.0, 0.99, 1.0, 1.5, 2.0, 2.5, 3.0, 99.0):
            assert column.at(t_s) == TRACE.at(t_s, name)


def test_scripted_columns_override(tmp_path) -> None:  # type: ignore[no-untyped-def]
    order = order_for(make_home(str(tmp_path / "h")), trace=TRACE, deadline_ms=8.0, accuracy_floor=0.5)
    conditions = Conditions(order, 1000000000)

    sensed = {"battery_pct": 99.0, "charging": True, "co_cpu_pct": 7.0, "odd": 1}

    def at(t_s: float) -> Context:
        now_ns = int((1 + t_s) * 1e9)
        return conditions.context(now_ns, now_ns - 3000000, sensed, 2, 4.5)

    begin = at(0.0)
    assert (begin.battery_pct, begin.deadline_ms, begin.accuracy_floor) == (99.0, 8.0, 0.5)
    assert (begin.co_cpu_pct, begin.queue_len, begin.queue_ms, begin.latency_ms) == (7.0, 2, 3.0, 4.5)
    first, second, third = at(1.0), at(2.0), at(3.0)
    assert (first.battery_pct, first.deadline_ms, first.accuracy_floor) == (80.0, 4.0, 0.5)
    assert (second.battery_pct, second.deadline_ms, second.accuracy_floor) == (99.0, 5.0, 0.9)
    assert (third.battery_pct, third.deadline_ms, third.accuracy_floor) == (10.0, 12.0, 0.5)
    assert [one.charging for one in (begin, first, second, third)] == [True, False, True, False]


def test_feasible_counts_the_branches_that_fit_when_idle(tmp_path) -> None:  # type: ignore[no-untyped-def]
    conditions = Conditions(order_for(make_home(str(tmp_path / "h"))), 0)
    assert [conditions.feasible(limit) for limit in (1.9, 2.0, 5.0, 8.0, None)] == [0, 1, 2, 3, len(BRANCHES)]


def test_an_adapter_is_told_no_trace_seed_duration_or_correctness() -> None:
    secrets = {"trace", "seed", "duration_s", "correct", "label", "campaign", "arrival", "sample"}
    for told in (AdapterView, Context, Outcome):
        assert not secrets & set(told._fields), told


def test_the_script_of_the_link_runs_in_the_window_only(tmp_path) -> None:  # type: ignore[no-untyped-def]
    clock, trace = VirtualClock(), LoadTrace("x", ("t_s", "net_mbps"), ((1.0, 50.0), (2.0, None)))
    script = Script(trace, clock)
    clock.sleep_until(1500000000)
    assert script.now("net_mbps") is None
    script.begin(1000000000)
    assert script.now("net_mbps") is None
    clock.sleep_until(2000000000)
    assert script.now("net_mbps") == 50.0 and script.now("net_rtt_ms") is None
    clock.sleep_until(3000000000)
    assert script.now("net_mbps") is None
    alone = order_for(make_home(str(tmp_path / "h")), trace=trace).trial
    assert not link_is_shaped(alone) and link_is_shaped(alone._replace(peers=("edge",)))
    shaped = alone._replace(peers=("edge",), trace=TRACE, link={"rate_mbps": 1.0})
    assert [provenance_of(shaped, word) for word in ("measured", "emulated", "simulated")] == [
        "emulated", "emulated", "simulated"]
    assert provenance_of(shaped._replace(link={}), "measured") == "measured"
