"""What every file in engines/ promises, ours and a user's (EDGEFLEET_PLUGINS, folders separated by ":")."""
import os
from typing import Any

import pytest

from device_agents import registry
from device_agents.clock import VirtualClock
from device_agents.seams import Engine, Unsupported, UserError
from device_agents.slowdown import SlowedEngine, slowed
from tests.agent_kit import BRANCHES, costs_of, make_home

PLUGINS = [folder for folder in os.environ.get("EDGEFLEET_PLUGINS", "").split(os.pathsep) if folder]
NAMES = registry.names("device_agents.engines", PLUGINS)


@pytest.fixture(params=NAMES)
def engine(request: Any) -> Any:
    """The class; skips where the device lacks the runtime."""
    found = registry.load("device_agents.engines", request.param, Engine, PLUGINS)
    try:
        found.runtime()
    except Unsupported as reason:
        assert "install" in str(reason)
        pytest.skip(str(reason))
    return found


def opened(engine: Any, tmp_path: Any) -> Any:
    home = str(tmp_path / "H")
    bundle, made = make_home(home, form="evolve" if engine.__module__.endswith("_evolve") else "onnx"), engine()
    made.open(bundle, os.path.join(home, "store"), {
        "seed": 7, "clock": VirtualClock(), "costs": {cost.branch: cost for cost in costs_of("x")}})
    return made, bundle


def test_runtime_is_a_name_and_a_version(engine: Any) -> None:
    name, _, version = engine.runtime().partition(" ")
    assert name and version[0].isdigit()
    assert engine.runtime() == engine.runtime()


def test_branches_load_answer_alike_and_unload(engine: Any, tmp_path: Any) -> None:
    made, bundle = opened(engine, tmp_path)
    for name, *_ in BRANCHES:
        made.load(name, {})
    answers = {name: [made.infer(name, sample) for sample in range(bundle.count)] for name, *_ in BRANCHES}
    for given in answers.values():
        assert all(label is None or 0 <= label < bundle.classes for label in given)
    made.unload("full")
    made.load("full", {})
    assert [made.infer("full", sample) for sample in range(bundle.count)] == answers["full"]
    assert [made.infer("half", sample) for sample in range(bundle.count)] == answers["half"]


def test_two_objects_give_the_same_answers(engine: Any, tmp_path: Any) -> None:
    one, bundle = opened(engine, tmp_path / "one")
    other, _ = opened(engine, tmp_path / "other")
    for made in (one, other):
        made.load("exit", {})
    assert [one.infer("exit", sample) for sample in range(bundle.count)] == [
        other.infer("exit", sample) for sample in range(bundle.count)]


def test_an_engine_that_serves_others_answers_alike_for_the_same_bytes(engine: Any, tmp_path: Any) -> None:
    if engine.answer is Engine.answer:
        pytest.skip("it serves no samples of others")
    made, bundle = opened(engine, tmp_path)
    made.load("full", {})
    with open(str(tmp_path / "H" / "store" / bundle.samples), "rb") as file:
        data = file.read()
    size_b = len(data) // bundle.count
    for sample in range(bundle.count):
        assert made.answer("full", data[sample * size_b:(sample + 1) * size_b]) == made.infer("full", sample)


def test_knobs_of_the_call_can_be_adjusted_and_an_engine_closes(engine: Any, tmp_path: Any) -> None:
    made, _ = opened(engine, tmp_path)
    made.load("full", {})
    if made.per_call:
        made.adjust({})
        made.infer("full", 0)
    made.close()


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_names_its_processor_without_its_runtime(name: str) -> None:
    """The controller asks, and has no GPU. Only an engine of stated costs may leave it to the campaign."""
    found = registry.load("device_agents.engines", name, Engine, PLUGINS)
    assert found.processor in ("cpu", "gpu", "npu") or (name, found.processor) == ("replay", "")


def test_an_engine_takes_its_own_processor_as_a_knob_and_no_other(engine: Any, tmp_path: Any) -> None:
    """Results say where they were computed: a GPU's engine gets the knob in every trial."""
    made, _ = opened(engine, tmp_path)
    made.load("full", {"processor": engine.processor or "gpu"})
    assert made.infer("full", 0) == made.infer("full", 0)
    for other in {"cpu", "gpu", "npu"} - {engine.processor} if engine.processor else ():
        with pytest.raises(UserError, match=other):
            made.load("half", {"processor": other})


