"""The seams of the controller: Transport (how bytes reach a device) and Scheduler (who runs which trial when).

Implemented one file each in transports/ and by scheduler.py. No behaviour here. A transport knows nothing of
trials; a scheduler knows nothing of devices beyond their names and sites.
"""
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from device_agents.wire import Trial


class Completed(NamedTuple):
    """A finished command. A lost connection is never a Completed: it is DeviceUnreachable."""

    rc: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """Bytes to and from one device. Every call has a deadline of ours; its expiry raises DeviceUnreachable.

    `argv` is a list, quoted in one place by the transport. A path on the device that starts with "~/" lies in the
    login's home. There is no `spawn`: the agent detaches itself, so that one mechanism, tested once, serves all.
    """

    def run(self, argv: Sequence[str], deadline_s: float, stdin: bytes = b"") -> Completed:
        """Run to the end. Raises DeviceUnreachable (no answer in time, connection lost), never for rc != 0."""

    def push(self, files: Sequence[tuple[Path, str]], deadline_s: float) -> None:
        """Copy (local file, path on the device) pairs in one stream; each to `.part`, then renamed. Parents are made."""

    def pull(self, source: str, destination: Path, deadline_s: float) -> None:
        """Copy one file from the device, to `.part` here, then renamed."""

    def close(self) -> None: ...


class TrialResult(NamedTuple):
    """What the scheduler hands to the driver for one attempt, and the last one of a trial has `final` set."""

    trial_id: str
    device: str
    attempt: int
    state: str                       # done | failed | skipped | retry
    final: bool
    error: str                       # class name, "" when done
    blame: str                       # user | harness | link | device | ""
    message: str
    journal: str                     # path of the collected journal on the controller, "" when there is none
    started_wall_s: float
    ended_wall_s: float
    notes: tuple[str, ...] = ()


Work = Callable[[Trial, int], TrialResult]
"""Runs attempt n of a trial to its result. Raises only EdgefleetError."""


class Scheduler(Protocol):
    """One trial at a time on a device, no more measured windows at once than a group allows, retries by class."""

    def run(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """Yields every attempt's result as it comes. Closing the iterator cancels what has not begun."""
