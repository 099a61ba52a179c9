"""Offloading between devices of the lab: over real and shaped links, and with peers that die, leave or never answer.

Every test is the command line as a process with a home of its own, and looks at both devices from outside.
"""
import json
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness.lab import faults
from harness.lab.lab import Lab
from harness.lab.wire import Shape
from tests import lab_kit
from tests.agent_kit import eventually
from tests.e2e.spine import edgefleet, kill, query, start
from tests.lab.conftest import BOARD, OTHER_BOARD, OTHER_PHONE, PHONE, PLUGINS
from tests.lab.test_trials import FINISH_S, attempts, wait_for_window

CAMPAIGN = """
name = "offload"
seed = 3
fleet = "{fleet}"
plugins = "{plugins}"
[matrix]
device = ["{device}"]
task = ["digits"]
model = ["tiny"]
method = ["far"]
trace = ["{trace}"]
[methods.far]
adapter = "alternate"
engine = "remote"
peers = ["{peer}"]
{link}
[trial]
arrival = {{ kind = "periodic", rate = {{ hz = 15 }} }}
deadline = {{ ms = 200 }}
duration_s = {duration_s}
warmup_s = 0.1
[training]
epochs = 1
"""
DELAY_MS = 10.0
AGENT = {BOARD: "/home/device/.edgefleet-agent", OTHER_BOARD: "/home/device/.edgefleet-agent",
         PHONE: "/data/local/tmp/edgefleet", OTHER_PHONE: "/data/local/tmp/edgefleet"}
ALL_PROTOCOLS, IPV4 = 0x0003, 0x0800            # ETH_P_ALL, ETH_P_IP


@pytest.fixture
def campaign(lab: Lab, tmp_path: Path, monkeypatch: Any) -> Any:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def write(device: str = BOARD, peer: str = OTHER_BOARD, duration_s: float = 4.0, link: str = "",
              trace: str = "idle") -> Path:
        path = tmp_path / "offload.toml"
        path.write_text(CAMPAIGN.format(fleet=lab.fleet, plugins=PLUGINS, device=device, peer=peer, link=link,
                                        duration_s=duration_s, trace=trace))
        return path

    return write


@pytest.fixture(autouse=True)
def nothing_stays(lab: Lab) -> Any:
    """Whatever a test does to a peer, in the end nothing listens or runs there but its cable's daemon."""
    yield
    for member in lab.members:
        faults.inject(lab, member.name, "restore")
    for member in lab.members:
        assert eventually(lambda: quiet(lab, member.name)), (member.name, listening(lab, member.name))  # noqa: B023
        assert serving(lab, member.name) == []
        for process in lab.box(member.name).processes(".pyz"):
            process.kill()
        lab.box(member.name).enter("rm", "-rf", AGENT[member.name])


def listening(lab: Lab, name: str) -> set[int]:
    """Ports on which something listens over there."""
    text = lab.box(name).enter("cat", "/proc/net/tcp", "/proc/net/tcp6").stdout.decode()
    rows = [line.split() for line in text.splitlines()]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}


def quiet(lab: Lab, name: str) -> bool:
    """Whether the daemon of its cable, sshd or adbd, is all that listens over there."""
    return listening(lab, name) == {lab.member(name).port}


def serving(lab: Lab, name: str) -> list[Any]:
    return [process for process in lab.box(name).processes(".pyz") if "serve" in process.cmdline()]


def remote(home: Path, status: str) -> list[tuple]:
    return query(home, "select json_extract(body, '$.trip_ms'), phase from event where kind = 'remote' "
                       "and json_extract(body, '$.status') = ?", status)


def sent_by_the_controller(lab: Lab, seconds: float) -> int:
    """IP packets that this machine sends into the lab in that time; ARP is the kernel's own affair."""
    sent, end = 0, time.monotonic() + seconds
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as tap:
        tap.bind((lab.network.tag, 0))
        while (left_s := end - time.monotonic()) > 0:
            tap.settimeout(left_s)
            with suppress(TimeoutError):
                _, (_, protocol, kind, *_) = tap.recvfrom(64)
                sent += kind == socket.PACKET_OUTGOING and protocol == IPV4
    return sent