def test_samples_of_another_size_are_refused(tmp_path: Any) -> None:
    pytest.importorskip("onnxruntime")
    engine = registry.load("device_agents.engines", "onnxruntime_cpu", Engine)
    home = str(tmp_path / "H")
    bundle = make_home(home)
    with pytest.raises(UserError, match="bytes"):
        engine().open(bundle._replace(count=bundle.count + 1), os.path.join(home, "store"), {})


@pytest.mark.parametrize("name, form, words", [
    ("onnxruntime_cpu", "evolve", "onnxruntime_evolve"), ("onnxruntime_evolve", "onnx", "evolve form")])
def test_a_bundle_of_the_other_form_is_refused(tmp_path: Any, name: str, form: str, words: str) -> None:
    pytest.importorskip("onnxruntime")
    home = str(tmp_path / "H")
    bundle = make_home(home, form=form)
    with pytest.raises(UserError, match=words):
        registry.load("device_agents.engines", name, Engine)().open(bundle, os.path.join(home, "store"), {})


@pytest.mark.parametrize("knobs, words", [
    ({"theads": 2}, "threads"), ({"threads": 0}, "whole"), ({"threads": "2"}, "whole")])
def test_bad_knobs_are_named(tmp_path: Any, knobs: Any, words: str) -> None:
    pytest.importorskip("onnxruntime")
    made, _ = opened(registry.load("device_agents.engines", "onnxruntime_cpu", Engine), tmp_path)
    with pytest.raises(UserError, match=words):
        made.load("full", knobs)


class Ticking(VirtualClock):
    """Every look at it takes a microsecond, so that spinning ends."""

    def now_ns(self) -> int:
        self.sleep_until(VirtualClock.now_ns(self) + 1000)
        return VirtualClock.now_ns(self)


class Taking(Engine):
    """Loads for 8 ms, infers for 2 ms, of virtual time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock

    def _take(self, ms: float) -> None:
        self.clock.sleep_until(VirtualClock.now_ns(self.clock) + int(ms * 1e6))

    def load(self, branch: str, knobs: Any) -> Any:
        self._take(8.0)
        return {"derive_ms": 3.0, "cold": True}

    def infer(self, branch: str, sample: int) -> int:
        self._take(2.0)
        return 3

    def answer(self, branch: str, data: bytes) -> int:
        return self.infer(branch, 0)


def test_an_emulated_device_takes_the_stated_factor_longer() -> None:
    clock = Ticking()
    made = SlowedEngine(Taking(clock), 2.5, clock)
    begun = clock.now_ns()
    assert made.answer("b", b"") == 3 and clock.now_ns() - begun == pytest.approx(5e6, rel=0.02)
    begun = clock.now_ns()
    assert made.infer("b", 0) == 3
    inferred = clock.now_ns()
    assert made.load("b", {}) == {"derive_ms": 7.5, "cold": True}
    loaded = clock.now_ns()
    assert (inferred - begun) / 1e6 == pytest.approx(5.0, abs=0.1)
    assert (loaded - inferred) / 1e6 == pytest.approx(20.0, abs=0.1)


def test_of_an_engine_that_offloads_only_what_runs_here_is_slowed() -> None:
    clock = Ticking()
    engine = Taking(clock)
    engine.local = Taking(clock)
    assert slowed(engine, "remote", 2.0, clock) is engine
    begun = clock.now_ns()
    engine.local.infer("b", 0)
    assert (clock.now_ns() - begun) / 1e6 == pytest.approx(4.0, abs=0.1)


def test_what_is_slowed() -> None:
    clock = VirtualClock()
    engine = Taking(clock)
    assert slowed(engine, "onnxruntime_cpu", 1.0, clock) is engine
    assert slowed(engine, "replay", 3.0, clock) is engine        # its costs are the device's own
    assert slowed(engine, "onnxruntime_cpu", 3.0, clock) is not engine
    with pytest.raises(UserError, match="at least 1"):
        slowed(engine, "onnxruntime_cpu", 0.5, clock)
