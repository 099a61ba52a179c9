"""Whether a device is worth another trial in this run. Kept by the scheduler, one object a device.

good: the last trial told something about the method. looping: it fails in the same way again and again. bad: it does
not answer. Both end its part of the run: what is left stays pending, with the reason, for the next `edgefleet run`.
"""
from typing import NamedTuple

from harness.errors import DeviceNotReady, DeviceRefused, DeviceUnreachable, EdgefleetError, TrialError

LOOPING_AFTER = 3                               # final failures in a row that are not the user's fault


class Benched(NamedTuple):
    """Why nothing more is tried on a device: for people, and the class and blame of the error that led to it."""

    reason: str
    error: str
    blame: str


class Health:
    """`benched` is None while the device is worth another trial."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._failures = 0
        self.benched: Benched | None = None

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, error: EdgefleetError) -> None:
        """A trial's last attempt ended with `error`."""
        if isinstance(error, DeviceUnreachable):
            self._bench(f"bad): it stopped answering ({error})", error)
        elif isinstance(error, DeviceRefused):
            self._bench(f"bad): {error}", error)
        elif isinstance(error, (TrialError, DeviceNotReady)) and error.blame != "user":
            self._failures += 1
            if self._failures >= LOOPING_AFTER:
                self._bench(f"looping): {self._failures} trials in a row failed, the last with: {error}", error)

    def _bench(self, why: str, error: EdgefleetError) -> None:
        self.benched = Benched(f"{self._device} is benched ({why}", type(error).__name__, error.blame)
