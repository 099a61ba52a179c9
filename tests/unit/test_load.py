"""The load player: the trace's arithmetic, what the children really do, and that none outlives the agent.

Shares of a core are compared with what the machine had to give: a test that finds the cores taken by others skips.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from device_agents import load_child, tls
from device_agents.clock import BootClock
from device_agents.journal import Journal
from device_agents.load import LoadPlayer, Steps
from device_agents.peer import Place
from device_agents.seams import Clock, Engine, UserError
from device_agents.serve import Server
from device_agents.sysfs import Files
from device_agents.wire import LoadTrace
from tests.agent_kit import PEER_CERTIFICATE, PEER_KEY

ROOT = str(Path(__file__).resolve().parent.parent.parent)


def player(tmp_path: Path, trace: LoadTrace, cores: object = 1, root: str = "", sink: object = None) -> tuple:
    clock = BootClock()
    journal = Journal(str(tmp_path / "trial.jsonl"), clock)
    return LoadPlayer(trace, cores, journal, clock, root, sink), journal, clock


def lines(journal: Journal, kind: str) -> list:
    journal.flush()
    found = [json.loads(line) for line in Path(journal.path).read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: object) -> None:
    for _ in range(1500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("did not happen in 15 s")


def stolen_pct(begin: list, end: list) -> float:
    """Share of all cores that others took between two readings of /proc/stat, our children not counted."""
    delta = [after - before for before, after in zip(begin, end)]
    return 100.0 * (sum(delta) - delta[3] - delta[4]) / sum(delta)


def proc_stat() -> list:
    with open("/proc/stat") as file:
        return [int(word) for word in file.readline().split()[1:9]]


def test_steps_are_the_trace_as_a_function_of_time() -> None:
    trace = LoadTrace("x", ("t_s", "mem_mb", "cpu_pct"), ((1.0, None, 20.0), (2.0, 64.0, 120.0), (4.0, 0.0, -5.0)))
    cpu, mem = Steps.of(trace, "cpu_pct", 100.0), Steps.of(trace, "mem_mb", 1e9)
    assert [cpu.at(t_s) for t_s in (0.0, 1.0, 1.9, 2.0, 3.9, 4.0, 99.0)] == [0.0, 20.0, 20.0, 100.0, 100.0, 0.0, 0.0]
    assert [mem.at(t_s) for t_s in (1.5, 3.0, 5.0)] == [0.0, 64.0, 0.0]
    assert cpu.highest() == 100.0
    assert cpu.mean(0, 5000000000) == pytest.approx((20 + 2 * 100) / 5)
    assert cpu.mean(1500000000, 2500000000) == pytest.approx(60.0)
    assert Steps.of(trace, "rate_x", 1e9).highest() == 0.0


@pytest.mark.parametrize("trace", [
    LoadTrace("idle", ("t_s", "cpu_pct", "mem_mb"), ((0.0, 0.0, 0.0), (5.0, 0.0, None))),
    LoadTrace("scripted", ("t_s", "battery_pct", "deadline_ms"), ((0.0, 15.0, 20.0),)),
    LoadTrace("empty", ("t_s",), ()),
])
def test_a_trace_that_asks_for_nothing_starts_no_children(tmp_path: Path, trace: LoadTrace) -> None:
    load, journal, clock = player(tmp_path, trace, 2)
    load.start(clock.now_ns())
    assert load.pids() == []
    load.stop()
    assert lines(journal, "loadgen") == []


@pytest.mark.parametrize("asked_pct", [20.0, 50.0, 80.0])
def test_asked_share_is_achieved_where_the_core_is_free(tmp_path: Path, asked_pct: float) -> None:
    load, journal, clock = player(tmp_path, LoadTrace("x", ("t_s", "cpu_pct"), ((0.0, asked_pct),)), 1)
    begin = proc_stat()
    t0_ns = clock.now_ns() + 50000000
    load.start(t0_ns)
    assert len(load.pids()) == 1
    clock.sleep_until(t0_ns + 2500000000)
    load.stop()
    cores = os.cpu_count() or 1
    others_pct = stolen_pct(begin, proc_stat()) - asked_pct / cores
    found = lines(journal, "loadgen")
    assert len(found) >= 2
    assert {line["asked_cpu_pct"] for line in found} == {asked_pct}
    assert {(line["asked_mem_mb"], line["achieved_mem_mb"]) for line in found} == {(None, None)}
    span_s = sum(line["span_s"] for line in found)
    achieved_pct = sum(line["achieved_cpu_pct"] * line["span_s"] for line in found) / span_s
    assert achieved_pct <= asked_pct + 5.0      # the machine's other work can only take away
    if others_pct > 50.0 / cores:
        pytest.skip(f"the machine is busy with other work ({others_pct:.0f} % of all cores)")
    assert achieved_pct >= asked_pct - 5.0


def test_load_follows_the_trace_and_is_over_all_cores(tmp_path: Path) -> None:
    trace = LoadTrace("x", ("t_s", "cpu_pct"), ((0.0, 0.0), (1.0, 60.0), (2.0, 0.0)))
    load, journal, clock = player(tmp_path, trace, min(2, os.cpu_count() or 1))
    t0_ns = clock.now_ns() + 20000000
    load.start(t0_ns)
    assert len(load.pids()) == min(2, os.cpu_count() or 1)
    clock.sleep_until(t0_ns + 3020000000)
    load.stop()
    found = lines(journal, "loadgen")
    assert sum(line["span_s"] * line["asked_cpu_pct"] for line in found) == pytest.approx(60.0, rel=0.1)
    assert all(line["achieved_cpu_pct"] <= line["asked_cpu_pct"] + 10.0 for line in found)
    assert sum(line["span_s"] * line["achieved_cpu_pct"] for line in found) > 5.0       # however busy the machine is


def test_balloon_is_resident_memory_and_shrinks_again(tmp_path: Path) -> None:
    trace = LoadTrace("x", ("t_s", "mem_mb"), ((0.0, 48.0), (2.0, 10.0)))
    load, journal, clock = player(tmp_path, trace)
    t0_ns = clock.now_ns()
    load.start(t0_ns)
    (pid,) = load.pids()
    shared_mb = anonymous_mb(pid)
    wait_for(lambda: anonymous_mb(pid) - shared_mb > 40.0)
    wait_for(lambda: anonymous_mb(pid) - shared_mb < 20.0)
    clock.sleep_until(t0_ns + 4200000000)
    load.stop()
    found = lines(journal, "loadgen")
    assert found[0]["asked_mem_mb"] == pytest.approx(48.0, abs=5.0)
    assert 30.0 < max(line["achieved_mem_mb"] for line in found) < 52.0
    assert 8.0 <= found[-1]["achieved_mem_mb"] <= 14.0
    assert found[-1]["asked_mem_mb"] == 10.0
    assert found[0]["asked_cpu_pct"] is None


def anonymous_mb(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as file:
        words = file.read().split()
    return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE") / 1048576


def test_balloon_leaves_the_reserve_and_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 2048000 kB\nMemAvailable: 102400 kB\n")   # reserve: 100 MiB
    load, journal, clock = player(tmp_path, LoadTrace("x", ("t_s", "mem_mb"), ((0.0, 500.0),)), root=str(tmp_path))
    load.start(clock.now_ns())
    wait_for(lambda: len(lines(journal, "loadgen")) >= 2)
    load.stop()
    assert max(line["achieved_mem_mb"] for line in lines(journal, "loadgen")) < 5.0
    notes = [line["text"] for line in lines(journal, "note")]
    assert len(notes) == 1
    assert "of 500 MB asked" in notes[0]
    assert "reserve of 100 MB" in notes[0]


def test_reserve_and_room(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    meminfo = tmp_path / "proc/meminfo"
    meminfo.write_text("MemTotal: 512000 kB\nMemFree: 5 kB\nMemAvailable: 204800 kB\n")
    files, root = Files(), str(tmp_path)
    assert load_child.reserve_mb(files, root) == 64.0
    assert load_child.room_mb(files, root) == 200.0 - 64.0
    meminfo.write_text("MemTotal: 512000 kB\nMemFree: 400000 kB\n")
    assert load_child.room_mb(files, root) == 0.0           # unknown is not room


def served(key: bytes = b"k" * 32, port: int = 0) -> tuple:
    """(place, server, its log): a peer that infers nothing, and where a device with the key b"kkk..." finds it."""
    listener, log = socket.socket(), []
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(4)
    server = Server(Engine(), [], 16, key, tls.for_peer(PEER_CERTIFICATE, PEER_KEY, "/tmp"), listener, 60.0, log.append)
    threading.Thread(target=server.run, daemon=True).start()
    return Place("edge", listener.getsockname(), tls.for_device(PEER_CERTIFICATE), b"k" * 32), server, log


def test_traffic_arrives_as_asked_and_follows_the_trace(tmp_path: Path) -> None:
    place, server, log = served()
    trace = LoadTrace("x", ("t_s", "traffic_mbps"), ((0.0, 4.0), (2.0, 0.0)))
    load, journal, clock = player(tmp_path, trace, sink=place.sink)
    t0_ns = clock.now_ns() + 200000000
    load.start(t0_ns)
    assert len(load.pids()) == 1
    clock.sleep_until(t0_ns + 3100000000)
    load.stop()
    found = lines(journal, "loadgen")
    assert [line["asked_traffic_mbps"] for line in found[:3]] == pytest.approx([4.0, 4.0, 0.0], abs=1.0)
    asked_mb, achieved_mb = (sum(line[name + "_traffic_mbps"] * line["span_s"] for line in found) / 8
                             for name in ("asked", "achieved"))
    assert asked_mb == pytest.approx(1.0, rel=0.1)
    assert 0.3 < achieved_mb < 1.1, "the machine's other work can only take away"
    assert found[2]["achieved_traffic_mbps"] < 1.5 and found[0]["asked_cpu_pct"] is None
    server._over.set()
    assert log == []


def test_traffic_that_a_link_does_not_take_is_not_achieved_and_not_made_up_for(tmp_path: Path) -> None:
    """The other end reads nothing for two seconds: what its buffer holds is acknowledged, the rest is forgiven."""
    listener = socket.socket()
    listener.settimeout(10.0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    address = listener.getsockname()
    trace = LoadTrace("x", ("t_s", "traffic_mbps"), ((0.0, 80.0),))
    load, journal, clock = player(tmp_path, trace, sink=lambda: socket.create_connection(address, 2.0))
    t0_ns = clock.now_ns()
    load.start(t0_ns)
    link = listener.accept()[0]
    clock.sleep_until(t0_ns + 2100000000)
    stalled = lines(journal, "loadgen")
    assert sum(line["achieved_traffic_mbps"] for line in stalled) < 8.0

    taken_b: list = []
    thread = threading.Thread(target=lambda: taken_b.extend(map(len, iter(lambda: link.recv(1 << 16), b""))))
    thread.start()
    clock.sleep_until(t0_ns + 3100000000)
    load.stop()
    thread.join(5.0)
    link.close()
    listener.close()
    achieved_b = sum(line["achieved_traffic_mbps"] * line["span_s"] for line in lines(journal, "loadgen")) * 125000
    assert 1e6 < achieved_b < 1.01 * sum(taken_b) < 15e6, "of the 20 MB of two seconds nothing was made up for"


def test_a_sink_that_comes_later_is_found_and_a_stranger_is_none(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = Place("edge", ("127.0.0.1", port), tls.for_device(PEER_CERTIFICATE), b"k" * 32)
    load, journal, clock = player(tmp_path, LoadTrace("x", ("t_s", "traffic_mbps"), ((0.0, 4.0),)), sink=place.sink)
    load.start(clock.now_ns())
    _, stranger, log = served(b"x" * 32, port)
    wait_for(lambda: any("a wrong key" in line for line in log))
    stranger._over.set()
    wait_for(lambda: stranger._listener.fileno() < 0)
    wait_for(lambda: lines(journal, "loadgen"))
    assert {line["achieved_traffic_mbps"] for line in lines(journal, "loadgen")} == {0.0}
    _, server, _ = served(port=port)
    wait_for(lambda: lines(journal, "loadgen")[-1]["achieved_traffic_mbps"] > 2.0)
    load.stop()
    server._over.set()


def test_traffic_without_a_peer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trace x asks for traffic_mbps, and the trial has no peer"):
        player(tmp_path, LoadTrace("x", ("t_s", "traffic_mbps"), ((0.0, 4.0),)))


def test_a_child_that_dies_is_noted(tmp_path: Path) -> None:
    load, journal, clock = player(tmp_path, LoadTrace("x", ("t_s", "cpu_pct"), ((0.0, 10.0),)))
    load.start(clock.now_ns())
    (pid,) = load.pids()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: lines(journal, "note"))
    assert load.pids() == []
    load.stop()
    assert f"load player {pid} (burn) died" in lines(journal, "note")[0]["text"]


def test_stop_ends_the_children_at_once_and_twice_is_harmless(tmp_path: Path) -> None:
    trace = LoadTrace("x", ("t_s", "cpu_pct", "mem_mb"), ((0.0, 10.0, 8.0),))
    load, journal, clock = player(tmp_path, trace, 2)
    load.start(clock.now_ns() + 3600 * 1000000000)          # the window never came: a trial that failed in warm-up
    pids = load.pids()
    assert len(pids) == 3
    assert all(alive(pid) for pid in pids)
    load.stop()
    load.stop()
    assert not any(alive(pid) for pid in pids)
    assert load.pids() == []
    assert lines(journal, "loadgen") == []


class Starved(Clock):
    """More than a second passes between any two looks of the reporting thread, `count` times; then it may break."""

    def __init__(self, count: int, breaks: bool = False) -> None:
        self.left, self.breaks, self.skipped_ns, self.real = count, breaks, 0, BootClock()

    def now_ns(self) -> int:
        if threading.current_thread().name == "loadgen":
            self.left -= 1
            self.skipped_ns += 1100000000 if self.left > 0 else 0
            if self.breaks and self.left < 0:
                raise ZeroDivisionError("what nobody expects")
        return self.real.now_ns() + self.skipped_ns

    def sleep_until(self, t_ns: int) -> None:
        self.real.sleep_until(t_ns - self.skipped_ns)


def test_lines_go_on_when_more_than_a_second_passes_between_two(tmp_path: Path) -> None:
    clock = Starved(20)
    journal = Journal(str(tmp_path / "trial.jsonl"), clock)
    load = LoadPlayer(LoadTrace("x", ("t_s", "mem_mb"), ((0.0, 8.0),)), 1, journal, clock)
    load.start(clock.now_ns())
    wait_for(lambda: clock.left < 0 and lines(journal, "loadgen"))
    load.stop()
    journal.check()
    found = lines(journal, "loadgen")
    assert len(found) >= 4 and max(line["span_s"] for line in found) >= 1.1


def test_what_ends_the_reporting_thread_ends_the_trial(tmp_path: Path) -> None:
    clock = Starved(5, breaks=True)
    journal = Journal(str(tmp_path / "trial.jsonl"), BootClock())
    load = LoadPlayer(LoadTrace("x", ("t_s", "mem_mb"), ((0.0, 8.0),)), 1, journal, clock)
    load.start(clock.now_ns())
    wait_for(lambda: clock.left < 0)
    load.stop()
    with pytest.raises(ZeroDivisionError, match="what nobody expects"):
        journal.write("note", text="the loop's next line")


def test_children_hold_no_descriptor_of_the_agents(tmp_path: Path) -> None:
    """An inherited lock file would keep `agent wait` waiting for ever."""
    lock = os.open(str(tmp_path / "lock"), os.O_CREAT | os.O_RDWR)
    os.set_inheritable(lock, True)
    load, _, clock = player(tmp_path, LoadTrace("x", ("t_s", "cpu_pct"), ((0.0, 10.0),)))
    load.start(clock.now_ns())
    (pid,) = load.pids()

    def open_files() -> set:
        try:
            return {os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}
        except FileNotFoundError:               # it closed one between the two looks
            return set()

    wait_for(lambda: open_files() == {"/dev/null"})
    load.stop()
    os.close(lock)


@pytest.mark.parametrize("with_prctl", [True, False])
def test_children_die_with_an_agent_that_is_killed(tmp_path: Path, with_prctl: bool) -> None:
    """With the kernel's parent-death signal, and by their own look at the parent's id where there is no ctypes."""
    code = f"""
import os, sys, time
sys.path.insert(0, {ROOT!r})
from device_agents import load_child
from device_agents.clock import BootClock
from device_agents.journal import Journal
from device_agents.load import LoadPlayer
from device_agents.wire import LoadTrace
if {not with_prctl!r}:
    sys.modules["ctypes"] = None
clock = BootClock()
trace = LoadTrace("x", ("t_s", "cpu_pct", "mem_mb"), ((0.0, 30.0, 8.0),))
load = LoadPlayer(trace, 1, Journal({str(tmp_path / "trial.jsonl")!r}, clock), clock)
load.start(clock.now_ns())
print(*load.pids(), flush=True)
time.sleep(600)
"""
    agent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    pids = [int(word) for word in agent.stdout.readline().split()]
    try:
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        agent.kill()
        agent.wait()
        wait_for(lambda: not any(alive(pid) for pid in pids))
    finally:
        agent.kill()
        agent.wait()
        agent.stdout.close()
