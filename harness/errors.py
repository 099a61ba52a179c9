"""The error tree. Everything that can go wrong has a class here; the class decides exit code, blame and retries.

    EdgefleetError
    ├── ConfigError          bad file, key or name                       exit 2   blame user     never retried
    ├── DeviceError                                                      exit 3
    │   ├── DeviceUnreachable   no answer                                       blame link   3 retries, benched, pending
    │   ├── DeviceRefused       a person must let us in: host key, login, consent   blame user    benched, never retried
    │   ├── DeviceNotReady      hot, low battery, busy                          blame device   waited for, then retried
    │   └── DeviceUnsupported   lacks Python, runtime or feature                blame device   skipped, with the reason
    └── TrialError                                                       exit 1
        ├── AgentCrashed        the journal ends without done or failed           blame device   1 retry, keeps the tail
        ├── AgentTimeout        not done by its due time                          blame device   1 retry
        └── AgentFailed         it says why, or hung in a user's file             blame user or harness, never retried
    StoreError (db.errors)   schema too new, disk full, locked           exit 2   blame user     stops the campaign
    UserError (seams)        raised by workloads/ and reports/           exit 2   blame user     never retried

`retries` is read by the scheduler alone. Messages say what, where, and what to do next.
"""
import difflib
from collections.abc import Iterable

from db.errors import StoreError

__all__ = ["AgentCrashed", "AgentFailed", "AgentTimeout", "ConfigError", "DeviceError", "DeviceNotReady",
           "DeviceRefused", "DeviceUnreachable", "DeviceUnsupported", "EdgefleetError", "StoreError", "TrialError"]


class EdgefleetError(Exception):
    """Base of all errors that are shown to people without a traceback."""

    exit_code = 1
    retries = 0
    blame = "harness"
    journal = b""                               # gzip'd, of the attempt that failed, when one was collected
    peer = ""                                   # of the trial, when it is that device's trouble


class ConfigError(EdgefleetError):
    """A file, key or name of the user's is wrong."""

    exit_code = 2
    blame = "user"

    @classmethod
    def unknown(cls, what: str, name: str, allowed: Iterable[str], where: str = "") -> "ConfigError":
        """'unknown method 'adascal' in quickstart.toml (matrix.method): did you mean 'adascale'? There is: ...'."""
        options = sorted(allowed)
        near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        place = f" in {where}" if where else ""
        return cls(f"unknown {what} {name!r}{place}.{hint} There is: {', '.join(options) or 'nothing'}.")


class DeviceError(EdgefleetError):
    exit_code = 3
    blame = "device"


class DeviceUnreachable(DeviceError):
    retries = 3
    blame = "link"


class DeviceRefused(DeviceError):
    """It is there, and a person must act first: an unknown host key, a login, "Allow USB debugging?"."""

    blame = "user"


class DeviceNotReady(DeviceError):
    retries = 3


class DeviceUnsupported(DeviceError):
    """The trial is skipped, with this reason."""


class TrialError(EdgefleetError):
    exit_code = 1
    blame = "device"


class AgentCrashed(TrialError):
    retries = 1


class AgentTimeout(TrialError):
    retries = 1


class AgentFailed(TrialError):
    """The agent ended the trial itself. `blame` is set per instance: user (plug-in, settings) or harness (a bug)."""

    def __init__(self, message: str, blame: str = "harness") -> None:
        super().__init__(message)
        self.blame = blame
