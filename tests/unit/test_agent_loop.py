"""The loop on a virtual clock: whole trials through the same code as on a device, with stated costs."""
import base64
import hashlib
import json
import os
from typing import Any

import pytest

from device_agents.simulation import simulate
from device_agents.trial_folder import BadOrder, TrialFolder
from device_agents.wire import LoadTrace, Order
from tests.agent_kit import BRANCHES, costs_of, journal_of, make_home, order_for, push, put

EXACT = {"replay": {"jitter": 0.0, "contention": 1.0}}


@pytest.fixture
def home(tmp_path: Any) -> str:
    return str(tmp_path / "H")


def play(home: str, expect: str = "done", bundle: Any = None, plugins: Any = None, **order: Any) -> list:
    bundle = bundle or make_home(home)
    named = {name: put(os.path.join(home, "store"), text.encode("utf-8")) for name, text in (plugins or {}).items()}
    name = push(home, order_for(bundle, plugins=named, **dict({"extra": EXACT}, **order)))
    assert simulate(home, name) == expect
    lines = journal_of(home, name)
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    return lines


def kinds(lines: Any, kind: str, phase: str = "") -> list:
    return [line for line in lines if line["kind"] == kind and phase in ("", line["phase"])]


def test_closed_loop_serves_one_after_the_other(home: str) -> None:
    lines = play(home, duration_s=0.4)
    served = kinds(lines, "inference", "window")
    assert len(served) == 50                                # 8 ms each
    assert {line["latency_ms"] for line in served} == {8.0}
    assert [line["due_ns"] for line in served[1:]] == [line["t_ns"] + 8000000 for line in served[:-1]]
    assert all(line["met"] is None and line["queue_ms"] == 0.0 for line in served)
    done = lines[-1]
    assert (done["kind"], done["inferences"], done["decisions"], done["switches"]) == ("done", 50, 1, 0)
    assert done["peak_rss_mb"] is None and done["learned"] is None


def test_journal_tells_the_whole_story(home: str) -> None:
    lines = play(home, duration_s=0.1, warmup_s=0.05)
    start = lines[0]
    assert (start["kind"], start["protocol"], start["trial"], start["runtime"]) == ("start", 1, "t1", "replay 1")
    assert lines[0]["provenance"] == "simulated"
    assert kinds(lines, "preflight")[0]["validity"] == "unknown"
    assert [line["branch"] for line in kinds(lines, "load")] == [name for name, *_ in BRANCHES]
    warm = kinds(lines, "inference", "warmup")
    assert {line["branch"] for line in warm} == {name for name, *_ in BRANCHES}
    assert all(line["decide_us"] is None for line in warm)
    numbers = [line["index"] for line in kinds(lines, "inference")]
    assert numbers == list(range(len(numbers)))
    assert {line["phase"] for line in lines} == {"setup", "warmup", "window", "cool"}
    decision = kinds(lines, "decision")[0]
    assert decision["phase"] == "window" and decision["index"] == len(warm)
    assert kinds(lines, "sample", "window")


def test_window_is_as_long_as_ordered(home: str) -> None:
    lines = play(home, arrival={"kind": "periodic"}, period_ms=10.0, duration_s=0.5)
    served = kinds(lines, "inference", "window")
    assert [line["due_ns"] - served[0]["due_ns"] for line in served] == [step * 10000000 for step in range(50)]
    assert lines[-1]["t_ns"] >= served[0]["due_ns"] + 500000000


def test_late_arrivals_are_dropped_or_served(home: str, tmp_path: Any) -> None:
    slow = {"arrival": {"kind": "periodic"}, "period_ms": 5.0, "deadline_ms": 10.0, "duration_s": 0.2}
    dropped = kinds(play(home, **slow), "inference", "window")
    statuses = {line["status"] for line in dropped}
    assert statuses == {"ok", "expired", "unserved"}
    for line in dropped:
        if line["status"] == "expired":
            assert line["queue_ms"] > 10.0 and line["met"] is False and line["branch"] is None
        elif line["status"] == "ok":
            assert line["queue_ms"] <= 10.0
            assert line["response_ms"] == pytest.approx(line["queue_ms"] + line["latency_ms"])
            assert line["met"] == (line["response_ms"] <= 10.0)
    assert len(dropped) == 40
    served = kinds(play(str(tmp_path / "other"), late="serve", **slow), "inference", "window")
    assert len(served) == 40 and {line["status"] for line in served} == {"ok", "unserved"}
    assert sum(line["status"] == "ok" for line in served) == 25
    queue = [line["queue_len"] for line in served if line["status"] == "ok"]
    assert queue == sorted(queue) and queue[-1] > 10


