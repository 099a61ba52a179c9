"""How a trial ends: its last line. `conclude` runs the work and writes `done`, or says in `failed` what went wrong.

Called by trial_process.py and simulation.py, so that a device and a simulation fail in the same words. The error kinds
are those of wire.py: unsupported | not_ready | user (settings, a user's plug-in, a stop on request) | agent (ours).
"""
import errno
import sys
import traceback
from typing import Any, Callable, Dict

from device_agents.journal import Journal, JournalBroken
from device_agents.preflight import NotReady
from device_agents.registry import USER_MODULES, BadPlugin, UnknownPlugin
from device_agents.seams import Unsupported, UserError


class Stopped(BaseException):
    """Somebody asked the trial to stop (SIGTERM, SIGINT, SIGHUP)."""


def conclude(journal: Journal, work: Callable[[], Dict[str, Any]]) -> str:
    """Run `work`, which returns the fields of `done`, and close the journal. Returns "done" or the error's kind."""
    try:
        fields = work()
        journal.flush()
        journal.check()
    except KeyboardInterrupt:                   # of a simulation, in its user's own process: a device's is Stopped
        raise
    except BaseException as error:              # whatever it is, it is a row
        return _fail(journal, error)
    try:
        journal.close("done", **fields)
    except OSError as error:
        _say("the trial is done, but its journal's end could not be written: %s" % error)
        return "agent"
    return "done"


def _fail(journal: Journal, error: BaseException) -> str:
    kind = "not_ready" if _disk_is_full(error, journal) else kind_of(error)
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    message = str(error) or type(error).__name__
    if kind == "agent" and not isinstance(error, JournalBroken):
        message = "%s: %s" % (type(error).__name__, message)
    try:
        journal.close("failed", error=kind, message=message, traceback=text)
    except OSError as problem:
        text += "the journal's end could not be written either: %s\n" % problem
    _say("failed (%s): %s\n%s" % (kind, message, text))    # after close(), which gives its reserve of disk back
    return kind


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:                             # the disk that is full has stderr.log, too
        pass


def kind_of(error: BaseException) -> str:
    """Whose it is: unsupported | not_ready | user | agent. What a user's plug-in raises is the user's."""
    if isinstance(error, Unsupported):
        return "unsupported"
    if isinstance(error, NotReady):
        return "not_ready"
    if isinstance(error, (UserError, BadPlugin, UnknownPlugin, Stopped)) or _in_a_users_file(error):
        return "user"
    return "agent"


def _disk_is_full(error: BaseException, journal: Journal) -> bool:
    """Then nobody's code is to blame: with room made, the same trial runs."""
    cause = journal.failure if isinstance(error, JournalBroken) else error
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def _in_a_users_file(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    if any(frame.f_globals.get("__name__", "").startswith(USER_MODULES) for frame, _ in frames):
        return True
    name = getattr(error, "filename", None) if isinstance(error, SyntaxError) else None
    return bool(name) and "/plugins/" in str(name)
