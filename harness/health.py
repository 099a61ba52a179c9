"""Whether a device is worth another trial in this run. Kept by the scheduler, one object a device.

good: the last trial told something about the method. looping: it fails in the same way again and again. bad: it does
not answer. Both end its part of the run: what is left stays pending, with the reason, for the next `edgefleet run`.
"""
from harness.errors import DeviceNotReady, DeviceRefused, DeviceUnreachable, EdgefleetError, TrialError

LOOPING_AFTER = 3                               # final failures in a row that are not the user's fault


class Health:
    """`benched` is None, or the reason why nothing more is tried on this device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._failures = 0
        self.benched: str | None = None

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, error: EdgefleetError) -> None:
        """A trial's last attempt ended with `error`."""
        if isinstance(error, DeviceUnreachable):
            self.benched = f"{self._device} is benched (bad): it stopped answering ({error})"
        elif isinstance(error, DeviceRefused):
            self.benched = f"{self._device} is benched (bad): {error}"
        elif isinstance(error, (TrialError, DeviceNotReady)) and error.blame != "user":
            self._failures += 1
            if self._failures >= LOOPING_AFTER:
                self.benched = (f"{self._device} is benched (looping): {self._failures} trials in a row failed, "
                                f"the last with: {error}")
