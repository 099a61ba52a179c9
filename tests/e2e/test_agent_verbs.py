"""The agent's verbs around a trial: what they answer, what they refuse and in which words."""
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from device_agents.wire import order_to_json
from tests import agent_kit
from tests.agent_kit import BRANCHES, ROOT, agent_argv, answer, call, journal_of, make_home, order_for, push, put, read

MINE = b"""
from device_agents.seams import Engine
class Mine(Engine):
    @classmethod
    def runtime(cls):
        return "mine 1"
    def open(self, bundle, store, settings):
        pass
    def load(self, branch, knobs):
        pass
    def infer(self, branch, sample):
        return 0
"""
METER = b"""
import time
from device_agents.seams import EnergySource
from device_agents.wire import Measurement
class Meter(EnergySource):
    scope = "wall"
    def available(self, root):
        return True
    def read(self, root, t_ns):
        return [Measurement(t_ns, "energy_j", time.monotonic(), "J", "meter", "measured")]
"""


@pytest.fixture
def home(tmp_path: Any) -> str:
    return str(tmp_path / "H")


def test_profile_gives_a_cost_for_every_branch(home: str) -> None:
    pytest.importorskip("onnxruntime")
    order = order_for(make_home(home), engine="onnxruntime_cpu", extra={"profile": {"rounds": 5, "warmup": 1}})
    costs = answer("profile", home, stdin=json.dumps(order_to_json(order)).encode("ascii"))
    assert [cost["branch"] for cost in costs] == [name for name, *_ in BRANCHES]
    for cost in costs:
        assert cost["source"] == "profile" and cost["provenance"] == "measured"
        assert 0 < cost["latency_ms"] <= cost["latency_p95_ms"] and cost["load_ms"] > 0 and cost["peak_rss_mb"] > 5
    bad = order._replace(extra={"profile": {"rounds": 0}})
    assert call("profile", home, stdin=json.dumps(order_to_json(bad)).encode("ascii")).returncode == 2
    assert call("profile", home, stdin=b"nonsense").returncode == 2


LATE = b'''
from device_agents.seams import Sensor

class Late(Sensor):
    asked = 0

    def read(self, root):
        self.asked += 1
        return {"made_up_c": 1.0 if self.asked > %d else None}
'''


def test_a_trial_notes_who_reads_what_its_first_line_says_another_reads(home: str) -> None:
    bundle, store = make_home(home), os.path.join(home, "store")
    plugins = {"sensors/first": put(store, LATE % 1), "sensors/second": put(store, LATE % 0)}
    name = push(home, order_for(bundle, plugins=plugins))
    assert call("run", home, name).returncode == 0
    start, *lines = journal_of(home, name)
    assert start["sensors"]["made_up_c"] == "second"
    assert "made_up_c is now read by first, not by second" in [line.get("text") for line in lines]


def test_a_users_engine_is_asked_and_profiled_and_leaves_nothing(home: str) -> None:
    bundle = make_home(home)
    store = os.path.join(home, "store")
    mute = put(store, METER.replace(b"return [", b"return None and ["))
    broken = MINE.replace(b"return 0", b"raise RuntimeError('out of memory')")
    mine = {"engines/mine": put(store, MINE), "engines/torn": put(store, b"def (\n"),
            "engines/broken": put(store, broken), "energy/meter": put(store, METER)}
    engines = answer("probe", home, "--plugins", stdin=json.dumps(mine).encode("ascii"))["engines"]
    assert engines["mine"] == {"runtime": "mine 1", "reason": None} and engines["replay"]["runtime"] == "replay 1"
    assert engines["torn"]["runtime"] is None and "SyntaxError" in engines["torn"]["reason"]
    order = order_for(bundle, engine="mine", plugins=mine)
    costs = answer("profile", home, stdin=json.dumps(order_to_json(order)).encode("ascii"))
    assert [cost["engine"] for cost in costs] == ["mine"] * len(BRANCHES)
    assert all(cost["energy_mj"] > 0 for cost in costs), "the meter is the user's, too"
    assert os.listdir(os.path.join(home, "code")) == []
    for plugins, engine, words in (({}, "mine", "no 'mine' in engines/"), (mine, "torn", "SyntaxError"),
                                   (mine, "broken", "RuntimeError: out of memory"),
                                   (dict(mine, **{"energy/meter": mute}), "mine", "Meter: read() returned None"),
                                   ({"engines/../x": mine["engines/mine"]}, "mine", "plugins must map"),
                                   ({"engines/mine": "a" * 64}, "mine", "the store lacks 1 file")):
        bad = order_to_json(order._replace(trial=order.trial._replace(engine=engine), plugins=plugins))
        done = call("profile", home, stdin=json.dumps(bad).encode("ascii"))
        assert done.returncode == 2 and words in done.said
    for said in (b"nonsense", b"[]", json.dumps({"engines/mine": "x"}).encode("ascii")):
        assert call("probe", home, "--plugins", stdin=said).returncode == 2


