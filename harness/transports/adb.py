"""A phone behind adb, by the system's `adb` program: `adb shell -T` for commands and for pushes, as one stream.

Made by device.open_device for `transport = "adb"`; `serial` is a USB serial, usb:PORT or HOST:PORT. `adb shell` ends
with 0 also when the phone dies in mid-command, so a command is over only when its own sentinel, with a number that
nobody else knows, came last on stdout. adb has no deadline and finds no dead link: after a pause the phone must first
answer, and a network phone that does not is connected anew. Needs Android 7 (shell_v2) for exit codes and stdin.
"""
import posixpath
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.cable import shell
from harness.cable.adb_program import AdbProgram, Stalled, trouble
from harness.cable.push_stream import failure
from harness.cable.receive import CANNOT_WRITE, CUT, NO_ROOM
from harness.cable.shell_device import STALL_S, ShellDevice, Sink
from harness.errors import ConfigError, DeviceUnreachable, DeviceUnsupported
from harness.fleet import DeviceSpec

PORT = 5555
PROOF_S = 10.0                                  # a live phone answers `true` in less
LARGE_B = 4 << 20                               # below it, starting adb once more costs more than it saves
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
        """Large files by `adb push`, which is faster than any shell and keeps their mode; others as one stream."""
        give_up = time.monotonic() + deadline_s
        large = [(source, target) for source, target in files if is_large(source) and not target.startswith("~")]
        super().push([one for one in files if one not in large], deadline_s)
        for source, target in large:
            self._push_large(source, target, give_up)

    def _push_large(self, source: Path, target: str, give_up: float) -> None:
        size_b, part = source.stat().st_size, f"{target}.{secrets.token_hex(4)}.part"
        self._make_sure(give_up)
        if self._free_b is None or self._free_b < 2 * size_b:
            self._look_for_room(target, size_b, give_up)
        said: list[bytes] = []
        try:
            said.append(self._adb.exchange(["-s", self._serial, "push", str(source), part], [], said.append,
                                           _left_s(give_up), STALL_S))
        except Stalled as error:
            self._proven_at = None
            what = f"nothing moved for {STALL_S:.0f} s" if error.stalled else "no end within its deadline"
            raise DeviceUnreachable(f"{self.name}: pushing {target}: {what}") from None
        place, there = shell.word(part), shell.word(target)
        code, _ = self._short(f"if [ \"$(stat -c %s {place})\" = {size_b} ]; then mv -f {place} {there}; "
                              f"else rm -f {place}; exit {CUT}; fi", give_up)
        if code:
            self._free_b = None
            raise failure(self.name, code, b" ".join(said))
        self._free_b = (self._free_b or 0) - size_b

    def _look_for_room(self, target: str, size_b: int, give_up: float) -> None:
        folder = shell.word(posixpath.dirname(target))
        code, output = self._short(f"umask 077; mkdir -p {folder} && df -Pk {folder}", give_up)
        self._free_b = _free_b(output)
        if code:
            raise failure(self.name, CANNOT_WRITE, output)
        if self._free_b is not None and self._free_b < size_b:
            words = f"{size_b / 1e6:.1f} MB are needed and {self._free_b / 1e6:.1f} MB are free"
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
        if self._network:
            self._adb.connect(self._serial, self.name, _left_s(give_up))
        said = self._answer(give_up)
        if said is not None and self._network:
            self._adb.disconnect(self._serial)  # "offline", or "device" though its cable is cut: only this helps
            self._adb.connect(self._serial, self.name, _left_s(give_up))
            said = self._answer(give_up)
        if said is not None:
            raise trouble(self.name, self._serial, said) or DeviceUnreachable(
                f"{self.name}: {self._serial} does not answer ({said or 'no message'})")

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


def is_large(path: Path) -> bool:
    """Whether a process of its own pays; a file that is not there is somebody else's to complain about."""
    return path.is_file() and path.stat().st_size >= LARGE_B


def _free_b(output: bytes) -> int | None:
    """The fourth word of `df -Pk`'s second line, which counts kB."""
    words = output.split()
    return int(words[-3]) * 1024 if len(words) >= 6 and words[-3].isdigit() else None


def _unheard(_chunk: bytes) -> None:
    """`true` says nothing."""
