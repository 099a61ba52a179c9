"""The agent as a process: how a trial runs, detached or forked by a warm parent, and every way in which it may die."""
import gzip
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from typing import Any

import pytest

from device_agents.wire import LoadTrace, order_to_json
from tests import agent_kit
from tests.agent_kit import (
    BRANCHES,
    SOON_S,
    agent_argv,
    answer,
    begun,
    call,
    children_of,
    eventually,
    gone,
    journal_of,
    make_home,
    order_for,
    push,
    read,
)

LOADED = LoadTrace("busy", ("t_s", "cpu_pct"), ((0.0, 20.0),))


@pytest.fixture
def home(tmp_path: Any) -> str:
    return str(tmp_path / "H")


def test_a_trial_in_the_foreground(home: str) -> None:
    name = push(home, order_for(make_home(home), duration_s=0.2))
    assert call("run", home, name).returncode == 0
    lines = journal_of(home, name)
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    start, done = lines[0], lines[-1]
    assert start["kind"] == "start" and done["kind"] == "done"
    assert len(start["agent"]) == 64 and start["fingerprint"]["cores"] >= 1
    assert start["sensors"]["co_cpu_pct"]
    assert done["peak_rss_mb"] > 1 and done["sampler_cpu_pct"] is not None
    assert {line["phase"] for line in lines if line["kind"] == "sample"} >= {"window"}
    assert answer("list", home) == [{"id": "t1", "attempt": 1, "state": "done"}]


def test_detached_then_wait_and_collect(home: str) -> None:
    name = push(home, order_for(make_home(home), duration_s=0.5))
    assert call("run", home, name, "--detach").returncode == 0
    assert answer("list", home)[0]["state"] == "running"
    assert answer("wait", home, name, "--timeout-s", "0.05")["state"] == "running"
    told, _, packed = call("wait", home, name, "--collect").stdout.partition(b"\n")
    journal = gzip.decompress(packed)
    expected = {"state": "done", "bytes": len(journal), "sha256": hashlib.sha256(journal).hexdigest()}
    assert json.loads(told.decode("ascii")) == expected
    assert journal == gzip.decompress(call("collect", home, name).stdout)
    assert json.loads(journal.decode("utf-8").splitlines()[-1])["kind"] == "done"


def test_a_scripted_battery_is_what_everybody_sees(home: str) -> None:
    trace = LoadTrace("drain", ("t_s", "battery_pct"), ((0.0, 77.0), (0.3, 11.0)))
    name = push(home, order_for(make_home(home), duration_s=0.6, trace=trace, method="adascale", settings={}))
    assert call("run", home, name).returncode == 0
    lines = journal_of(home, name)
    samples = [line for line in lines if line["kind"] == "sample" and "battery_pct" in line.get("emulated", ())]
    assert {line["values"]["battery_pct"] for line in samples} == {77.0, 11.0}
    assert all("charging" in line["emulated"] and line["values"]["charging"] == 0 for line in samples)
    decisions = [line for line in lines if line["kind"] == "decision"]
    assert (decisions[0]["context"]["battery_pct"], decisions[0]["context"]["charging"]) == (77.0, False)
    assert "battery" in decisions[-1]["reason"]


def test_a_device_does_one_trial_at_a_time(home: str) -> None:
    bundle = make_home(home)
    name = push(home, order_for(bundle, duration_s=30.0))
    other = push(home, order_for(bundle, id="t2"))
    assert call("run", home, name, "--detach").returncode == 0
    pid = begun(home, name)
    busy = call("run", home, other, "--detach")
    assert busy.returncode == 4 and '"t1"' in busy.said
    assert call("profile", home, stdin=json.dumps(order_to_json(order_for(bundle))).encode("ascii")).returncode == 4
    assert call("clean", home, name).returncode == 4
    assert call("gc", home, "--max-mb", "0").returncode == 4
    assert not os.path.exists(os.path.join(home, "trials", other, "trial.jsonl"))
    os.kill(pid, signal.SIGTERM)
    answer("wait", home, name)
    assert call("run", home, other).returncode == 0


def test_sigterm_ends_with_a_failed_line_and_takes_the_load_along(home: str) -> None:
    name = push(home, order_for(make_home(home), duration_s=30.0, trace=LOADED))
    call("run", home, name, "--detach")
    pid = begun(home, name)
    players = children_of(pid)
    assert players
    os.kill(pid, signal.SIGTERM)
    assert answer("wait", home, name)["state"] == "failed"
    last = journal_of(home, name)[-1]
    assert (last["kind"], last["error"], last["message"]) == ("failed", "user", "stopped by SIGTERM")
    assert eventually(lambda: all(gone(player) for player in players))


