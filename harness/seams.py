"""The seams of the controller: Transport (how bytes reach a device) and Scheduler (who runs which trial when).

Implemented one file each in transports/ and by scheduler.py. No behaviour here. A transport knows nothing of
trials; a scheduler knows nothing of devices beyond their names and sites.
"""
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from device_agents.wire import Cost, Trial


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
        """Copy (local file, path on the device) pairs in one stream, each to `.part`, then renamed. Makes parents."""

    def pull(self, source: str, destination: Path, deadline_s: float) -> None:
        """Copy one file from the device, to `.part` here, then renamed."""

    def close(self) -> None: ...


CostKey = tuple[str, str, str, str, str]        # device, bundle, engine, runtime, knobs


class TrialResult(NamedTuple):
    """What happened to one attempt of a trial. Travels from a site to the driver, which alone writes the database.

    `state`: running (it began; token, period_ms and deadline_ms are set) · done · failed · skipped · pending (the
    device was benched; or this attempt lost it, and the next run asks it for the journal). `final` is False for
    `running` and for a failure that will be tried again.
    `journal` is the gzip'd journal, b"" when none could be collected.
    """

    trial_id: str
    device: str
    attempt: int                     # 0: nothing was attempted
    state: str
    final: bool
    error: str = ""                  # class name, "" when done
    blame: str = ""                  # user | harness | link | device
    message: str = ""
    journal: bytes = b""
    at_s: float = 0.0                # wall clock of the site, Unix seconds
    token: int = 0
    period_ms: float | None = None
    deadline_ms: float | None = None
    facts: dict[str, Any] | None = None                # of a device that was probed for it
    costs: dict[CostKey, tuple[Cost, ...]] = {}        # noqa: RUF012  profiled for this trial on the way


Report = Callable[[TrialResult], None]
Work = Callable[[Trial, int, Report], TrialResult]
"""Runs one attempt to its end and returns `done`; reports `running` when it begins. Raises EdgefleetError otherwise."""


class Scheduler(Protocol):
    """One trial at a time on a device, no more measured windows at once than a group allows, retries by class."""

    def run(self, trials: Sequence[Trial], first_attempts: Mapping[str, int]) -> Iterator[TrialResult]:
        """Yields results as they come, `running` ones included. Closing the iterator starts nothing more.

        `first_attempts` is the number of each trial's next attempt, by id.
        """
