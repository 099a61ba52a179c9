"""A phone behind adb, by the system's `adb` program: `adb shell -T` for commands and few bytes, `adb push` for many.

Made by device.open_device for `transport = "adb"`; `serial` is a USB serial, usb:PORT or HOST:PORT. `adb shell` ends
with 0 also when the phone dies in mid-command, so a command is over only when its own sentinel, with a number that
nobody else knows, came last on stdout. adb has no deadline and finds no dead link: after a pause the phone must first
answer, and a network phone that does not is connected anew. Needs Android 7 (shell_v2) for exit codes and stdin.
"""
import posixpath
import re
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.cable import adb_batch, shell
from harness.cable.adb_program import PORT, AdbProgram, Stalled, trouble
from harness.cable.push_stream import failure
from harness.cable.receive import CANNOT_WRITE, NO_ROOM
from harness.cable.shell_device import STALL_S, ShellDevice, Sink
from harness.errors import ConfigError, DeviceError, DeviceRefused, DeviceUnreachable, DeviceUnsupported
from harness.fleet import DeviceSpec

PROOF_S = 10.0                                  # a live phone answers `true` in less
RECONNECT_S = 5.0                               # how long a network phone that answers wrongly is connected anew
LOOK_AGAIN_S = 0.3
IDLE_S = 5.0                                    # a phone that answered so recently need not prove itself
HELD_BACK_B = 64                                # longer than any sentinel


