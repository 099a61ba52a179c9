"""ProxyCommand: the process that it starts, as a socket. Called by ssh_login.py.

The process gets the other end of a pair of sockets as stdin and stdout, so that its end is the connection's end. Run by
the user's shell, as ssh does, in a session of its own: it can ask nobody for a password. Refuses a program that is not
there; what else it says on stderr is told when it gives no connection.
"""
import contextlib
import os
import signal
import socket
import subprocess
import tempfile

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
        self._said = tempfile.TemporaryFile()   # noqa: SIM115  lives as long as the socket
        shell = os.environ.get("SHELL") or "/bin/sh"
        with far:
            self._process = subprocess.Popen([shell, "-c", f"exec {command}"], stdin=far.fileno(),
                                             stdout=far.fileno(), stderr=self._said, start_new_session=True)

    def close(self) -> None:
        """Also called by paramiko's thread. Most programs end by themselves with their connection."""
        super().close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
                if number is not None and self._process.poll() is None:
                    os.killpg(self._process.pid, number)
                self._process.wait(FAREWELL_S)

    def explain(self, device: str) -> None:
        """After a connection that came to nothing. Raises if the process is why: what it said, and how it ended."""
        try:
            code = self._process.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:       # it lives: the trouble is further away
            return
        if code < 0:                            # it was ended by us, or by somebody
            return
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        words = lines[-1] if lines else f"exit status {code}"
        if code in _CANNOT_START:
            raise DeviceRefused(f"{device}: the ProxyCommand of its ssh configuration cannot be started ({words}). "
                                f"Install it, or mend the line: {self._command}")
        raise paramiko.SSHException(f"its ProxyCommand, {self._command}, ended: {words}")
