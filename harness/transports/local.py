"""This machine as a device: the journey of SSH and adb, with copies for pushes and processes for commands.

Made by device.open_device for `transport = "local"`, also for emulated devices. Commands run in a session of their own,
so that Ctrl-C reaches the controller alone. It refuses to be a shortcut: nothing is read behind the agent's back.
"""
import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import DeviceNotReady, DeviceUnreachable, DeviceUnsupported
from harness.fleet import DeviceSpec
from harness.seams import Completed


class LocalTransport:
    """`home` is the controller's folder for this device; the agent lives in it unless the spec names another."""

    def __init__(self, spec: DeviceSpec, home: Path) -> None:
        self._name = spec.name
        self._environment = {**os.environ, **spec.env}
        self.agent_home = str(Path(spec.home).expanduser()) if spec.home else str(home)
        self.python = spec.python or sys.executable

    def run(self, argv: Sequence[str], deadline_s: float, stdin: bytes = b"") -> Completed:
        try:
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       env=self._environment, start_new_session=True)
        except OSError as error:
            raise DeviceUnsupported(f"{self._name}: cannot start {argv[0]!r}: {error.strerror}. "
                                    "Set `python` of this device in fleet.toml to a Python >= 3.6.") from None
        try:
            stdout, stderr = process.communicate(stdin, timeout=deadline_s)
        except subprocess.TimeoutExpired:
            raise DeviceUnreachable(f"{self._name}: no answer to {_verb(argv)} within {deadline_s:.0f} s") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return Completed(process.returncode, stdout, stderr)

    def push(self, files: Sequence[tuple[Path, str]], deadline_s: float) -> None:  # noqa: ARG002  a copy has no cable
        for source, destination in files:
            self._copy(source, Path(destination).expanduser())

    def pull(self, source: str, destination: Path, deadline_s: float) -> None:  # noqa: ARG002
        self._copy(Path(source).expanduser(), destination)

    def close(self) -> None:
        """Nothing is open between calls."""

    def _copy(self, source: Path, destination: Path) -> None:
        part = destination.with_name(destination.name + ".part")
        try:
            destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(source, part)
            part.chmod(0o600)
            part.replace(destination)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            if error.errno == errno.ENOSPC:
                raise DeviceNotReady(f"{self._name}: the disk with {destination.parent} is full; free some space "
                                     "there and run again.") from None
            raise DeviceUnreachable(f"{self._name}: cannot copy {source} to {destination}: {error.strerror}") from None


def _verb(argv: Sequence[str]) -> str:
    """What a message calls the command: the agent's verb when it is the agent's, else the program."""
    return next((argv[n + 1] for n, word in enumerate(argv[:-1]) if word.endswith(".pyz")), Path(argv[0]).name)