class AdbTransport(ShellDevice):
    """Not shared between threads. `home` is not used: keys and server are adb's own, see `env` in fleet.toml."""

    def __init__(self, spec: DeviceSpec, home: Path) -> None:  # noqa: ARG002  the seam's constructor
        self._adb = AdbProgram(spec.env)
        super().__init__(spec.name, spec.python or "python3", self._adb.for_device)
        self.agent_home = spec.home or "/data/local/tmp/edgefleet"
        self._serial = spec.serial or (f"{spec.host}:{spec.port or PORT}" if spec.host else "")
        if not self._serial:
            raise ConfigError(f"{spec.name}: transport \"adb\" needs `serial` in fleet.toml; see: adb devices -l")
        self._network = re.search(r":\d+$", self._serial) is not None and not self._serial.startswith("usb:")
        self._proven_at: float | None = None
        self._free_b: int | None = None         # on the phone's disk, when it was last asked

    def push(self, files: Sequence[tuple[Path, str]], deadline_s: float) -> None:
        """Many bytes by `adb push`, which is faster than any shell; few, whatever their number, as one stream."""
        give_up = time.monotonic() + deadline_s
        batches, rest = adb_batch.apart(files)
        super().push(rest, deadline_s)
        for batch in batches:
            self._push_batch(batch, give_up)

    def _push_batch(self, batch: adb_batch.Batch, give_up: float) -> None:
        """The shell that will move the files starts first, so that starting it takes no time of its own."""
        if len(batch.files) > 1 or self._free_b is None or self._free_b < 2 * batch.size_b:
            self._make_room(batch, give_up)
        said: list[bytes] = []
        with tempfile.TemporaryDirectory(prefix="edgefleet-push-") as links:
            copying = self._copy(batch.arguments(Path(links)), said, give_up)
            code, stderr = self.execute(batch.line(), _left_s(give_up), copying, said.append, None)
        if code:
            self._free_b = None
            raise failure(self.name, code, b" ".join([*said, stderr]))
        self._free_b = (self._free_b or 0) - batch.size_b

    def _copy(self, lanes: Sequence[list[str]], said: list[bytes], give_up: float) -> Iterator[bytes]:
        """Runs adb for each lane when its reader asks for the first line, which comes when all of them ended."""
        def run(arguments: list[str]) -> bytes:
            return self._adb.exchange(["-s", self._serial, *arguments], [], said.append, _left_s(give_up), STALL_S)

        try:
            with ThreadPoolExecutor(len(lanes)) as together:
                said += together.map(run, lanes)
        except Stalled as error:
            self._proven_at = None
            what = f"nothing moved for {STALL_S:.0f} s" if error.stalled else "no end within its deadline"
            raise DeviceUnreachable(f"{self.name}: pushing to {posixpath.dirname(lanes[0][-1])}: {what}") from None
        yield b"all of it\n"

    def _make_room(self, batch: adb_batch.Batch, give_up: float) -> None:
        """The folders, and an error when the disk has no room."""
        stage = shell.word(batch.stage)
        code, output = self._short(f"umask 077; mkdir -p {stage} && df -Pk {stage}", give_up)
        self._free_b = _free_b(output)
        if code:
            raise failure(self.name, CANNOT_WRITE, output)
        if self._free_b is not None and self._free_b < batch.size_b:
            self._short(f"rmdir {stage}", give_up)
            words = f"{batch.size_b / 1e6:.1f} MB are needed and {self._free_b / 1e6:.1f} MB are free"
            raise failure(self.name, NO_ROOM, words.encode())

    def _short(self, line: str, give_up: float) -> tuple[int, bytes]:
        """Exit code, and stdout and stderr together."""
        output: list[bytes] = []
        code, stderr = self.execute(line, _left_s(give_up), [], output.append, None)
        return code, b"".join([*output, stderr])

    def close(self) -> None:
        """Nothing of ours is open between calls; the server and its connection are shared, and stay."""

    def execute(self, line: str, deadline_s: float, source: Iterable[bytes], sink: Sink,
                stall_s: float | None) -> tuple[int, bytes]:
        """See ShellDevice. A command without its sentinel was lost, whatever adb's exit code."""
        give_up = time.monotonic() + deadline_s
        self._make_sure(give_up)
        try:
            code, stderr = self._sentinelled(line, _left_s(give_up), source, sink, stall_s)
        except Stalled as error:
            self._proven_at = None
            what = f"nothing moved for {stall_s:.0f} s" if error.stalled else f"no end within {deadline_s:.0f} s"
            raise DeviceUnreachable(f"{self.name}: {what}. What was started there may still run.") from None
        if code is None:
            self._proven_at = None
            said = stderr.decode("utf-8", "replace").strip()
            raise trouble(self.name, self._serial, said) or DeviceUnreachable(
                f"{self.name}: the connection was lost ({said or 'adb says nothing'}). What was started there may "
                "still run.")
        self._proven_at = time.monotonic()
        return code, stderr

    def _make_sure(self, give_up: float) -> None:
        if self._proven_at is None or time.monotonic() - self._proven_at > IDLE_S:
            self._prove(give_up)

    def _prove(self, give_up: float) -> None:
        """The phone answers, or a network phone does after it was connected anew; else DeviceUnreachable and a fix."""
        self._adb.start_server(self.name)
        last, anew = min(give_up, time.monotonic() + RECONNECT_S), False
        while True:
            error, attached = self._trouble_now(give_up)
            if error is None:
                return
            # A connection of before may be a dead one; a new one is in vain while the phone's daemon is coming back.
            late = time.monotonic() > last and (anew or not attached)
            if isinstance(error, DeviceRefused) or not self._network or late:
                raise error
            self._adb.disconnect(self._serial)  # "offline", or "device" though its cable is cut: only this helps
            time.sleep(LOOK_AGAIN_S if anew else 0.0)
            anew = True

    def _trouble_now(self, give_up: float) -> tuple[DeviceError | None, bool]:
        """What is wrong, and whether the phone is attached, at least."""
        try:
            if self._network:
                self._adb.connect(self._serial, self.name, _left_s(give_up))
        except DeviceError as error:
            return error, False
        said = self._answer(give_up)
        if said is None:
            return None, True
        return trouble(self.name, self._serial, said) or DeviceUnreachable(
            f"{self.name}: {self._serial} does not answer ({said or 'no message'})"), True

    def _answer(self, give_up: float) -> str | None:
        """None when the phone answers `true` in time, else what adb says."""
        left_s = min(PROOF_S, _left_s(give_up))
        try:
            code, stderr = self._sentinelled("true", left_s, [], _unheard, None)
        except Stalled:
            return f"no answer within {left_s:.0f} s"
        if code == 0:
            return None
        text = stderr.decode("utf-8", "replace").strip()
        if "unknown option" in text or "doesn't support" in text:
            raise DeviceUnsupported(f"{self.name}: {self._serial} is too old: Android 7 or newer is needed ({text})")
        return text

    def _sentinelled(self, command: str, deadline_s: float, source: Iterable[bytes], sink: Sink,
                     stall_s: float | None) -> tuple[int | None, bytes]:
        tail = _Tail(sink)
        line = f"( {command} ); printf '\\036%s:%d\\036' {tail.nonce} $?"
        stderr = self._adb.exchange(["-s", self._serial, "shell", "-T", line], source, tail.take, deadline_s, stall_s)
        return tail.exit_code(), stderr


class _Tail:
    """Passes output on, but keeps back its last bytes, in which the sentinel must be."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._held = sink, b""
        self.nonce = secrets.token_hex(8)

    def take(self, chunk: bytes) -> None:
        self._held += chunk
        if len(self._held) > HELD_BACK_B:
            self._sink(self._held[:-HELD_BACK_B])
            self._held = self._held[-HELD_BACK_B:]

    def exit_code(self) -> int | None:
        """None when the command was cut off. What was held back before the sentinel goes to the sink."""
        match = re.search(rb"\x1e" + self.nonce.encode() + rb":(\d+)\x1e", self._held)
        before = self._held[:match.start()] if match else self._held
        if before:
            self._sink(before)
        return int(match[1]) if match else None


def _left_s(give_up: float) -> float:
    return max(0.1, give_up - time.monotonic())


def _free_b(output: bytes) -> int | None:
    """The fourth word of `df -Pk`'s second line, which counts kB."""
    words = output.split()
    return int(words[-3]) * 1024 if len(words) >= 6 and words[-3].isdigit() else None


def _unheard(_chunk: bytes) -> None:
    """`true` says nothing."""
