"""run, push and pull over anything that can run one shell line: what the transports ssh and adb have in common.

Each of them derives from ShellDevice and says how a line is run (`execute`). This class decides what the lines are. It
refuses to keep output without bound: a device that prints for ever is stopped.
"""
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from harness.cable import shell
from harness.cable.arrival import arriving
from harness.cable.push_stream import Stream, failure
from harness.errors import DeviceUnreachable
from harness.seams import Completed

STALL_S = 30.0                                  # a transfer of which no byte has moved for so long is dead
STDOUT_MAX_B = 1 << 28
NOT_FOUND = (126, 127)                          # the shell's exit codes for a program that is not there

Sink = Callable[[bytes], object]


class ShellDevice:
    """`environment` is set for every command on the device; pushes and pulls need none of it."""

    def __init__(self, name: str, python: str, environment: dict[str, str]) -> None:
        self.name, self.python, self._environment = name, python, environment
        self._has_python = True

    def execute(self, line: str, deadline_s: float, source: Iterable[bytes], sink: Sink,
                stall_s: float | None) -> tuple[int, bytes]:
        """(exit code, tail of stderr) of a line that certainly ended; `source` is its stdin, `sink` takes its stdout.

        Raises DeviceUnreachable at the deadline, when nothing moved for `stall_s`, and when the connection was lost.
        """
        raise NotImplementedError

    def run(self, argv: Sequence[str], deadline_s: float, stdin: bytes = b"") -> Completed:
        output: list[bytes] = []
        size_b = 0

        def keep(chunk: bytes) -> None:
            nonlocal size_b
            size_b += len(chunk)
            if size_b > STDOUT_MAX_B:
                raise DeviceUnreachable(f"{self.name}: {argv[0]} printed more than {STDOUT_MAX_B >> 20} MiB; stopped")
            output.append(chunk)

        line = shell.line(argv, self._environment)
        code, stderr = self.execute(line, deadline_s, [stdin] if stdin else [], keep, None)
        return Completed(code, b"".join(output), stderr)

    def push(self, files: Sequence[tuple[Path, str]], deadline_s: float) -> None:
        if not files:
            return
        give_up = time.monotonic() + deadline_s
        if len(files) == 1:
            stream = Stream.with_cat(files)
            code, stderr = self._send(stream, stream.cat_blocks(), give_up)
        elif self._has_python:
            stream = Stream.with_python(self.python, files)
            code, stderr = self._send(stream, stream.python_blocks(), give_up)
            self._has_python = code not in NOT_FOUND
        if len(files) > 1 and not self._has_python:
            stream = Stream.with_tar(files)
            code, stderr = self._send(stream, stream.tar_blocks(), give_up)
        if code:
            raise failure(self.name, code, stderr)

    def _send(self, stream: Stream, blocks: Iterator[bytes], give_up: float) -> tuple[int, bytes]:
        return self.execute(stream.command, max(0.0, give_up - time.monotonic()), blocks, _ignore, STALL_S)

    def pull(self, source: str, destination: Path, deadline_s: float) -> None:
        with arriving(destination) as save:
            code, stderr = self.execute(shell.line(["cat", source], {}), deadline_s, [], save, STALL_S)
            if code:
                words = stderr.decode("utf-8", "replace").strip()
                raise DeviceUnreachable(f"{self.name}: cannot read {source}: {words}")


def _ignore(_chunk: bytes) -> None:
    """A receiving end says nothing on stdout."""
