"""Which branches stay loaded under each policy, and that each load and unload is journalled."""
import json
from typing import Any

import pytest

from device_agents.clock import VirtualClock
from device_agents.journal import Journal
from device_agents.residency import Residency
from device_agents.seams import Engine, UserError
from device_agents.wire import Branch, BranchBundle

BUNDLE = BranchBundle("i", "t", "m", 0, 10, (1,), "float32", "s", "l", 1,
                      tuple(Branch(name, "a", 0.5, 1, 1, 1) for name in "abcd"))


class Counting(Engine):
    """Loads take a millisecond of virtual time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.log = clock, []

    def load(self, branch: str, knobs: dict) -> None:
        self.clock.sleep_until(self.clock.now_ns() + 1000000)
        self.log.append("+" + branch)

    def unload(self, branch: str) -> None:
        self.log.append("-" + branch)


class Telling(Counting):
    """Says what a load was made of."""

    def load(self, branch: str, knobs: dict) -> dict:
        Counting.load(self, branch, knobs)
        return {"derive_ms": 0.25, "session_ms": 0.75, "cold": True}


def test_what_an_engine_tells_of_a_load_is_journalled(tmp_path: Any) -> None:
    clock = VirtualClock()
    journal = Journal(str(tmp_path / "trial.jsonl"), clock)
    Residency("one", BUNDLE, Telling(clock), clock, journal).use("a", {})
    journal.close("done")
    line = json.loads((tmp_path / "trial.jsonl").read_text().splitlines()[0])
    assert (line["kind"], line["load_ms"]) == ("load", 1.0)
    assert line["parts"] == {"derive_ms": 0.25, "session_ms": 0.75, "cold": True}


def residency(tmp_path: Any, policy: str) -> Any:
    clock = VirtualClock()
    engine, journal = Counting(clock), Journal(str(tmp_path / "trial.jsonl"), clock)
    return Residency(policy, BUNDLE, engine, clock, journal), engine, journal


def test_all_loads_everything_once(tmp_path: Any) -> None:
    made, engine, journal = residency(tmp_path, "all")
    made.start("c", {})
    for branch in "abcdabcd":
        made.use(branch, {})
    assert engine.log == ["+a", "+b", "+c", "+d"]
    journal.close("done")
    lines = [json.loads(line) for line in (tmp_path / "trial.jsonl").read_text().splitlines()]
    assert [(line["kind"], line.get("branch"), line.get("load_ms")) for line in lines[:-1]] == [
        ("load", name, 1.0) for name in "abcd"]


def test_one_swaps(tmp_path: Any) -> None:
    made, engine, _ = residency(tmp_path, "one")
    made.start("a", {})
    for branch in "aab":
        made.use(branch, {})
    assert engine.log == ["+a", "-a", "+b"]
    assert made.resident() == ["b"]


def test_cache_forgets_what_was_used_longest_ago(tmp_path: Any) -> None:
    made, engine, _ = residency(tmp_path, "cache:2")
    made.start("a", {})
    for branch in "abac":
        made.use(branch, {})
    assert engine.log == ["+a", "+b", "-b", "+c"]
    assert made.resident() == ["a", "c"]


def test_other_knobs_load_again(tmp_path: Any) -> None:
    made, engine, _ = residency(tmp_path, "all")
    made.start("a", {"threads": 1})
    made.use("b", {"threads": 2})
    made.use("b", {"threads": 2})
    assert engine.log[4:] == ["-b", "+b"]


class Aiming(Counting):
    """Has a knob that belongs to no load."""

    per_call = ("target",)

    def adjust(self, knobs: dict) -> None:
        self.log.append(knobs.get("target", "nowhere"))


def test_a_knob_of_the_call_loads_nothing(tmp_path: Any) -> None:
    clock = VirtualClock()
    engine = Aiming(clock)
    made = Residency("one", BUNDLE, engine, clock, Journal(str(tmp_path / "trial.jsonl"), clock))
    made.start("a", {"threads": 1})
    for target in ("here", "there"):
        made.use("a", {"threads": 1, "target": target})
    made.use("a", {"threads": 2, "target": "there"})
    assert engine.log == ["nowhere", "+a", "here", "there", "there", "-a", "+a"]


def test_an_unknown_branch_is_the_adapters_slip(tmp_path: Any) -> None:
    made, _, _ = residency(tmp_path, "all")
    with pytest.raises(UserError, match=r"'z'.*a, b, c, d"):
        made.use("z", {})


@pytest.mark.parametrize("policy", ["some", "cache", "cache:0", "cache:x", "one:1", ""])
def test_unknown_policies_are_refused(tmp_path: Any, policy: str) -> None:
    with pytest.raises(UserError, match="cache:K"):
        residency(tmp_path, policy)