def needs(lab: Lab, *names: str) -> None:
    if not set(names) <= {member.name for member in lab.members}:
        pytest.skip(lab_kit.no_phone())


@pytest.mark.parametrize(("device", "peer"), [(BOARD, OTHER_BOARD), (PHONE, OTHER_BOARD), (BOARD, PHONE),
                                                (PHONE, OTHER_PHONE)])
def test_a_device_offloads_to_another_host_over_a_slow_link(
        lab: Lab, device: str, peer: str, campaign: Any, tiny_home: Path) -> None:
    """The link is slow on the wire, so what is measured through it is measured, and none of it is the controller's."""
    needs(lab, device, peer)
    faults.inject(lab, peer, "slow-link", Shape(delay_ms=DELAY_MS, rate_mbit=20.0))
    controller = start("run", campaign(device, peer, duration_s=6.0), "--scheduler", "inline", home=tiny_home)
    wait_for_window(lab, device, controller)
    assert len(listening(lab, peer)) == 2 and len(serving(lab, peer)) == 1
    time.sleep(0.5)
    heard = lab.network.packets_in(peer)
    assert sent_by_the_controller(lab, 3.0) == 0 and lab.network.packets_in(peer) > heard + 20
    assert controller.wait(timeout=FINISH_S) == 0
    assert query(tiny_home, "select device, state, provenance from trial") == [(device, "done", "measured")]
    asked = [trip_ms for trip_ms, phase in remote(tiny_home, "ok") if phase == "window"]
    assert len(asked) >= 10 and min(asked) >= 2 * DELAY_MS
    rtts = query(tiny_home, "select value, source, provenance from measurement where metric = 'rtt_ms' "
                            "and phase = 'window' and value is not null")
    assert rtts and min(value for value, *_ in rtts) >= 2 * DELAY_MS
    assert {row[1:] for row in rtts} == {(f"link to {peer}", "measured")}
    log = lab.box(peer).enter("cat", f"{AGENT[peer]}/serve.log")
    assert log.returncode == 0 and b"refused" not in log.stdout and b"Traceback" not in log.stdout
    assert eventually(lambda: quiet(lab, peer)) and lab.box(peer).processes(".pyz") == []


