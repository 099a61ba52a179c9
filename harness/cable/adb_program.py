"""The system's `adb`, run with a deadline, and what its complaints mean for a person.

Called by transports/adb.py and by whoever lists phones. adb is a client of a server that belongs to the whole machine:
a server of another version would be killed by it, so that is refused before anything runs. adb has no deadline of its
own and swallows its caller's stdin. Refuses to believe an exit code: see transports/adb.py.
"""
import contextlib
import os
import re
import selectors
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path
from typing import IO, NamedTuple

from harness.errors import ConfigError, DeviceError, DeviceRefused, DeviceUnreachable

ANSWER_S = 20.0                                 # for what only the server must answer
LOOK_S = 1.0                                    # between two looks whether a transfer goes on
PIPE_B = 1 << 20
READ_B = 1 << 17
STDERR_KEPT_B = 1 << 20
PORT = 5555                                     # of adbd on the network, where nobody says another
OF_ADB = re.compile(r"(ADB_|ANDROID_).*|HOME\Z")    # names of `env` that are the adb program's

_REFUSED: tuple[tuple[str, str], ...] = (
    (r"unauthorized|failed to authenticate|still authorizing",
     "has not allowed this machine. Unlock it, confirm \"Allow USB debugging?\", and run again."),
    (r"no permissions|insufficient permissions",
     "may not be opened by this user. Type: sudo apt install android-sdk-platform-tools-common; "
     "sudo usermod -aG plugdev $USER; then log in again and plug it in again."),
)
_SILENT: tuple[tuple[str, str], ...] = (
    (r"device offline|device still connecting",
     "is offline. Unplug it and plug it in again, or type: adb reconnect offline."),
    (r"device '.*' not found|no devices/emulators found|device not found",
     "is not attached. Check the cable, that USB debugging is on, and `adb devices -l`."),
    (r"failed to connect|No route to host|Connection refused|Connection timed out",
     "does not answer on the network. Is it on, in this network, and was `adb tcpip 5555` typed since it started?"),
)


class AdbDevice(NamedTuple):
    """A line of `adb devices -l`. `state`: device | offline | unauthorized | no permissions | ..."""

    serial: str
    state: str
    details: dict[str, str]                     # usb, product, model, device, transport_id


class Stalled(Exception):
    """The deadline passed, or nothing moved for too long (`stalled`)."""

    def __init__(self, stalled: bool) -> None:
        super().__init__()
        self.stalled = stalled


class AdbProgram:
    """`environment`: what a device's `env` says; its ADB_*, ANDROID_* and HOME are adb's, the rest the device's."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = shutil.which("adb")
        if path is None:
            raise ConfigError("transport \"adb\" needs the program adb; type: apt-get install adb")
        self._path = path
        self._environment = {**os.environ, **{key: value for key, value in environment.items() if OF_ADB.match(key)}}
        self.for_device = {key: value for key, value in environment.items() if not OF_ADB.match(key)}

    def start_server(self, device: str) -> None:
        """Raises DeviceRefused when one of another version listens: this adb would kill it under its users."""
        running = self._server_version()
        mine = re.search(r"version \d+\.\d+\.(\d+)", self._words("version"))
        if running is not None and mine is not None and running != int(mine[1]):
            raise DeviceRefused(
                f"{device}: an adb server of version {running} runs on port {self._port()}, and {self._path} is of "
                f"version {mine[1]}: each would kill the other. Use one adb, end that server (adb kill-server), "
                "or give this device its own in fleet.toml: env = { ANDROID_ADB_SERVER_PORT = \"5038\" }")
        if running is None:
            self._words("start-server")

    def devices(self) -> list[AdbDevice]:
        """What is attached now, USB and TCP."""
        found = []
        for line in self._words("devices", "-l").splitlines():
            match = re.match(r"(\S+)\s+(no permissions|\S+)(.*)", line)
            if match and not line.startswith(("List of", "*")):
                details = dict(word.split(":", 1) for word in match[3].split() if ":" in word and "[" not in word)
                usb = re.search(r"\busb:(\S+)", match[3])
                found.append(AdbDevice(match[1], match[2], {**details, **({"usb": usb[1]} if usb else {})}))
        return found

    def connect(self, serial: str, device: str, deadline_s: float) -> None:
        """Attach a device on the network, if it is not. Raises what `trouble` says."""
        said = self._words("connect", serial, deadline_s=min(ANSWER_S, deadline_s))
        if not re.match(r"(already )?connected to", said):
            raise trouble(device, serial, said) or DeviceUnreachable(f"{device}: {said or 'adb connect says nothing'}")

    def disconnect(self, serial: str) -> None:
        self._words("disconnect", serial)

    def exchange(self, arguments: Iterable[str], source: Iterable[bytes], sink: Callable[[bytes], object],
                 deadline_s: float, stall_s: float | None) -> bytes:
        """Run adb; feed `source` to its stdin, its stdout to `sink`; the tail of its stderr.

        Raises Stalled at the deadline, and when adb has read and written nothing for `stall_s`.
        """
        process = subprocess.Popen([self._path, *arguments], env=self._environment, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True)
        try:
            return _Exchange(process, source, sink).run(time.monotonic() + deadline_s, stall_s)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def _words(self, *arguments: str, deadline_s: float = ANSWER_S) -> str:
        try:
            done = subprocess.run([self._path, *arguments], env=self._environment, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=deadline_s, check=False,
                                  start_new_session=True)
        except subprocess.TimeoutExpired:
            return f"no answer to adb {' '.join(arguments)} within {deadline_s:.0f} s"
        return done.stdout.decode("utf-8", "replace").strip()

    def _port(self) -> int:
        text = self._environment.get("ANDROID_ADB_SERVER_PORT", "5037")
        if not text.isdigit():
            raise ConfigError(f"ANDROID_ADB_SERVER_PORT = {text!r} is no port number")
        return int(text)

    def _server_version(self) -> int | None:
        """Asked by adb's own protocol, because any adb client would act on the answer. None: no server."""
        if "ADB_SERVER_SOCKET" in self._environment:
            return None                         # elsewhere, on purpose
        try:
            with socket.create_connection(("127.0.0.1", self._port()), timeout=ANSWER_S) as link:
                link.sendall(b"000chost:version")
                answer = link.makefile("rb").read(12)
            return int(answer[8:], 16) if answer[:4] == b"OKAY" else None
        except (OSError, ValueError):
            return None