def test_unserved_ones_are_missed_only_if_their_deadline_has_passed(home: str) -> None:
    lines = play(home, arrival={"kind": "periodic"}, period_ms=5.0, deadline_ms=20.0, duration_s=0.2, late="serve")
    rest = [line for line in kinds(lines, "inference") if line["status"] == "unserved"]
    assert [line["met"] for line in rest] == [False if line["queue_ms"] > 20.0 else None for line in rest]
    assert {line["met"] for line in rest} == {False, None}


def test_samples_depend_on_the_arrival_alone(home: str, tmp_path: Any) -> None:
    arrival = {"arrival": {"kind": "periodic"}, "period_ms": 5.0, "deadline_ms": 10.0, "duration_s": 0.2}
    one = kinds(play(home, **arrival), "inference", "window")
    other = kinds(play(str(tmp_path / "o"), settings={"branch": "exit"}, **arrival), "inference", "window")
    assert [line["sample"] for line in one] == [line["sample"] for line in other]
    assert sorted(line["sample"] for line in one[:20]) == list(range(20))


def test_same_order_same_bytes_and_another_seed_other_ones(home: str, tmp_path: Any) -> None:
    trace = LoadTrace("ramp", ("t_s", "cpu_pct", "battery_pct"),
                      ((0.0, 0.0, 90.0), (0.2, 80.0, 20.0), (0.4, 10.0, 5.0)))

    def run(path: str, seed: int) -> bytes:
        play(path, seed=seed, trace=trace, method="adascale", settings={}, deadline_ms=9.0, extra={}, duration_s=1.0,
             arrival={"kind": "poisson"}, period_ms=9.0)
        with open(os.path.join(path, "trials", "t1.1", "trial.jsonl"), "rb") as file:
            return file.read()

    first = run(home, 7)
    assert first == run(str(tmp_path / "again"), 7)
    assert first != run(str(tmp_path / "other"), 8)


def test_load_slows_and_adascale_gives_way(home: str) -> None:
    trace = LoadTrace("step", ("t_s", "cpu_pct"), ((0.0, 0.0), (0.5, 100.0), (1.0, 0.0)))
    lines = play(home, trace=trace, method="adascale", settings={}, deadline_ms=10.0, duration_s=2.0)
    window = kinds(lines, "inference", "window")
    begin = window[0]["due_ns"]

    def branches(from_s: float, to_s: float) -> set:  # type: ignore[type-arg]
        return {line["branch"] for line in window if from_s <= (line["t_ns"] - begin) / 1e9 < to_s}

    assert branches(0.0, 0.5) == {"full"}
    assert branches(0.6, 0.95) == {"half"}
    assert branches(1.5, 2.0) == {"full"}
    assert lines[-1]["switches"] == 2
    assert len(kinds(lines, "decision")) == lines[-1]["decisions"]
    assert {line["asked_cpu_pct"] for line in kinds(lines, "loadgen")} == {0.0, 100.0}


def test_scripted_deadline_reaches_the_journal(home: str) -> None:
    trace = LoadTrace("d", ("t_s", "deadline_ms"), ((0.0, 9.0), (0.1, 5.0)))
    window = kinds(play(home, trace=trace, deadline_ms=20.0, duration_s=0.2), "inference", "window")
    found = {(line["deadline_ms"], line["met"], line["feasible"]) for line in window}
    assert found == {(9.0, True, 3), (5.0, False, 2)}


def test_residency_of_one_loads_at_each_switch(home: str) -> None:
    plugin = ADAPTER % "Decision('full' if self.n % 2 else 'exit', {}, 'turns')"
    lines = play(home, residency="one", method="mine", settings={}, plugins={"adapters/mine": plugin}, duration_s=0.1)
    window = kinds(lines, "inference", "window")
    assert {line["switch_ms"] for line in window[1:]} == {1.0}
    assert len(kinds(lines, "unload", "window")) >= len(window) - 1


ADAPTER = """'''A user's adapter.'''
from device_agents.seams import Adapter
from device_agents.wire import Decision

class Mine(Adapter):
    def start(self, view, learned):
        self.n = 0
        return Decision('exit')

    def decide(self, context, last):
        self.n += 1
        return %s

    def learned(self):
        return b'knows'
"""


