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
START_S = 10.0
STOP_S = 5.0


def start(folder: Path, authorized: Path) -> int:
    """One sshd on a free port; the port. Raises ConfigError with the end of its log."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    config = sshd.configure(folder, ADDRESS, port, authorized)
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
    """End the listener and its sessions, and see them gone. A number that another program has by now is left alone."""
    running = _processes(folder)
    for process in running:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(running, timeout=STOP_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_S)


def _processes(folder: Path) -> list[psutil.Process]:
    try:
        listener = psutil.Process(int((folder / "sshd.pid").read_text()))
        if not any(str(folder) in word for word in listener.cmdline()):
            return []
        return [listener, *listener.children(recursive=True)]
    except (OSError, ValueError, psutil.NoSuchProcess):
        return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])