def test_a_missing_runtime_is_unsupported_and_says_what_to_install(home: str, tmp_path: Any) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "onnxruntime.py").write_text("raise ImportError('no such thing')\n")
    name = push(home, order_for(make_home(home), engine="onnxruntime_cpu"))
    path = str(tmp_path / "broken") + os.pathsep + agent_kit.ROOT
    done = call("run", home, name, env={"PYTHONPATH": path})
    last = journal_of(home, name)[-1]
    assert done.returncode == 3
    assert (last["kind"], last["error"]) == ("failed", "unsupported") and "pip install" in last["message"]
    facts = json.loads(call("probe", home, env={"PYTHONPATH": path}).stdout.decode("utf-8"))
    assert facts["engines"]["onnxruntime_cpu"]["runtime"] is None
    assert "pip install" in facts["engines"]["onnxruntime_cpu"]["reason"]


def test_probe_tells_the_facts(home: str) -> None:
    facts = answer("probe", home)
    assert {"python", "machine", "kernel", "hostname", "boot_id", "uid", "cores", "mem_total_mb", "disk_free_mb",
            "wall_ns", "t_ns", "sensors", "energy", "engines", "trials"} <= set(facts)
    assert facts["engines"]["replay"] == {"runtime": "replay 1", "reason": None}
    assert facts["sensors"]["mem_free_mb"]["value"] > 0 and facts["sensors"]["mem_free_mb"]["source"]
    assert facts["mem_total_mb"] > facts["sensors"]["mem_free_mb"]["value"] and facts["trials"] == []


@pytest.mark.parametrize("name", ["../../etc.1", "a/b.1", "t1", "t1.", ".1", "t1.1/../../x.1", "", "t1.1\n", "-x.1"])
def test_names_from_outside_never_become_paths(home: str, name: str) -> None:
    make_home(home)
    for verb in ("run", "wait", "collect", "clean"):
        done = call(verb, home, "--", name)
        assert done.returncode == 2 and done.said, verb


def test_bad_input_is_refused_before_anything_begins(home: str) -> None:
    bundle = make_home(home)
    assert "push the trial first" in call("run", home, "t9.1").said
    name = push(home, order_for(bundle, id="t2"))
    with open(os.path.join(home, "trials", name, "trial.json"), "w") as file:
        file.write("{")
    assert call("run", home, name).returncode == 2
    name = push(home, order_for(bundle, engine="onnxruntime_cpu"))
    os.unlink(os.path.join(home, "store", bundle.branches[1].artifact))
    done = call("run", home, name)
    assert done.returncode == 2 and bundle.branches[1].artifact in done.said
    assert answer("wait", home, name) == {"state": "pending", "bytes": 0, "sha256": None}
    assert answer("list", home) == []


def test_a_damaged_manifest_is_not_run(home: str) -> None:
    bundle = make_home(home)
    with open(os.path.join(home, "store", bundle.id), "a") as file:
        file.write(" ")
    done = call("run", home, push(home, order_for(bundle)))
    assert done.returncode == 2 and "damaged" in done.said


def test_a_home_that_cannot_be_written_is_one_message(home: str) -> None:
    with open(home, "w"):
        pass
    done = call("missing", home, stdin=b"[]")
    assert done.returncode == 5 and home in done.said