def test_kill_9_is_a_crash_that_everybody_sees(home: str) -> None:
    name = push(home, order_for(make_home(home), duration_s=30.0, trace=LOADED))
    call("run", home, name, "--detach")
    pid = begun(home, name)
    players = children_of(pid)
    os.kill(pid, signal.SIGKILL)
    assert answer("wait", home, name, "--timeout-s", str(SOON_S))["state"] == "crashed"
    assert answer("list", home)[0]["state"] == "crashed"
    assert eventually(lambda: all(gone(player) for player in players))
    again = push(home, order_for(make_home_again(home), attempt=2, duration_s=0.1))
    assert call("run", home, again).returncode == 0


def make_home_again(home: str) -> Any:
    """The bundle that is in the store already."""
    shutil.move(os.path.join(home, "store"), home + ".store")
    shutil.move(os.path.join(home, "trials"), home + ".trials")
    bundle = make_home(home)
    shutil.rmtree(os.path.join(home, "trials"))
    shutil.move(home + ".trials", os.path.join(home, "trials"))
    return bundle


def test_stop_ends_a_trial(home: str) -> None:
    name = push(home, order_for(make_home(home), duration_s=30.0))
    call("run", home, name, "--detach")
    begun(home, name)
    assert answer("stop", home, name) == {"stopped": True}
    assert answer("wait", home, name)["state"] == "failed"
    assert answer("stop", home, name) == {"stopped": False}


def test_a_warm_parent_forks_each_trial_and_leaves_by_itself(home: str) -> None:
    bundle, parents = make_home(home), []
    for number in (1, 2):
        name = push(home, order_for(bundle, attempt=number, duration_s=1.0))
        assert call("run", home, name, "--detach", "--warm-s", "1.5").returncode == 0
        pid = begun(home, name)
        with open(f"/proc/{pid}/stat") as file:
            parents.append(int(file.read().rpartition(")")[2].split()[1]))
        assert pid != parents[-1]
        assert answer("wait", home, name)["state"] == "done"
        assert journal_of(home, name)[-1]["kind"] == "done"
    assert parents[0] == parents[1] != 1
    assert eventually(lambda: gone(parents[0]))
    assert not os.path.exists(os.path.join(home, "warm.sock"))


def test_a_warm_parent_makes_room_for_another_engine(home: str) -> None:
    pytest.importorskip("onnxruntime")
    bundle, parents = make_home(home), []
    for number, engine in enumerate(("replay", "onnxruntime_cpu"), 1):
        name = push(home, order_for(bundle, attempt=number, duration_s=1.0, engine=engine))
        call("run", home, name, "--detach", "--warm-s", "20")
        pid = begun(home, name)
        with open(f"/proc/{pid}/stat") as file:
            parents.append(int(file.read().rpartition(")")[2].split()[1]))
        assert answer("wait", home, name)["state"] == "done"
        assert journal_of(home, name)[0]["runtime"].startswith(engine[:6])
    assert parents[0] != parents[1]
    assert eventually(lambda: gone(parents[0]))
    os.kill(parents[1], signal.SIGTERM)


def test_a_killed_trial_of_a_warm_parent_is_a_crash(home: str) -> None:
    bundle = make_home(home)
    name = push(home, order_for(bundle, duration_s=30.0))
    call("run", home, name, "--detach", "--warm-s", "2")
    os.kill(begun(home, name), signal.SIGKILL)
    assert answer("wait", home, name)["state"] == "crashed"
    again = push(home, order_for(bundle, attempt=2, duration_s=0.1))
    assert call("run", home, again, "--detach", "--warm-s", "2").returncode == 0
    assert answer("wait", home, again)["state"] == "done"


def test_a_warm_parent_that_was_frozen_leaves_the_trial_alone(home: str) -> None:
    bundle = make_home(home)
    first = push(home, order_for(bundle, duration_s=0.5))
    call("run", home, first, "--detach", "--warm-s", "2")
    with open(f"/proc/{begun(home, first)}/stat") as file:
        parent = int(file.read().rpartition(")")[2].split()[1])
    assert answer("wait", home, first)["state"] == "done"
    os.kill(parent, signal.SIGSTOP)
    try:
        again = push(home, order_for(bundle, attempt=2, duration_s=0.1))
        assert call("run", home, again, "--detach", "--warm-s", "2").returncode == 0
        assert answer("wait", home, again, "--timeout-s", "20")["state"] == "done"      # the frozen one keeps no lock
        with open(os.path.join(home, "lock")) as file:
            owner = file.read()
    finally:
        os.kill(parent, signal.SIGCONT)
    assert eventually(lambda: gone(parent))
    with open(os.path.join(home, "lock")) as file:
        assert file.read() == owner
    assert read(home, again, "stderr.log") == ""


