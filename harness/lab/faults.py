"""What can go wrong with a device, on demand: `inject(lab, device, fault)`. `restore` mends whatever was done.

Called by `edgefleet lab fault` and by tests; needs root. Each fault is what it says at the level where it happens: a
pulled cable is a port that is down, a reboot loses every socket, a full disk is a file system without a free block.
"""
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psutil

from harness.errors import ConfigError
from harness.lab import phone, sshd
from harness.lab.board import Board, boards
from harness.lab.box import write_tree
from harness.lab.lab import DISK_MB, SOCKETS, Lab, boot, end_process
from harness.lab.network import taps
from harness.lab.wire import Shape

SLOW = Shape(delay_ms=40.0, jitter_ms=10.0, loss=0.01, rate_mbit=5.0)
THROTTLED_CORES = 0.25
OFF_S = 0.5                                     # that a rebooting device is away, at least
BACK_S = 10.0                                   # until sshd listens again
READY_S = 20.0                                  # until a slow link's process carries frames
OOM_MARGIN_MB = 64

_HOG = """
import sys
blocks = [bytearray(1 << 20) for _ in range(int(sys.argv[1]))]
"""


def inject(lab: Lab, device: str, fault: str, shape: Shape = SLOW) -> None:
    """Do it, now. `shape` is what slow-link makes of the link. Raises ConfigError for an unknown fault or device."""
    if fault not in FAULTS:
        raise ConfigError.unknown("fault", fault, FAULTS)
    lab.box(device)                             # a clear refusal before anything is touched
    FAULTS[fault](lab, device, shape)


def _cut(lab: Lab, device: str, _shape: Shape) -> None:
    lab.network.plugged(lab.member(device).place, False)


def _restore(lab: Lab, device: str, _shape: Shape) -> None:
    box, board = lab.box(device), _board(lab, device)
    box.cgroup.freeze(False)
    box.cgroup.limit_cpu(None)
    box.cgroup.limit_memory(board.ram_mb)
    write_tree(box.folder / "sys", board.sys_files)
    _resize_disk(lab, device, f"{DISK_MB}m")
    _take_wire_out(lab, device)
    lab.network.plugged(lab.member(device).place, True)


def _freeze(lab: Lab, device: str, _shape: Shape) -> None:
    lab.box(device).cgroup.freeze(True)


def _kill_session(lab: Lab, device: str, _shape: Shape) -> None:
    """Board: every login ends, sshd stays. Phone: adbd dies, and comes back as init would bring it."""
    name = "adbd" if lab.member(device).kind == "phone" else "sshd"
    for process in lab.box(device).processes(name):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() == name and not any("[listener]" in word for word in process.cmdline()):
                process.kill()


def _kill_agent(lab: Lab, device: str, _shape: Shape) -> None:
    """SIGKILL for the agent and what it has started; whoever waits for it lives on."""
    for process in _agents(lab, device):
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in process.children(recursive=True):
                child.kill()
            process.kill()


def _out_of_memory(lab: Lab, device: str, _shape: Shape) -> None:
    """The kernel's own killer takes the agent: memory runs out, and the agent is marked as the first to go."""
    box = lab.box(device)
    limit_mb = round(box.cgroup.memory_mb()) + OOM_MARGIN_MB
    box.cgroup.limit_memory(limit_mb)
    try:
        if box.cgroup.memory_limit_mb() != limit_mb:
            raise ConfigError(f"{device}: this kernel does not limit its memory (no memory controller for control "
                              "groups), and this machine's own would run out instead; try kill-agent")
        for process in _agents(lab, device):
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
        hog = box.enter(sys.executable, "-c", _HOG, str(limit_mb + OOM_MARGIN_MB))     # ends by being killed, too
    finally:
        box.cgroup.limit_memory(_board(lab, device).ram_mb)
    if hog.returncode == 0:
        raise ConfigError(f"{device}: {limit_mb} MB were its limit, and more could be had; nothing ran out")


def _disk_full(lab: Lab, device: str, _shape: Shape) -> None:
    """The file system shrinks to what is on it, which costs no memory; a few kB are free, for a message."""
    disk = os.statvfs(lab.box(device).folder / "disk")
    _resize_disk(lab, device, f"{(disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024 + 16}k")