def test_a_link_may_be_shaped_on_the_device_as_well(lab: Lab, campaign: Any, tiny_home: Path) -> None:
    done = edgefleet("run", campaign(duration_s=3.0, link="link = { delay_ms = 30, rate_mbps = 5 }"),
                     "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    asked = [trip_ms for trip_ms, _ in remote(tiny_home, "ok")]
    assert len(asked) >= 5 and min(asked) >= 30.0
    assert query(tiny_home, "select distinct value from measurement where metric = 'asked_rtt_ms'") == [(30.0,)]
    assert query(tiny_home, "select distinct provenance from measurement where metric = 'rtt_ms'") == [("emulated",)]


def test_traffic_of_a_trace_is_recorded_asked_and_achieved_on_a_link_that_takes_less(
        lab: Lab, campaign: Any, tiny_home: Path, tmp_path: Path) -> None:
    """2 Mbit/s fit the link, 20 do not, and the offloading beside them feels it."""
    (tmp_path / "plugins/traces").mkdir(parents=True)
    (tmp_path / "plugins/traces/loud.csv").write_text("t_x,traffic_mbps\n0,0\n0.25,2\n0.5,20\n")
    for folder in PLUGINS.iterdir():
        (tmp_path / "plugins" / folder.name).symlink_to(folder)
    faults.inject(lab, OTHER_BOARD, "slow-link", Shape(delay_ms=2.0, rate_mbit=6.0))
    path = campaign(duration_s=16.0, trace="loud")
    path.write_text(path.read_text().replace(str(PLUGINS), str(tmp_path / "plugins")))
    done = edgefleet("run", path, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    rows = query(tiny_home, "select asked.value, achieved.value from measurement asked join measurement achieved "
                            "using (trial, seq) where asked.metric = 'asked_traffic_mbps' "
                            "and achieved.metric = 'achieved_traffic_mbps' order by seq")
    quiet, some, much = ([achieved for asked, achieved in rows if asked == level] for level in (0.0, 2.0, 20.0))
    assert len(quiet) >= 2 and max(quiet) == 0.0
    assert len(some) >= 2 and sum(some) / len(some) == pytest.approx(2.0, rel=0.3)
    assert len(much) >= 4 and 2.0 < sum(much) / len(much) < 8.0
    assert query(tiny_home, "select value from summary where metric = 'load_valid'") == [(0.0,)]
    shown = edgefleet("show", query(tiny_home, "select id from trial")[0][0], home=tiny_home)
    assert "load: asked_traffic_mbps 20" in shown.stdout


def test_a_trial_that_is_killed_lets_its_peer_go_and_runs_once_more(
        lab: Lab, campaign: Any, tiny_home: Path) -> None:
    controller = start("run", campaign(), "--scheduler", "inline", home=tiny_home)
    wait_for_window(lab, BOARD, controller)
    first = listening(lab, OTHER_BOARD) - {lab.member(OTHER_BOARD).port}
    faults.inject(lab, BOARD, "kill-agent")
    assert controller.wait(timeout=FINISH_S) == 0
    crashed, done = attempts(tiny_home, BOARD)
    assert crashed == (1, "failed", "AgentCrashed", "device") and done == (2, "done", None, None)
    assert len(first) == 1 and not first & listening(lab, OTHER_BOARD) and remote(tiny_home, "ok")


@pytest.mark.parametrize("peer", [OTHER_BOARD, PHONE])
def test_a_peer_closes_its_port_when_trial_and_controller_are_killed(
        lab: Lab, peer: str, campaign: Any, tiny_home: Path) -> None:
    """Nobody is left to stop it: it notices by itself. That its cable's daemon died does not end it."""
    needs(lab, peer)
    controller = start("run", campaign(peer=peer, duration_s=60.0), "--scheduler", "inline", home=tiny_home)
    wait_for_window(lab, BOARD, controller)
    kill(controller)
    faults.inject(lab, peer, "kill-session")
    time.sleep(1.0)
    assert eventually(lambda: len(listening(lab, peer)) == 2) and len(serving(lab, peer)) == 1
    faults.inject(lab, BOARD, "kill-agent")
    assert eventually(lambda: quiet(lab, peer)) and lab.box(peer).processes(".pyz") == []


def test_a_peer_that_leaves_in_mid_trial_costs_fallbacks_and_no_row(
        lab: Lab, campaign: Any, tiny_home: Path) -> None:
    controller = start("run", campaign(duration_s=6.0), "--scheduler", "inline", home=tiny_home)
    wait_for_window(lab, BOARD, controller)
    time.sleep(1.5)
    faults.inject(lab, OTHER_BOARD, "cut")
    time.sleep(4.0)
    faults.inject(lab, OTHER_BOARD, "restore")
    assert controller.wait(timeout=FINISH_S) == 0
    assert attempts(tiny_home, BOARD) == [(1, "done", None, None)]
    assert remote(tiny_home, "ok") and remote(tiny_home, "fallback")
    notes = [json.loads(body)["text"] for (body,) in query(tiny_home, "select body from event where kind = 'note'")]
    assert any(f"peer {OTHER_BOARD} gave no answer, served here instead" in text for text in notes), notes


def test_a_peer_that_cannot_be_reached_is_to_blame_and_not_the_device(
        lab: Lab, campaign: Any, tiny_home: Path) -> None:
    faults.inject(lab, OTHER_BOARD, "cut")
    done = edgefleet("run", campaign(), "--scheduler", "inline", home=tiny_home, timeout_s=FINISH_S)
    assert done.returncode in (1, 3), done.stderr
    found = attempts(tiny_home, BOARD)
    assert found and {row[1:] for row in found} == {("failed", "DeviceUnreachable", "link")}
    assert query(tiny_home, "select count(*) from attempt where message like ?", f"%{OTHER_BOARD}%")[0][0] == len(found)
    faults.inject(lab, OTHER_BOARD, "restore")
    again = edgefleet("run", campaign(), "--scheduler", "inline", "--retry-failed", home=tiny_home)
    assert again.returncode == 0, again.stderr