def trouble(device: str, serial: str, said: str) -> DeviceError | None:
    """What adb's words mean, with the fix; None for words that say nothing of the device's state."""
    if re.search(r"more than one device", said):
        return DeviceRefused(f"{device}: two devices call themselves {serial}. Name this one by its USB port: "
                             "adb devices -l; then in fleet.toml, for example: serial = \"usb:1-4\"")
    for meanings, error in ((_REFUSED, DeviceRefused), (_SILENT, DeviceUnreachable)):
        for pattern, meaning in meanings:
            if re.search(pattern, said):
                return error(f"{device}: {serial} {meaning}")
    return None


class _Exchange:
    """One thread for three pipes."""

    def __init__(self, process: "subprocess.Popen[bytes]", source: Iterable[bytes],
                 sink: Callable[[bytes], object]) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._process, self._blocks, self._sink = process, iter(source), sink
        self._view, self._errors = memoryview(b""), bytearray()
        self._select, self._seen = selectors.DefaultSelector(), ""

    def run(self, give_up: float, stall_s: float | None) -> bytes:
        with contextlib.suppress(OSError):      # a user's limit on pipes may refuse it
            fcntl(self._stdin, F_SETPIPE_SZ, PIPE_B)
        os.set_blocking(self._stdin.fileno(), False)
        self._select.register(self._stdin, selectors.EVENT_WRITE)
        self._select.register(self._stdout, selectors.EVENT_READ)
        self._select.register(self._stderr, selectors.EVENT_READ)
        with self._select:
            self._pump(give_up, stall_s)
        try:
            self._process.wait(max(0.1, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Stalled(False) from None
        return bytes(self._errors)

    def _pump(self, give_up: float, stall_s: float | None) -> None:
        since = time.monotonic()
        while len(self._select.get_map()) > (0 if self._stdin.closed else 1):
            now = time.monotonic()
            left_s = (give_up if stall_s is None else min(give_up, since + stall_s)) - now
            if left_s <= 0:
                raise Stalled(now < give_up)
            ready = self._select.select(left_s if stall_s is None else min(left_s, LOOK_S))
            if ready or (stall_s is not None and self._has_moved()):
                since = time.monotonic()
            for key, _ in ready:
                if key.fileobj is self._stdin:
                    self._write()
                else:
                    self._read(key.fileobj)     # type: ignore[arg-type]

    def _has_moved(self) -> bool:
        """Whether adb did something since the last look: `adb push` reads its file itself."""
        try:
            seen, self._seen = self._seen, Path(f"/proc/{self._process.pid}/io").read_text()
        except OSError:
            return False
        return seen != self._seen

    def _write(self) -> None:
        try:
            if not self._view:
                self._view = memoryview(next(self._blocks))
            self._view = self._view[os.write(self._stdin.fileno(), self._view):]
        except (StopIteration, BrokenPipeError):
            self._select.unregister(self._stdin)
            self._stdin.close()
        except BlockingIOError:
            pass

    def _read(self, stream: IO[bytes]) -> None:
        chunk = os.read(stream.fileno(), READ_B)
        if not chunk:
            self._select.unregister(stream)
        elif stream is self._stdout:
            self._sink(chunk)
        else:
            self._errors += chunk
            if len(self._errors) > 2 * STDERR_KEPT_B:
                del self._errors[:-STDERR_KEPT_B]