def test_an_older_token_is_refused(home: str) -> None:
    bundle = make_home(home)
    assert call("run", home, push(home, order_for(bundle, token=5, duration_s=0.1))).returncode == 0
    old = call("run", home, push(home, order_for(bundle, attempt=2, token=4, duration_s=0.1)))
    assert old.returncode == 2 and "4" in old.said and "5" in old.said
    assert call("run", home, push(home, order_for(bundle, attempt=3, token=5, duration_s=0.1))).returncode == 0


def test_a_trial_never_runs_twice(home: str) -> None:
    name = push(home, order_for(make_home(home), duration_s=0.1))
    assert call("run", home, name).returncode == 0
    before = read(home, name, "trial.jsonl")
    again = call("run", home, name, "--detach")
    assert again.returncode == 2 and "attempt" in again.said
    assert read(home, name, "trial.jsonl") == before


def test_the_store_missing_verify_clean_and_gc(home: str) -> None:
    bundle = make_home(home)
    store, absent = os.path.join(home, "store"), "0" * 64
    asked = json.dumps([bundle.labels, absent, bundle.samples]).encode("ascii")
    assert answer("missing", home, stdin=asked) == [absent]
    with open(os.path.join(store, bundle.samples), "ab") as file:
        file.write(b"x")
    assert answer("missing", home, stdin=asked) == [absent]
    assert answer("missing", home, "--verify", stdin=asked) == [absent, bundle.samples]
    assert not os.path.exists(os.path.join(store, bundle.samples))
    for text in (b"", b"{}", b'["../../etc/passwd"]', b"[1]"):
        assert call("missing", home, stdin=text).returncode == 2
    old = put(store, b"old")
    os.utime(os.path.join(store, old), (1, 1))
    left_behind, in_progress = (os.path.join(store, f"push.{name}.part") for name in ("0badcafe", "600dcafe"))
    for folder in (left_behind, in_progress):
        os.mkdir(folder)
        put(folder, b"half a push")
    os.utime(left_behind, (1, 1))
    assert answer("gc", home, "--max-age-days", "1")["removed"] == [old]
    assert not os.path.exists(left_behind)
    assert os.listdir(in_progress) != []
    assert sorted(answer("gc", home, "--max-mb", "0")["removed"]) == sorted(
        {bundle.id, bundle.labels} | {branch.artifact for branch in bundle.branches})
    name = push(home, order_for(bundle))
    assert answer("clean", home, name, "other.1") == [name]
    assert answer("list", home) == []


def test_files_are_private(home: str) -> None:
    name = push(home, order_for(make_home(home), duration_s=0.1))
    call("run", home, name)
    for file_name in ("trial.jsonl", "lock"):
        assert os.stat(os.path.join(home, "trials", name, file_name)).st_mode & 0o077 == 0
    fresh = home + "2"
    answer("missing", fresh, stdin=b"[]")
    assert os.stat(fresh).st_mode & 0o077 == 0


HUNG = b"""
import threading
from device_agents.seams import Adapter
from device_agents.wire import Decision
class Hung(Adapter):
    def start(self, view, learned):
        return Decision(view.branches[0].id)
    def decide(self, context, last):
        threading.Event().wait(60)
"""


def test_a_trial_that_hangs_and_that_nobody_ends_gives_its_device_back(home: str) -> None:
    """Its controller is gone: no one will stop it. Python's own signals are of no help against a hang in C."""
    bundle = make_home(home)
    adapter = put(os.path.join(home, "store"), HUNG)
    name = push(home, order_for(bundle, method="hung", settings={}, plugins={"adapters/hung": adapter}))
    code = ("import sys\nfrom device_agents import __main__ as agent, trial_process\n"
            "trial_process.ABANDONED_S = 0.5\nsys.exit(agent.main(sys.argv[1:]))")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}      # capture_output is younger than Python 3.6
    done = subprocess.run([sys.executable, "-c", code, *agent_argv("run", home, name)[3:]], cwd=ROOT, timeout=60,
                          **pipes)
    assert done.returncode == 1 and b"in decide" in done.stderr
    assert journal_of(home, name)[-1]["kind"] not in ("done", "failed")
    other = push(home, order_for(bundle, id="t2"))
    assert call("run", home, other).returncode == 0
