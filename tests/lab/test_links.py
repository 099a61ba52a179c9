"""Cables that are cut, daemons that die, disks that are full: what the transports make of them, over ssh and adb."""
import _thread
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.errors import ConfigError, DeviceNotReady, DeviceRefused, DeviceUnreachable
from harness.lab import faults
from harness.lab.lab import Lab
from harness.lab.wire import Shape
from harness.transports.ssh import SshTransport
from tests.lab.conftest import BOARD, PHONE

HOME = "/home/device/push"
SLOW = Shape(delay_ms=5.0, rate_mbit=40.0)      # ten seconds for what a test wants to interrupt


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(20_000_000))
    return path


@pytest.fixture(autouse=True)
def nothing_stays(lab: Lab) -> Iterator[None]:
    """No other test finds what was pushed here."""
    yield
    for member in lab.members:
        faults.inject(lab, member.name, "restore")
        lab.box(member.name).enter("rm", "-rf", HOME)


def after(seconds: float, lab: Lab, name: str, *kinds: str) -> threading.Thread:
    """Faults, one by one, each after so many seconds."""
    def run() -> None:
        for kind in kinds:
            time.sleep(seconds)
            faults.inject(lab, name, kind)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def when_there(path: str, lab: Lab, name: str, kind: str) -> threading.Thread:
    """A fault as soon as the device has that file, seen from outside."""
    def run() -> None:
        give_up, file = time.monotonic() + 60.0, lab.folder / "devices" / name / "disk" / "upper" / path.lstrip("/")
        while not file.exists() and time.monotonic() < give_up:
            time.sleep(0.05)
        faults.inject(lab, name, kind)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def names_in(transport: Any, folder: str) -> list[str]:
    return transport.run(["ls", "-A", folder], 20.0).stdout.decode().split()


def sha256_there(transport: Any, path: str) -> str:
    return transport.run(["sha256sum", path], 60.0).stdout.decode().split()[0]


def test_a_link_that_comes_back_in_mid_push_loses_nothing(lab: Lab, name: str, transport: Any, big: Path) -> None:
    faults.inject(lab, name, "slow-link", SLOW)
    thread = after(1.0, lab, name, "cut", "restore")
    transport.push([(big, f"{HOME}/big")], 60.0)
    thread.join()
    assert sha256_there(transport, f"{HOME}/big") == hashlib.sha256(big.read_bytes()).hexdigest()


def test_a_link_that_stays_away_ends_the_push_and_the_next_one_goes_on(
        lab: Lab, name: str, transport: Any, big: Path, tmp_path: Path) -> None:
    """What was complete before the cut is there; nothing torn has a final name."""
    (tmp_path / "small").write_bytes(b"small")
    transport.run(["rm", "-rf", HOME], 20.0)
    faults.inject(lab, name, "slow-link", SLOW)
    thread = when_there(f"{HOME}/small", lab, name, "cut")
    with pytest.raises(DeviceUnreachable, match=name):
        transport.push([(tmp_path / "small", f"{HOME}/small"), (big, f"{HOME}/big")], 5.0)
    thread.join()
    faults.inject(lab, name, "restore")
    assert "big" not in names_in(transport, HOME) and "small" in names_in(transport, HOME)
    transport.push([(big, f"{HOME}/big")], 60.0)
    assert sha256_there(transport, f"{HOME}/big") == hashlib.sha256(big.read_bytes()).hexdigest()


def test_of_many_files_those_stay_that_were_whole(lab: Lab, name: str, transport: Any, tmp_path: Path) -> None:
    transport.run(["rm", "-rf", HOME], 20.0)
    files = {f"f{number}": os.urandom(400_000) for number in range(50)}
    for file_name, content in files.items():
        (tmp_path / file_name).write_bytes(content)
    faults.inject(lab, name, "slow-link", SLOW)
    thread = after(2.5, lab, name, "kill-session")
    with pytest.raises(DeviceUnreachable):
        transport.push([(tmp_path / file_name, f"{HOME}/{file_name}") for file_name in files], 60.0)
    thread.join()
    faults.inject(lab, name, "restore")
    assert answers_again(transport)
    give_up = time.monotonic() + 20.0           # over there somebody must first find out that the cable is gone
    while time.monotonic() < give_up and any(one.endswith(".part") for one in names_in(transport, HOME)):
        time.sleep(0.2)
    kept = names_in(transport, HOME)
    assert 0 < len(kept) < len(files)
    for file_name in kept:
        assert sha256_there(transport, f"{HOME}/{file_name}") == hashlib.sha256(files[file_name]).hexdigest()


