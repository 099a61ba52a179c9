"""What a collected journal without `done` at its end stands for: an error, whose class decides the retry.

Called by the runner. Reads one piece of a line at a time, whatever the device sent; what is no line of an agent's is a
crash, never an exception of this file's own.
"""
import gzip
import io
import json
import re
from contextlib import suppress
from typing import Any

from harness.errors import (
    AgentCrashed,
    AgentFailed,
    AgentTimeout,
    DeviceNotReady,
    DeviceUnsupported,
    EdgefleetError,
    TrialError,
)

PIECE_B = 1 << 20                               # of a line that is read at a time
TRACEBACK_CHARS = 20_000                        # of it that are looked at, from its end
#: A file of the user's own as the agent unpacked it, and the line that raised.
_OWN_FRAME = re.compile(r'^  File ".*/plugins/(\w+/[^"\n/]+\.py)", line (\d+)', re.MULTILINE)


def failure(state: str, journal_gz: bytes, where: str) -> EdgefleetError:
    """The error that a journal without `done` stands for."""
    count, tail = _tail(journal_gz)
    last = _object(tail) if state == "failed" else None
    if last is None:
        shown = tail[:200].decode("utf-8", "replace").rstrip("\n") or "no line"
        return AgentCrashed(f"{where}: the agent died; its journal ends after {count} lines with: {shown}")
    kind, message = last.get("error"), f"{where}: {_said(last)}"
    if kind == "not_ready":
        return DeviceNotReady(message)
    if kind == "unsupported":
        return DeviceUnsupported(message)
    return AgentFailed(message, blame="user" if kind == "user" else "harness")


def overdue(journal_gz: bytes, words: str) -> TrialError:
    """The error of a trial that had to be stopped, whose journal says where it was if it could still say something.

    In a file of the user's own: then the device is not to blame, and another try would hang, too.
    """
    place = _own_place(_traceback(_object(_tail(journal_gz)[1]) or {}))
    if place:
        return AgentFailed(f"{words}: it was in {place}, and was stopped there", "user")
    return AgentTimeout(f"{words}; stopped")


def _said(last: dict[str, Any]) -> str:
    """The agent's last words; those of an exception in a file of the user's own with its class, file and line."""
    message, text = str(last.get("message")), _traceback(last)
    place = _own_place(text)
    if not place:
        return message
    kind = re.search(rf"^([A-Za-z_][\w.]*)(?:: )?{re.escape(message)}$", text.rstrip("\n"), re.MULTILINE)
    return f"{kind[1] + ': ' if kind else ''}{message} ({place})"


def _traceback(last: dict[str, Any]) -> str:
    return str(last.get("traceback"))[-TRACEBACK_CHARS:]


def _own_place(text: str) -> str:
    """File and line of the innermost frame of the user's own in a traceback, or ''."""
    frames = _OWN_FRAME.findall(text)
    return f"{frames[-1][0]}, line {frames[-1][1]}" if frames else ""


def _tail(journal_gz: bytes) -> tuple[int, bytes]:
    """How many lines, and the last one (the end of it, where it is beyond measure). One piece at a time in memory."""
    count, last = 0, b"\n"
    with gzip.open(io.BytesIO(journal_gz)) as file:
        while piece := file.readline(PIECE_B):
            count, last = count + last.endswith(b"\n"), piece
    return count, last if count else b""


def _object(line: bytes) -> dict[str, Any] | None:
    with suppress(ValueError, RecursionError):     # nested beyond measure, that is
        value = json.loads(line)
        return value if isinstance(value, dict) else None
    return None