def test_learned_bytes_leave_with_the_journal_and_stay_nowhere_else(home: str) -> None:
    lines = play(home, method="mine", settings={}, plugins={"adapters/mine": ADAPTER % "Decision('exit')"})
    left, = kinds(lines, "learned", "cool")
    assert base64.b64decode(left["base64"]) == b"knows"
    assert left["sha256"] == lines[-1]["learned"] == hashlib.sha256(b"knows").hexdigest()
    assert not os.path.exists(os.path.join(home, "store", left["sha256"]))


def test_more_than_an_artifact_may_hold_is_the_users(home: str) -> None:
    text = (ADAPTER % "Decision('exit')").replace("b'knows'", "b'x' * 2000000")
    lines = play(home, "user", method="mine", settings={}, plugins={"adapters/mine": text})
    assert "2000000 bytes" in lines[-1]["message"]


@pytest.mark.parametrize("expression, words", [
    ("1 / 0", "division"), ("Decision('nope')", "nope"), ("None", "not a Decision"), ("'full'", "not a Decision")])
def test_a_users_adapter_that_fails_is_the_users(home: str, expression: str, words: str) -> None:
    lines = play(home, "user", method="mine", settings={}, plugins={"adapters/mine": ADAPTER % expression})
    last = lines[-1]
    assert (last["kind"], last["error"], last["phase"]) == ("failed", "user", "window")
    assert words in last["message"] and "Traceback" in last["traceback"]


@pytest.mark.parametrize("text", ["def broken(:\n", "x = 1\n", "import nowhere_to_be_found\n"])
def test_a_plugin_that_is_none_is_the_users(home: str, text: str) -> None:
    assert play(home, "user", method="mine", settings={}, plugins={"adapters/mine": text})[-1]["error"] == "user"


@pytest.mark.parametrize("change, words", [
    ({"method": "nope"}, "fixed"), ({"residency": "some"}, "cache:K"), ({"settings": {"branch": "x"}}, "idle-best"),
    ({"arrival": {"kind": "burst"}}, "poisson"), ({"arrival": {"kind": "periodic"}}, "rate")])
def test_bad_settings_fail_with_what_there_is(home: str, change: Any, words: str) -> None:
    last = play(home, "user", **change)[-1]
    assert last["error"] == "user" and words in last["message"]


def test_preflight_stops_a_device_that_is_not_ready(home: str) -> None:
    lines = play(home, "not_ready", preflight={"max_co_cpu_pct": -1.0, "min_battery_pct": 40, "above_idle_c": 5})
    assert lines[-1]["error"] == "not_ready" and "max_co_cpu_pct" in lines[-1]["message"]
    found = {finding["check"]: finding["ok"] for finding in kinds(lines, "preflight")[0]["findings"]}
    assert found == {"max_co_cpu_pct": False, "min_battery_pct": None, "above_idle_c": None}
    assert not kinds(lines, "load")


def test_a_replay_without_costs_says_where_to_state_them(home: str) -> None:
    assert "Order.costs" in play(home, "user", costs=())[-1]["message"]
    assert len(costs_of("replay")) == len(BRANCHES)


def test_bad_orders_never_begin(home: str) -> None:
    bundle = make_home(home)
    good = order_for(bundle)

    def refused(order: Order, words: str) -> None:
        name = push(home, order)
        with pytest.raises(BadOrder, match=words):
            simulate(home, name)
        assert not os.path.exists(TrialFolder(home, name).journal)

    for number, (change, words) in enumerate([
            ({"duration_s": 0}, "duration_s"), ({"sample_hz": 0}, "sample_hz"), ({"slowdown": 0.5}, "slowdown"),
            ({"late": "never"}, "late"), ({"bundle": "../x"}, "sha256"), ({"bundle": "0" * 64}, "store lacks")]):
        refused(good._replace(trial=good.trial._replace(id=f"bad{number}", **change)), words)
    refused(good._replace(trial=good.trial._replace(id="p"), plugins={"../../x": "0" * 64}), "plugins")
    path = os.path.join(home, "trials", push(home, good), "trial.json")
    for text in ("", "[]", "{}", '{"protocol": 99}', json.dumps({"protocol": 1})):
        with open(path, "w") as file:
            file.write(text)
        with pytest.raises(BadOrder, match="not an order"):
            simulate(home, "t1.1")


# --- simulated peers ------------------------------------------------------------------------------------------------

OFFLOADING = """
from device_agents.seams import Adapter
from device_agents.wire import Decision

class Offloading(Adapter):
    def start(self, view, learned):
        self.target = view.settings["target"]
        return Decision("full", {"target": self.target})
    def decide(self, context, last):
        return Decision("full", {"target": self.target})
"""
THERE_MS = {"full": 2.0, "half": 1.0, "exit": 0.5}
LINK = {"rate_mbps": 8.0, "delay_ms": 6.0}
REQUEST_B, REPLY_B = 8 * 8 * 4 + 6 + 21, 12 + 21           # a sample, the head of a request, what a frame adds