def test_a_daemon_killed_in_mid_push_is_a_lost_push(lab: Lab, name: str, transport: Any, big: Path) -> None:
    transport.run(["rm", "-rf", HOME], 20.0)
    faults.inject(lab, name, "slow-link", SLOW)
    thread = after(1.5, lab, name, "kill-session")
    with pytest.raises(DeviceUnreachable):
        transport.push([(big, f"{HOME}/big")], 60.0)
    thread.join()
    faults.inject(lab, name, "restore")
    assert answers_again(transport)
    assert "big" not in names_in(transport, HOME)


def test_a_daemon_killed_in_mid_command_is_lost_not_done(lab: Lab, name: str, transport: Any) -> None:
    """adb itself says exit code 0 here."""
    thread = after(0.5, lab, name, "kill-session")
    with pytest.raises(DeviceUnreachable, match=r"lost|not attached|offline"):
        transport.run(["sleep", "30"], 40.0)
    thread.join()
    assert answers_again(transport)


def answers_again(transport: Any) -> bool:
    """A daemon needs a moment to come back."""
    for _ in range(20):
        try:
            return bool(transport.run(["echo", "back"], 20.0).stdout == b"back\n")
        except DeviceUnreachable:
            time.sleep(0.25)
    return False


@pytest.mark.parametrize("fault", ["cut", "freeze"])
def test_silence_ends_at_the_deadline_and_the_device_is_found_again(
        lab: Lab, name: str, transport: Any, fault: str) -> None:
    thread = after(0.3, lab, name, fault)
    with pytest.raises(DeviceUnreachable, match="no end within 2 s"):
        transport.run(["sleep", "30"], 2.0)
    thread.join()
    with pytest.raises(DeviceUnreachable):
        transport.run(["true"], 2.0)
    faults.inject(lab, name, "restore")
    assert answers_again(transport)


def test_a_rebooted_device_is_connected_anew_and_another_boot(lab: Lab, name: str, transport: Any) -> None:
    boot_id = ["cat", "/proc/sys/kernel/random/boot_id"]
    before = transport.run(boot_id, 20.0).stdout
    transport.run(["sh", "-c", f"mkdir -p {HOME}; echo kept > {HOME}/kept"], 20.0)
    faults.inject(lab, name, "reboot")
    assert answers_again(transport)
    assert transport.run(boot_id, 20.0).stdout not in (before, b"")
    assert transport.run(["cat", f"{HOME}/kept"], 20.0).stdout == b"kept\n"


def test_a_full_disk_is_told_before_and_leaves_nothing(lab: Lab, name: str, transport: Any, big: Path) -> None:
    transport.run(["rm", "-rf", HOME], 20.0)
    faults.inject(lab, name, "disk-full")
    with pytest.raises(DeviceNotReady, match="disk is full"):
        transport.push([(big, f"{HOME}/big")], 60.0)
    assert names_in(transport, HOME) == []
    faults.inject(lab, name, "restore")
    transport.push([(big, f"{HOME}/big")], 60.0)
    assert names_in(transport, HOME) == ["big"]


def test_while_a_command_waits_not_one_packet_reaches_the_device(lab: Lab, name: str, transport: Any) -> None:
    """The measured window is such a wait: no keep-alive, no polling, no heartbeat."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(transport.run(["sleep", "6"], 30.0)))
    thread.start()
    give_up = time.monotonic() + 20.0
    while not lab.box(name).processes("sleep"):
        assert time.monotonic() < give_up, "the command did not begin"
        time.sleep(0.05)
    time.sleep(1.0)                             # for the last acknowledgements of its start
    before = lab.network.packets_in(name)
    time.sleep(3.0)
    assert lab.network.packets_in(name) == before
    thread.join()
    assert done[0].rc == 0 and lab.network.packets_in(name) > before


def test_a_lossy_link_changes_no_byte(lab: Lab, name: str, transport: Any, tmp_path: Path) -> None:
    faults.inject(lab, name, "slow-link", Shape(delay_ms=3.0, jitter_ms=2.0, loss=0.02, rate_mbit=50.0))
    (tmp_path / "sent").write_bytes(os.urandom(1_000_000))
    transport.push([(tmp_path / "sent", f"{HOME}/sent")], 60.0)
    transport.pull(f"{HOME}/sent", tmp_path / "back", 60.0)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "sent").read_bytes()


def connect_s(lab: Lab) -> float:
    """How long the board's sshd takes to accept: a round trip, and another where its address is not known yet."""
    begun, member = time.monotonic(), lab.member(BOARD)
    with socket.create_connection((member.address, member.port), timeout=20.0):
        return time.monotonic() - begun


