"""The one place where an exception becomes one message and an exit code. Called by main() alone.

0 all done · 1 some trial failed, or a bug of ours · 2 bad input · 3 device trouble · 130 interrupted. A traceback is
never printed (unless --debug asks for it): that of an unexpected error goes to a file, which the message names.
"""
import errno
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

DEBUG = "EDGEFLEET_DEBUG"
BAD_INPUT, DEVICE_TROUBLE, FAILED, INTERRUPTED, BROKEN_PIPE = 2, 3, 1, 130, 141
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def open_streams() -> None:
    """A stream that the caller closed (`>&-`) leads nowhere, instead of to the next file that happens to be opened."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def end_as_interrupted() -> None:
    """SIGTERM (a batch system, `timeout`, a shutdown) ends a verb as Ctrl-C does: in order, with one message."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def guarded(app: Any, arguments: list[str]) -> int:
    """Run the typer app; its exit code. Never raises."""
    import typer

    try:
        code = app(args=arguments, prog_name="edgefleet", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:                 # typer's answer to Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:       # a word on the command line: told with the verb's usage
        show = getattr(error, "show", None)
        return error.exit_code if show is not None and show() is None else _say(str(error), BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted; what was done is kept, the same command goes on from there", INTERRUPTED)
    except SystemExit as error:                 # typer's answer to a reader that went away
        return BROKEN_PIPE if isinstance(error.__context__, BrokenPipeError) else int(error.code or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())   # or the interpreter's last flush complains
        return BROKEN_PIPE
    except Exception as error:
        return _say(*explain(error))


def explain(error: BaseException) -> tuple[str, int]:
    """One message for people and the exit code. Writes the traceback of an unexpected error to a file."""
    from device_agents.registry import USER_MODULES, BadPlugin, UnknownPlugin
    from device_agents.seams import Unsupported, UserError
    from harness.errors import ConfigError, EdgefleetError, StoreError

    if isinstance(error, EdgefleetError | StoreError):
        return str(error), error.exit_code
    if isinstance(error, UnknownPlugin):
        return str(ConfigError.unknown(f"name in {error.folder}/:", error.name, error.allowed)), BAD_INPUT
    if isinstance(error, UserError | BadPlugin):
        return str(error), BAD_INPUT
    if isinstance(error, Unsupported):
        return str(error), DEVICE_TROUBLE
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {error.msg}; mend the file and try again", BAD_INPUT
    if isinstance(error, OSError) and error.errno in (*_DISK_IS_FULL, *_NOT_ALLOWED):
        place = f" ({error.filename})" if error.filename else ""
        todo = "free some space" if error.errno in _DISK_IS_FULL else "check the permissions"
        return f"{error.strerror}{place}: {todo} and run the same command again; nothing is lost", BAD_INPUT
    own = [frame for frame in traceback.walk_tb(error.__traceback__)
           if str(frame[0].f_globals.get("__name__")).startswith(USER_MODULES)]
    if own:
        return _in_a_plugin(error, *own[-1]), BAD_INPUT
    return _unexpected(error), FAILED


def _in_a_plugin(error: BaseException, frame: FrameType, line: int) -> str:
    if os.environ.get(DEBUG):
        sys.stderr.write("".join(traceback.format_exception(error)))
    return f"{frame.f_code.co_filename}, line {line}: {_summary(error)}; mend the file and try again (`edgefleet " \
           "--debug ...` shows the traceback)"


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _unexpected(error: BaseException) -> str:
    text, summary = "".join(traceback.format_exception(error)), _summary(error)
    if os.environ.get(DEBUG):
        sys.stderr.write(text)
        return f"unexpected {summary}"
    return f"unexpected {summary}\nThis is a bug of edgefleet; its traceback is in {_keep(text)}"


def _keep(text: str) -> str:
    from harness.home import find_home

    home = find_home(Path.cwd())
    folder = home if home is not None and os.access(home, os.W_OK) else None
    try:
        handle, name = tempfile.mkstemp(prefix="crash-", suffix=".log", dir=folder)
        with os.fdopen(handle, "w") as file:
            file.write(text)
    except OSError:                             # not even that much room is left
        return "nowhere: it could not be written; add --debug to see it"
    return name


def _say(message: str, code: int) -> int:
    from harness.cli._output import clean

    sys.stderr.write("edgefleet: " + clean(message).rstrip("\n") + "\n")
    return code