def offload(home: str, expect: str = "done", target: str = "edge", there_ms: Any = None, **order: Any) -> list:
    """The kit's device, whose full branch takes 8 ms, with a peer that takes 2."""
    stated = {"replay": {"jitter": 0.0, "peers": {"edge": THERE_MS if there_ms is None else there_ms}}}
    return play(home, expect, method="offloading", plugins={"adapters/offloading": OFFLOADING}, extra=stated,
                settings={"target": target}, **dict({"peers": ("edge",), "link": LINK, "duration_s": 0.4}, **order))


def test_a_simulated_peer_takes_its_own_time_and_the_way_there_and_back(home: str, tmp_path: Any) -> None:
    lines = offload(home)
    trip_ms = 6.0 + (REQUEST_B + REPLY_B) * 8e-3 / 8.0
    served = kinds(lines, "inference", "window")
    assert [line["latency_ms"] for line in served] == pytest.approx([2.0 + trip_ms] * len(served), abs=1e-5)
    remote = kinds(lines, "remote", "window")
    assert len(remote) == len(served) > 30
    assert {(line["peer"], line["branch"], line["status"]) for line in remote} == {("edge", "full", "ok")}
    assert remote[0]["trip_ms"] == pytest.approx(trip_ms, abs=1e-3) and remote[0]["served_ms"] == 2.0
    here = kinds(offload(str(tmp_path / "o"), target="local"), "inference", "window")
    assert {line["latency_ms"] for line in here} == {8.0}
    label = {line["sample"]: line["label"] for line in here}
    assert all(line["label"] == label.get(line["sample"], line["label"]) for line in served)   # the same network


def test_a_simulated_link_is_sensed_as_a_probe_measures_it_and_labelled(home: str) -> None:
    lines = offload(home, target="local")
    assert (lines[0]["provenance"], lines[0]["sensors"]["rtt_ms"]) == ("simulated", "simulated: link to edge")
    context = kinds(lines, "decision")[0]["context"]
    assert context["rtt_ms"] == pytest.approx(6.0 + 2 * 21 * 8e-3 / 8.0) and context["net_mbps"] == pytest.approx(8.0)
    values = kinds(lines, "sample", "window")[-1]["values"]
    assert values["asked_net_mbps"] == 8.0 and values["remote_count"] == 0


def test_a_lost_frame_costs_the_deadline_of_a_call_and_is_served_here(home: str) -> None:
    lines = offload(home, link={"loss_pct": 100.0}, deadline_ms=20.0)
    served = kinds(lines, "inference", "window")
    assert {line["latency_ms"] for line in served if line["status"] == "ok"} == {50.0 + 8.0}
    assert {(line["status"], line["trip_ms"]) for line in kinds(lines, "remote", "window")} == {("fallback", None)}
    assert kinds(lines, "decision")[0]["context"].get("rtt_ms") is None


def test_the_trace_shapes_a_simulated_link_and_its_fate_is_seeded(home: str, tmp_path: Any) -> None:
    trace = LoadTrace("cut", ("t_s", "net_rtt_ms"), ((0.0, 0.0), (0.3, 40.0)))
    lines = offload(home, trace=trace, duration_s=1.5)
    served = kinds(lines, "inference", "window")
    assert served[0]["latency_ms"] < 4.0 and served[-1]["latency_ms"] > 40.0
    assert kinds(lines, "sample", "window")[-1]["values"]["rtt_ms"] > 20.0
    shaky = {"link": {"delay_ms": 2.0, "jitter_ms": 4.0, "loss_pct": 20.0}, "deadline_ms": 20.0}
    one, same, other = (offload(str(tmp_path / name), seed=int(name[0]), **shaky) for name in ("1", "1 again", "2"))
    assert one == same
    assert [line["status"] for line in kinds(one, "remote")] != [line["status"] for line in kinds(other, "remote")]


@pytest.mark.parametrize("order, words", [
    ({"target": "hub"}, "no target 'hub'; there is: local, edge"),
    ({"there_ms": {"full": 1.0}}, "no cost for branch 'half': state it in extra.replay.peers.edge")])
def test_a_simulated_peer_that_is_none_is_named(home: str, order: Any, words: str) -> None:
    assert words in offload(home, "user", **order)[-1]["message"]
