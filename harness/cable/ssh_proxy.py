"""ProxyCommand: the process that it starts, as a socket. Called by ssh_login.py.

The process gets the other end of a pair of sockets as stdin and stdout, so that its end is the connection's end. Run by
the user's shell, as ssh does, in a session of its own: it can ask nobody for a password. Refuses a program that is not
there; what else it says on stderr is told when it gives no connection.
"""
import contextlib
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading

import paramiko

from harness.errors import DeviceRefused

FAREWELL_S = 0.5
_CANNOT_START = (126, 127)                      # a shell's exit codes for a program that is none, or is not there


class ProxySocket(socket.socket):
    """Our end. Closing it ends the process and what that started."""

    def __init__(self, command: str) -> None:
        near, far = socket.socketpair()
        super().__init__(fileno=near.detach())
        self._command = command
        self._lock, self._lived = threading.Lock(), False
        self._said = tempfile.TemporaryFile()   # noqa: SIM115  lives as long as the socket
        shell = os.environ.get("SHELL") or "/bin/sh"
        with far:
            self._process = subprocess.Popen([shell, "-c", f"exec {command}"], stdin=far.fileno(),
                                             stdout=far.fileno(), stderr=self._said, start_new_session=True)

    def close(self) -> None:
        """Also called by paramiko's thread. Most programs end by themselves with their connection."""
        with self._lock:
            if self.fileno() >= 0:
                end = select.poll()
                end.register(self, 0)
                self._lived = not end.poll(0)   # what it does from here on is our doing
                super().close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
                if number is not None and self._process.poll() is None:
                    os.killpg(self._process.pid, number)
                self._process.wait(FAREWELL_S)

    def explain(self, device: str) -> None:
        """After a connection that came to nothing. Raises if the process is why: what it said, and how it ended."""
        self.close()
        code = self._process.poll()
        if self._lived or code is None or code < 0:     # the trouble is further away, or somebody has ended it
            return
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        words = lines[-1] if lines else f"exit status {code}"
        if code in _CANNOT_START:
            raise DeviceRefused(f"{device}: the ProxyCommand of its ssh configuration cannot be started ({words}). "
                                f"Install it, or mend the line: {self._command}")
        raise paramiko.SSHException(f"its ProxyCommand, {self._command}, ended: {words}")