def test_a_real_engine_and_an_emulated_device(home: str) -> None:
    pytest.importorskip("onnxruntime")
    bundle = make_home(home)
    name = push(home, order_for(bundle, engine="onnxruntime_cpu", knobs={"threads": 1}, slowdown=3.0,
                                provenance="emulated", duration_s=0.2))
    done = call("run", home, name)
    assert done.returncode == 0, done.said
    lines = journal_of(home, name)
    assert lines[0]["provenance"] == "emulated" and lines[0]["runtime"].startswith("onnxruntime 1.")
    served = [line for line in lines if line["kind"] == "inference" and line["phase"] == "window"]
    assert served and all(0 <= line["label"] < 10 and line["latency_ms"] > 0 for line in served)


def test_a_limit_on_the_journal_ends_the_trial_with_an_explanation(home: str) -> None:
    name = push(home, order_for(make_home(home), duration_s=30.0, costs=agent_kit.costs_of("replay"),
                                extra={"replay": {"latency_ms": {branch: 0.2 for branch, *_ in BRANCHES}}}))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    done = subprocess.run(agent_argv("run", home, name, "--detach"), cwd=agent_kit.ROOT, preexec_fn=limit, timeout=60)
    assert done.returncode == 0
    assert answer("wait", home, name, "--timeout-s", str(SOON_S))["state"] == "failed"
    lines = journal_of(home, name)
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    assert lines[-1]["error"] == "agent" and "File too large" in lines[-1]["message"]
    assert "cannot write" in read(home, name, "stderr.log")


def test_a_full_disk_leaves_a_failed_line(home: str) -> None:
    os.makedirs(home)
    if os.getuid() != 0 or subprocess.call(["mount", "-t", "tmpfs", "-o", "size=1m", "edgefleet-test", home]) != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        fast = {"replay": {"latency_ms": {branch: 0.2 for branch, *_ in BRANCHES}}}
        name = push(home, order_for(make_home(home), duration_s=60.0, extra=fast))
        call("run", home, name, "--detach")
        assert answer("wait", home, name, "--timeout-s", "60")["state"] == "failed"
        last = journal_of(home, name)[-1]
        assert last["error"] == "not_ready" and "No space left" in last["message"]
    finally:
        subprocess.call(["umount", "-l", home])


def test_the_zipped_agent_on_the_oldest_python(home: str, tmp_path: Any) -> None:
    python = find_python36()
    if python is None:
        pytest.skip("no python3.6 in PATH or ~/.pyenv/versions")
    archive = str(tmp_path / "agent.pyz")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("__main__.py", "import sys\n\nfrom device_agents.__main__ import main\n\nsys.exit(main())\n")
        for folder, _, files in os.walk(os.path.join(agent_kit.ROOT, "device_agents")):
            for file_name in files:
                if file_name.endswith(".py"):
                    path = os.path.join(folder, file_name)
                    made.write(path, os.path.relpath(path, agent_kit.ROOT))
    with open(archive, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    bundle = make_home(home)
    for number, words in ((1, []), (2, ["--detach", "--warm-s", "1"])):
        name = push(home, order_for(bundle, attempt=number, duration_s=0.2, trace=LOADED, method="adascale",
                                    settings={}))
        run = [python, "-I", archive, "run", "--home", home, name]
        subprocess.run(run + words, cwd=str(tmp_path), timeout=60, check=True)
        wait = [python, "-I", archive, "wait", "--home", home, name]
        assert json.loads(subprocess.check_output(wait, timeout=60).decode("ascii"))["state"] == "done"
        start = journal_of(home, name)[0]
        assert start["agent"] == digest and start["fingerprint"]["python"].startswith("3.6")
    code = os.path.join(home, "code")
    compiled = [name for _, _, files in os.walk(code) for name in files if name.endswith(".pyc")]
    assert len(os.listdir(code)) == 1 and "loop.cpython-36.pyc" in compiled


def find_python36() -> Any:
    candidates = [sys.executable, shutil.which("python3.6")]
    versions = os.path.expanduser("~/.pyenv/versions")
    if os.path.isdir(versions):
        candidates += [os.path.join(versions, name, "bin", "python") for name in sorted(os.listdir(versions))]
    for candidate in filter(None, candidates):
        try:
            out = subprocess.check_output([candidate, "-c", "import sys; print(sys.version_info[:2])"],
                                          stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            continue
        if out.strip() == b"(3, 6)":
            return candidate
    return None
