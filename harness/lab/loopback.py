"""The lab without root: sshd as an ordinary user, one instance a device, on loopback ports.

Used by lab.py. Such devices share everything with this machine but their agent folders: they prove the ssh transport,
not links, sensors or disks. Only the user who started them can log in.
"""
import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path

import psutil

from harness.errors import ConfigError
from harness.lab import sshd

ADDRESS = "127.0.0.1"
MARK = "EDGEFLEET_LAB_DEVICE"                   # in the environment of every login: the device's folder
START_S = 10.0
STOP_S = 5.0


def start(folder: Path, authorized: Path) -> int:
    """One sshd on a free port; the port. Raises ConfigError with the end of its log."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    config = sshd.configure(folder, ADDRESS, port, authorized)
    with config.open("a") as text:
        text.write(f'SetEnv "{MARK}={folder}"\n')
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a privileged sshd separates itself from its child
    log = folder / "sshd.log"
    done = subprocess.run([sshd.sshd_program(), "-f", str(config), "-E", str(log)], capture_output=True, text=True,
                          check=False)
    give_up = time.monotonic() + START_S
    while done.returncode == 0 and time.monotonic() < give_up:
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), timeout=1.0):
            return port
        time.sleep(0.02)
    tail = log.read_text(errors="replace").strip().splitlines()[-2:] if log.exists() else []
    raise ConfigError(f"sshd does not start: {' / '.join([done.stderr.strip(), *tail])}")


def stop(folder: Path) -> None:
    """End the listener and all that was started through it, detached or not, and see it gone. Raises ConfigError."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        give_up = time.monotonic() + STOP_S
        while (running := _processes(folder)) and time.monotonic() < give_up:
            for process in running:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
            psutil.wait_procs(running, timeout=max(0.0, give_up - time.monotonic()))
    if running:
        raise ConfigError(f"lab device {folder.name}: processes {[process.pid for process in running]} do not end; "
                          "end them, then again: edgefleet lab down")


def _processes(folder: Path) -> list[psutil.Process]:
    """The listener first, so that nobody logs in meanwhile. A number that another program has by now is left alone."""
    found = []
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        listener = psutil.Process(int((folder / "sshd.pid").read_text()))
        if any(str(folder) in word for word in listener.cmdline()):
            found = [listener, *listener.children(recursive=True)]
    return found + [process for process in psutil.process_iter() if process not in found and _is_of(process, folder)]


def _is_of(process: psutil.Process, folder: Path) -> bool:
    """Whether it was started through the device's sshd: it has then inherited MARK, wherever it went since."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(folder))
    except (OSError, psutil.Error):             # somebody else's, or gone by now
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])
