"""Offloading between two agents on this machine: what is asked of a peer, and every way in which that may go wrong."""
import json
import os
import shutil
import signal
import socket
import time
from typing import Any

import pytest

from device_agents.wire import LoadTrace
from tests.agent_kit import (
    OTHER_CERTIFICATE,
    PEER_CERTIFICATE,
    PEER_KEY,
    answer,
    begun,
    call,
    costs_of,
    eventually,
    gone,
    journal_of,
    make_home,
    order_for,
    push,
)

pytest.importorskip("onnxruntime")
KEY = "ab" * 32


class Bench:
    """A device H and its peer P, with the same bundle."""

    def __init__(self, folder: Any) -> None:
        self.home, self.peer = str(folder / "H"), str(folder / "P")
        self.bundle = make_home(self.home)
        shutil.copytree(os.path.join(self.home, "store"), os.path.join(self.peer, "store"))
        self.port = 0

    def serving(self, **fields: Any) -> bytes:
        order = {"trial": "t1", "attempt": 1, "token": 1, "bundle": self.bundle.id, "engine": "onnxruntime_cpu",
                 "knobs": {}, "slowdown": 1.0, "host": "127.0.0.1", "key": KEY, "due_s": 60.0,
                 "certificate": PEER_CERTIFICATE, "private_key": PEER_KEY, **fields}
        return json.dumps(order).encode("ascii")

    def serve(self, **fields: Any) -> None:
        self.port = answer("serve", self.peer, stdin=self.serving(**fields))["port"]

    def push(self, key: str = KEY, settings: Any = None, certificate: str = PEER_CERTIFICATE, **trial: Any) -> str:
        edge = {"host": "127.0.0.1", "port": self.port, "certificate": certificate}
        remote = {"key": key, "peers": {"edge": edge}}
        return push(self.home, order_for(
            self.bundle, method="autoscale", engine="remote", peers=("edge",), extra={"remote": remote},
            settings={"peers": ["edge"], "threads": [1], "epsilon": 1.0, **(settings or {})},
            costs=costs_of("onnxruntime_cpu"), arrival={"kind": "periodic"},
            **{"period_ms": 5.0, "warmup_s": 0.0, **trial}))

    def run(self, name: str) -> list:
        done = call("run", self.home, name)
        assert done.returncode == 0, done.said
        return journal_of(self.home, name)

    def is_open(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            return True
        except OSError:
            return False

    def is_free(self) -> bool:
        """Nobody holds the peer: something short gets its lock."""
        return bool(call("gc", self.peer).returncode == 0)

    def pid(self) -> int:
        with open(os.path.join(self.peer, "lock")) as file:
            return int(json.load(file)["pid"])

    def log(self) -> str:
        with open(os.path.join(self.peer, "serve.log")) as file:
            return file.read()


@pytest.fixture
def bench(tmp_path: Any) -> Any:
    made = Bench(tmp_path)
    yield made
    call("stop", made.peer, "t1.1")


def remote(lines: list, status: str) -> list:
    return [line for line in lines if line["kind"] == "remote" and line["status"] == status]


def notes(lines: list) -> list:
    return [line["text"] for line in lines if line["kind"] == "note"]


def test_a_trial_asks_its_peer_measures_the_link_and_lets_the_peer_go(bench: Bench) -> None:
    bench.serve()
    lines = bench.run(bench.push(duration_s=1.5, link={"rate_mbps": 1.0, "delay_ms": 4.0}, deadline_ms=100.0))
    assert lines[-1]["kind"] == "done" and lines[-1]["learned"] is not None
    asked = remote(lines, "ok")
    assert len(asked) > 20 and not remote(lines, "fallback") and not notes(lines)
    assert all(line["peer"] == "edge" and line["trip_ms"] >= 4.0 and line["served_ms"] > 0 for line in asked)
    assert {line["knobs"]["target"] for line in lines if line["kind"] == "decision"} == {"local", "edge"}
    after = [lines[place + 1] for place, line in enumerate(lines) if line in asked]
    assert sum(line["kind"] == "inference" and line["sample"] == one["sample"] and line["latency_ms"] > 4.0
               for one, line in zip(asked, after)) > len(asked) * 0.8, "most are followed by their own line"
    assert len([line for line in lines if line["kind"] == "load"]) == 3, "a change of target loads nothing"
    values = [line["values"] for line in lines if line["kind"] == "sample" and line["phase"] == "window"]
    assert values[-1]["rtt_ms"] >= 4.0 and 0.3 < values[-1]["net_mbps"] < 4.0 and values[-1]["asked_net_mbps"] == 1.0
    assert lines[0]["sensors"]["rtt_ms"] == "emulated: link to edge"
    assert lines[0]["runtime"].startswith("remote 1 over onnxruntime_cpu: onnxruntime 1.")
    assert any("rtt_ms" in line["context"] for line in lines if line["kind"] == "decision")
    assert eventually(lambda: not bench.is_open()) and eventually(bench.is_free)


def test_local_and_remote_give_the_same_answers(bench: Bench) -> None:
    bench.serve()
    lines = bench.run(bench.push(duration_s=1.0))
    answers: dict = {}
    for line in lines:
        if line["kind"] == "inference" and line["label"] is not None:
            answers.setdefault((line["branch"], line["sample"]), set()).add(line["label"])
    assert len(remote(lines, "ok")) > 10 and all(len(labels) == 1 for labels in answers.values())


def test_it_offloads_while_the_link_is_good_and_returns_when_the_trace_makes_it_bad(bench: Bench) -> None:
    """The device is slowed so much that its own work costs more than the way to its peer, until that is long."""
    bench.serve()
    trace = LoadTrace("cut", ("t_s", "net_rtt_ms", "net_mbps"), ((0.0, 0.0, 500.0), (3.0, 60.0, 1.0)))
    lines = bench.run(bench.push(settings={"epsilon": 0.05}, duration_s=6.0, trace=trace, slowdown=60.0,
                                 deadline_ms=60.0, period_ms=15.0, provenance="emulated"))
    served = [line for line in lines if line["kind"] == "inference" and line["phase"] == "window"]
    asked = sorted(line["t_ns"] for line in lines if line["kind"] == "remote")
    begun_ns = served[0]["due_ns"]

    def share(from_s: float, to_s: float) -> float:
        def within(t_ns: int) -> bool:
            return bool(from_s <= (t_ns - begun_ns) / 1e9 < to_s)

        return sum(map(within, asked)) / max(1, sum(within(line["t_ns"] or 0) for line in served))

    assert share(1.5, 3.0) > 0.7 and share(4.5, 6.0) < 0.3, (share(1.5, 3.0), share(4.5, 6.0))
    values = [line["values"] for line in lines if line["kind"] == "sample" and line["phase"] == "window"]
    assert values[-1]["rtt_ms"] > 40.0 and values[-1]["asked_rtt_ms"] == 60.0 and values[5]["rtt_ms"] < 20.0


def test_a_peer_that_is_killed_costs_some_misses_and_no_more(bench: Bench) -> None:
    bench.serve()
    name = bench.push(duration_s=2.0, deadline_ms=30.0)
    assert call("run", bench.home, name, "--detach").returncode == 0
    begun(bench.home, name)
    time.sleep(0.6)
    os.kill(bench.pid(), signal.SIGKILL)
    assert answer("wait", bench.home, name)["state"] == "done"
    lines = journal_of(bench.home, name)
    assert remote(lines, "ok") and len(remote(lines, "fallback")) > 5
    assert any("served here instead" in text for text in notes(lines))
    last = [line for line in lines if line["kind"] == "inference" and line["phase"] == "window"][-20:]
    assert all(line["status"] == "ok" for line in last) and sum(line["met"] for line in last) > 15
    assert len(notes(lines)) < 10, "once for each trouble, not once an inference"


def test_a_device_with_a_wrong_key_is_refused_and_works_alone(bench: Bench) -> None:
    bench.serve()
    lines = bench.run(bench.push(key="cd" * 32, duration_s=0.5))
    assert lines[-1]["kind"] == "done" and not remote(lines, "ok") and remote(lines, "fallback")
    assert any("refused our key" in text for text in notes(lines))
    assert "a wrong key" in bench.log() and KEY not in bench.log()
    assert bench.is_open(), "a stranger must not end it"


def test_a_peer_with_another_certificate_is_not_believed(bench: Bench) -> None:
    bench.serve()
    lines = bench.run(bench.push(certificate=OTHER_CERTIFICATE, duration_s=0.3))
    assert lines[-1]["kind"] == "done" and not remote(lines, "ok") and remote(lines, "fallback")
    assert any("does not show the certificate" in text for text in notes(lines))


def test_a_private_key_stays_in_no_file(bench: Bench) -> None:
    bench.serve()
    for folder, _, names in os.walk(bench.peer):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                assert b"PRIVATE KEY" not in file.read()


def test_a_peer_that_serves_is_taken_until_it_is_stopped(bench: Bench) -> None:
    bench.serve()
    assert call("serve", bench.peer, stdin=bench.serving()).returncode == 4
    assert call("gc", bench.peer).returncode == 4
    assert answer("stop", bench.peer, "t2.1") == {"stopped": False} and bench.is_open()
    pid = bench.pid()
    assert answer("stop", bench.peer, "t1.1") == {"stopped": True}
    assert eventually(lambda: gone(pid)) and not bench.is_open() and bench.is_free()
    assert answer("stop", bench.peer, "t1.1") == {"stopped": False}
    assert answer("list", bench.peer) == []


def test_it_ends_by_itself_at_its_due_time(bench: Bench) -> None:
    bench.serve(due_s=0.5)
    assert eventually(lambda: not bench.is_open()) and eventually(bench.is_free)


@pytest.mark.parametrize("change, words", [
    ({"key": "ab"}, "64 hex"), ({"key": "zz" * 32}, "hex"), ({"due_s": -1}, "due_s"), ({"bundle": "0" * 64}, "push"),
    ({"engine": "replay"}, "no samples"), ({"host": "203.0.113.7"}, "cannot listen"),
    ({"knobs": {"cores": 1}}, "cores"), ({"more": 1}, "more"), ({"private_key": "none"}, "no pair"),
    ({"certificate": OTHER_CERTIFICATE}, "no pair")])
def test_bad_orders_to_serve_are_one_message(bench: Bench, change: Any, words: str) -> None:
    done = call("serve", bench.peer, stdin=bench.serving(**change))
    assert done.returncode in (2, 3) and words in done.said, (done.returncode, done.said)
    assert bench.is_free()


def test_an_older_token_does_not_get_the_peer(bench: Bench) -> None:
    bench.serve(token=5, due_s=0.2)
    assert eventually(bench.is_free)
    done = call("serve", bench.peer, stdin=bench.serving(token=4))
    assert done.returncode == 2 and "newer controller" in done.said


def test_an_unknown_target_is_the_adapters_slip(bench: Bench) -> None:
    bench.serve()
    done = call("run", bench.home, bench.push(settings={"peers": ["moon"]}))
    assert done.returncode == 2 and "no target 'moon'; there is: local, edge" in done.said


def test_a_client_that_says_nothing_is_shown_out(bench: Bench) -> None:
    bench.serve()
    with socket.create_connection(("127.0.0.1", bench.port), 5.0) as link:
        link.settimeout(10.0)
        assert link.recv(100) == b"", "it says nothing before it was greeted"
    assert eventually(lambda: "timed out" in bench.log())