def test_a_slow_link_outlives_a_reboot_and_takes_other_shapes(lab: Lab) -> None:
    faults.inject(lab, BOARD, "slow-link", Shape(delay_ms=200.0))
    assert connect_s(lab) >= 0.4
    faults.inject(lab, BOARD, "reboot")
    assert connect_s(lab) >= 0.4
    faults.inject(lab, BOARD, "slow-link", Shape(delay_ms=400.0))
    connect_s(lab)                              # its first frame may be there before the new shape is
    assert connect_s(lab) >= 0.8
    faults.inject(lab, BOARD, "restore")
    connect_s(lab)
    assert connect_s(lab) < 0.3 and wires(lab) == []


def test_a_slow_link_whose_process_died_is_made_anew(lab: Lab) -> None:
    faults.inject(lab, BOARD, "slow-link", Shape())
    [wire] = wires(lab)
    wire.kill()
    psutil.wait_procs([wire], timeout=10.0)
    faults.inject(lab, BOARD, "slow-link", Shape(delay_ms=200.0))
    assert connect_s(lab) >= 0.4 and len(wires(lab)) == 1


@pytest.mark.parametrize("end", [ConfigError, KeyboardInterrupt])
def test_a_slow_link_that_is_not_ready_leaves_the_plain_cable(
        lab: Lab, monkeypatch: pytest.MonkeyPatch, end: type[BaseException], interruptible: None) -> None:
    """Its deadline comes, or Ctrl-C, before its process is ready, which takes a while: it is a Python."""
    if end is ConfigError:
        monkeypatch.setattr(faults, "READY_S", 0.001)
    else:
        threading.Thread(target=interrupt_once_there, args=(lab.folder / f"wire-{BOARD}.pid",)).start()
    with pytest.raises(end):
        faults.inject(lab, BOARD, "slow-link", Shape(delay_ms=400.0))
    assert wires(lab) == []
    connect_s(lab)
    assert connect_s(lab) < 0.3


def interrupt_once_there(file: Path) -> None:
    give_up = time.monotonic() + 20.0
    while time.monotonic() < give_up:
        if file.exists():
            _thread.interrupt_main()
            return
        time.sleep(0.001)


def wires(lab: Lab) -> list[psutil.Process]:
    """Processes of this lab's slow links."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "harness.lab.wire" in words and any(lab.tag in word for word in words):
                found.append(process)
    return found


def test_a_new_host_key_is_refused_until_a_person_agrees(lab: Lab, devices: Any, tmp_path: Path) -> None:
    faults.inject(lab, BOARD, "new-host-key")
    with pytest.raises(DeviceRefused, match="HAS CHANGED"):
        SshTransport(devices[BOARD], tmp_path).run(["true"], 20.0)
    lab.write_known_hosts()
    made = SshTransport(devices[BOARD], tmp_path)
    assert made.run(["hostname"], 20.0).stdout.decode().strip() == BOARD
    made.close()


def test_devices_are_machines_of_their_own(lab: Lab, name: str, transport: Any) -> None:
    assert transport.run(["hostname"], 20.0).stdout.decode().strip() == name
    mine = f"/var/only-on-{name}"
    transport.run(["sh", "-c", f"echo mine > {mine}"], 20.0)
    assert transport.run(["cat", mine], 20.0).stdout == b"mine\n" and not Path(mine).exists()
    for member in lab.members:
        if member.name != name:
            assert lab.box(member.name).enter("ls", mine).returncode != 0
    assert b"pytest" not in transport.run(["ps", "-eo", "args"], 20.0).stdout
    if name == PHONE:
        assert transport.run(["getprop", "ro.product.model"], 20.0).stdout == b"Pixel 6 (lab)\n"
        assert b"level: 67" in transport.run(["dumpsys", "battery"], 20.0).stdout
