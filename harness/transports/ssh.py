"""A device behind sshd: one connection, kept and proven before each use; everything by exec channels, no sftp.

Made by device.open_device for `transport = "ssh"`. Opening a channel is the heartbeat: a live sshd answers at once, an
unanswered request means a dead connection, which is made anew before anything was started. Between calls and during
a long one nothing is sent, so that a measured window is silent; paramiko's keep-alive finds no dead link anyway. A
command that was started and lost is never started again here: DeviceUnreachable, and the runner asks the device.
"""
import contextlib
import random
import select
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import paramiko

from harness.cable.shell_device import ShellDevice, Sink
from harness.cable.ssh_config import login_of
from harness.cable.ssh_login import Connection, connect
from harness.errors import ConfigError, DeviceUnreachable
from harness.fleet import DeviceSpec

PROOF_S = 10.0                                  # a live connection opens a channel in less
CHUNK_B = 1 << 17
STDERR_KEPT_B = 1 << 20                         # the tail of it: a device that floods stderr costs no memory
FAREWELL_S = 1.0


class SshTransport(ShellDevice):
    """Not shared between threads. `home` is not used: ssh's own files are the user's."""

    def __init__(self, spec: DeviceSpec, home: Path) -> None:  # noqa: ARG002  the seam's constructor
        super().__init__(spec.name, spec.python or "python3", dict(spec.env))
        self.agent_home = spec.home or "~/.edgefleet-agent"
        self._login = login_of(spec)
        self._connection: Connection | None = None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def execute(self, line: str, deadline_s: float, source: Iterable[bytes], sink: Sink,
                stall_s: float | None) -> tuple[int, bytes]:
        """See ShellDevice. An exit status of -1 or none at all is a lost channel, never success."""
        give_up = time.monotonic() + deadline_s
        channel = self._channel(give_up)
        try:
            with self._cut_at(give_up):
                channel.exec_command(line)
            return _Exchange(channel, source, sink).run(give_up, stall_s)
        except (_Silent, _Lost, EOFError, OSError, paramiko.SSHException) as error:
            if not isinstance(error, _Silent):  # a deadline's expiry says nothing of the connection: the next call asks
                self.close()
            raise DeviceUnreachable(f"{self.name}: {_what(error, deadline_s, stall_s)}. What was started there may "
                                    "still run.") from None
        finally:
            channel.close()

    def _channel(self, give_up: float) -> paramiko.Channel:
        """An open channel of a connection that is alive now. A session too many is asked for again, with jitter."""
        pause_s, proven = 0.05, False
        while True:
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                raise DeviceUnreachable(f"{self.name}: no session in time; its sshd may allow too few (MaxSessions)")
            if self._connection is None:
                self._connection, proven = connect(self._login, self.name, left_s), True
            try:
                return self._connection.transport.open_session(timeout=min(PROOF_S, left_s))
            except paramiko.ChannelException:   # alive, but it has as many sessions as it allows
                time.sleep(min(left_s, random.uniform(0.5, 1.5) * pause_s))
                pause_s = min(2.0, pause_s * 2)
            except (EOFError, OSError, paramiko.SSHException) as error:
                self.close()
                if proven:
                    raise DeviceUnreachable(f"{self.name}: connected, then silent ({error})") from None

    @contextlib.contextmanager
    def _cut_at(self, give_up: float) -> Iterator[None]:
        """paramiko waits for the answer to `exec` without a deadline: closing the connection ends that."""
        timer = threading.Timer(max(0.0, give_up - time.monotonic()), self.close)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


class _Silent(Exception):
    """The deadline passed, or a transfer stalled (`stalled`)."""

    def __init__(self, stalled: bool) -> None:
        super().__init__()
        self.stalled = stalled


class _Lost(Exception):
    """The channel closed without an exit status."""


class _Exchange:
    """Feeds one command's stdin from a thread and drains both its outputs, whatever it floods."""

    def __init__(self, channel: paramiko.Channel, source: Iterable[bytes], sink: Sink) -> None:
        self._channel, self._source, self._sink = channel, source, sink
        self._moved = 0
        self._trouble: ConfigError | None = None
        self._stderr = bytearray()

    def run(self, give_up: float, stall_s: float | None) -> tuple[int, bytes]:
        feeder = threading.Thread(target=self._feed, daemon=True)
        if self._source:
            feeder.start()
        else:
            self._channel.shutdown_write()
        try:
            self._drain(give_up, stall_s)
        finally:
            self._end(feeder)
        if self._trouble is not None:
            raise self._trouble
        code = self._channel.recv_exit_status()
        if code < 0:
            raise _Lost
        return code, bytes(self._stderr)

    def _end(self, feeder: threading.Thread) -> None:
        """Close the channel; where the feeder hangs in a dead connection, close that, or closing would hang too."""
        if feeder.is_alive():
            self._channel.status_event.wait(FAREWELL_S)     # a receiver that wants no more has closed by now
            feeder.join(FAREWELL_S if self._channel.closed else 0.0)
        if feeder.is_alive():
            self._channel.get_transport().close()
            feeder.join()
        self._channel.close()

    def _feed(self) -> None:
        try:
            for block in self._source:
                view = memoryview(block)
                while view:
                    sent = self._channel.send(view[:CHUNK_B])
                    self._moved += sent
                    view = view[sent:]
            self._channel.shutdown_write()
        except (OSError, EOFError, paramiko.SSHException):
            pass                                # it wants no more: its exit status, or the lack of one, says why
        except ConfigError as error:            # a file here that cannot be read on
            self._trouble = error
            self._channel.close()

    def _drain(self, give_up: float, stall_s: float | None) -> None:
        seen, since = -1, time.monotonic()
        while True:
            self._read()
            if self._channel.closed or (self._channel.eof_received and self._channel.exit_status_ready()):
                self._read()                    # what came between the reading and the end
                return
            now = time.monotonic()
            if self._moved != seen:
                seen, since = self._moved, now
            left_s = give_up - now if stall_s is None else min(give_up, since + stall_s) - now
            if left_s <= 0:
                raise _Silent(stalled=now < give_up)
            if self._channel.eof_received:      # then its descriptor is always readable
                self._channel.status_event.wait(left_s)
            else:
                select.select([self._channel], [], [], left_s if stall_s is None else min(left_s, 1.0))

    def _read(self) -> None:
        while self._channel.recv_ready():
            chunk = self._channel.recv(CHUNK_B)
            self._moved += len(chunk)
            self._sink(chunk)
        while self._channel.recv_stderr_ready():
            self._stderr += self._channel.recv_stderr(CHUNK_B)
            self._moved += 1
            if len(self._stderr) > 2 * STDERR_KEPT_B:
                del self._stderr[:-STDERR_KEPT_B]


def _what(error: Exception, deadline_s: float, stall_s: float | None) -> str:
    if isinstance(error, _Silent):
        return f"nothing moved for {stall_s:.0f} s" if error.stalled else f"no end within {deadline_s:.0f} s"
    return "the connection was lost"