def _reboot(lab: Lab, device: str, _shape: Shape) -> None:
    """As when the power fails: nobody is told, open connections are unknown afterwards, the boot id is another."""
    box = lab.box(device)
    _cut(lab, device, SLOW)
    box.stop()
    lab.network.remove(device, lab.member(device).place)
    box.new_boot_id()
    time.sleep(OFF_S)
    boot(lab, device, slow=_pid_file(lab, device).exists())


def _throttle(lab: Lab, device: str, _shape: Shape) -> None:
    """Sensors show a hot board, and a quota takes three quarters of a core away, in bursts."""
    box = lab.box(device)
    write_tree(box.folder / "sys", _board(lab, device).hot)
    box.cgroup.limit_cpu(THROTTLED_CORES)


def _slow_link(lab: Lab, device: str, shape: Shape) -> None:
    """A TAP wire in the cable; a link that is slow already takes the new shape."""
    if _pid_file(lab, device).exists():
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
            control.sendto(json.dumps(shape._asdict()).encode(), str(_control(lab, device)))
            return
        _take_wire_out(lab, device)             # its process has died
    place = lab.member(device).place
    argv = ["ip", "netns", "exec", lab.network.tag, sys.executable, "-m", "harness.lab.wire",
            *taps(place), str(_control(lab, device)), json.dumps(shape._asdict())]
    with (lab.folder / f"wire-{device}.log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                   start_new_session=True)
    try:
        _pid_file(lab, device).write_text(str(process.pid))     # before the wait, or `down` would not find it
        _await_ready(lab, device, process)
        lab.network.lengthen(place)
    except BaseException:
        process.kill()
        process.wait()
        _take_wire_out(lab, device)
        raise


def _await_ready(lab: Lab, device: str, process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], READY_S)[0]:
        raise ConfigError(f"the slow link's process is not ready within {READY_S:g} s; try again")
    if process.stdout.readline() != b"ready\n":
        words = (lab.folder / f"wire-{device}.log").read_text().strip().splitlines()[-1:]
        raise ConfigError(f"the slow link's process does not start: {' '.join(words) or 'no message'}")


def _take_wire_out(lab: Lab, device: str) -> None:
    """The plain cable again, where it had been made a slow one, or was going to be."""
    if _pid_file(lab, device).exists():
        lab.network.shorten(lab.member(device).place)
        end_process(_pid_file(lab, device), "harness.lab.wire")
        _control(lab, device).unlink(missing_ok=True)


def _new_host_key(lab: Lab, device: str, _shape: Shape) -> None:
    """As after a new installation: another key, and the lab's known_hosts still has the old one."""
    if lab.member(device).kind == "phone":
        raise ConfigError(f"{device} is a phone: it has no host key")
    box = lab.box(device)
    sshd.renew_host_key(box.folder)
    box.enter("/bin/sh", "-c", "cat > /etc/edgefleet-lab/host_key",
              stdin=(box.folder / sshd.HOST_KEY).read_bytes())
    before = {process.pid for process in box.processes("sshd") if process.name() == "sshd"}
    for pid in before:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    give_up = time.monotonic() + BACK_S
    while not any(process.pid not in before for process in box.processes("[listener]")):
        if time.monotonic() > give_up:
            raise ConfigError(f"{device}: sshd does not come back; see its /var/log/sshd.log")
        time.sleep(0.05)


def _agents(lab: Lab, device: str) -> list[psutil.Process]:
    """Processes that do a trial's work, the warm parent included; not those that wait for one."""
    found = []
    for process in lab.box(device).processes(".pyz"):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            if any(word.endswith(".pyz") and verb == "run" for word, verb in pairwise(words)):
                found.append(process)
    return found


def _resize_disk(lab: Lab, device: str, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(lab.box(device).folder / "disk")], check=True)


def _board(lab: Lab, device: str) -> Board:
    kind = lab.member(device).kind
    return next(board for board in (*boards(), phone.phone()) if board.kind == kind)


def _pid_file(lab: Lab, device: str) -> Path:
    return lab.folder / f"wire-{device}.pid"


def _control(lab: Lab, device: str) -> Path:
    return SOCKETS / f"{lab.tag}-{device}.wire"


Fault = Callable[[Lab, str, Shape], None]
FAULTS: dict[str, Fault] = {
    "cut": _cut, "restore": _restore, "freeze": _freeze, "kill-session": _kill_session, "kill-agent": _kill_agent,
    "out-of-memory": _out_of_memory, "disk-full": _disk_full, "reboot": _reboot, "throttle": _throttle,
    "slow-link": _slow_link, "new-host-key": _new_host_key,
}
