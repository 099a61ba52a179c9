"""A command that costs a process a reading (vcgencmd, dumpsys), asked without ever holding up the sampler.

One small shell stays and runs the command when a line of words reaches it, so that the agent, which may hold a
hundred megabytes of runtime, never forks; the answer is picked up at a later tick. The shell ends with the agent (its
stdin closes). A command that does not answer in time is killed and never asked again. `Questions` asks several in turn
and forgets what is old. Refuses words from outside: they are split by the shell, so callers pass constants only.
"""
import os
import select
import signal
import subprocess
import time
from typing import Callable, Dict, Iterable, Optional

_SHELLS = ("/bin/sh", "/system/bin/sh")
_LOOP = 'while read -r words; do "$0" $words 2>/dev/null; echo "=end $?"; done'
_MAX_BYTES = 1 << 20
_SILENT = 2                                     # turns of a question, running, after which its last answer is too old

#: (question, answer) -> the values in it, None when it is no answer.
Read = Callable[[str, str], Optional[Dict[str, Optional[float]]]]


class SlowCommand:
    """`program` is an absolute path. `reason` says why there are no answers, once there are none."""

    def __init__(self, program: str, deadline_s: float = 5.0) -> None:
        self.program, self.deadline_s, self.reason = program, deadline_s, ""
        self._shell: Optional[subprocess.Popen[bytes]] = None
        self._output, self._asked_s, self._answers = b"", 0.0, 0
        if not os.access(program, os.X_OK):
            self.reason = "%s is not there or may not be run" % program

    @property
    def busy(self) -> bool:
        """Whether an answer is still out."""
        return self._asked_s > 0

    def ask(self, words: str) -> bool:
        """Asks for `program words`. False when an answer is still out or the command is given up."""
        if self.busy or self.reason:
            return False
        try:
            if self._shell is None:
                self._start()
            assert self._shell is not None and self._shell.stdin is not None
            self._shell.stdin.write(words.encode("ascii") + b"\n")
        except (OSError, ValueError) as error:
            self._give_up("cannot run %s: %s" % (self.program, error))
            return False
        self._output, self._asked_s = b"", time.monotonic()
        return True

    def answer(self, wait_s: float = 0.0) -> Optional[str]:
        """What the command printed, once; None while there is no whole answer, and for exit codes other than 0."""
        until = time.monotonic() + wait_s
        while self.busy:
            self._read(max(0.0, until - time.monotonic()))
            if self.reason:
                break
            text = self._output.decode("utf-8", "replace")
            body, end, code = text.rpartition("=end ")
            if end and code.endswith("\n"):
                self._asked_s, self._answers = 0.0, self._answers + 1
                return body if code.strip() == "0" else None
            if time.monotonic() - self._asked_s > self.deadline_s:
                self._give_up("%s did not answer in %g s" % (self.program, self.deadline_s))
            elif time.monotonic() >= until:
                break
        return None

    def cost_ms(self) -> Optional[float]:
        """CPU time an answer has cost on average, from the shell's and its children's counters (10 ms resolution)."""
        if self._shell is None or not self._answers:
            return None
        try:
            with open("/proc/%d/stat" % self._shell.pid, "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return None
        return sum(int(field) for field in fields[11:15]) * 1000.0 / os.sysconf("SC_CLK_TCK") / self._answers

    def close(self) -> None:
        """Ends the shell and whatever it runs."""
        shell, self._shell, self._asked_s = self._shell, None, 0.0
        if shell is None:
            return
        try:
            os.killpg(shell.pid, signal.SIGKILL)
        except OSError:
            pass
        shell.wait()
        for stream in (shell.stdin, shell.stdout):
            if stream is not None:
                stream.close()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:                       # the interpreter is half gone
            pass

    def _start(self) -> None:
        shell = next((path for path in _SHELLS if os.path.exists(path)), "sh")
        self._shell = subprocess.Popen([shell, "-c", _LOOP, self.program], bufsize=0, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        assert self._shell.stdout is not None
        os.set_blocking(self._shell.stdout.fileno(), False)

    def _read(self, wait_s: float) -> None:
        assert self._shell is not None and self._shell.stdout is not None
        descriptor = self._shell.stdout.fileno()
        select.select([descriptor], [], [], min(wait_s, self.deadline_s))
        try:
            part = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._give_up("cannot read from %s: %s" % (self.program, error))
            return
        self._output += part
        if not part or len(self._output) > _MAX_BYTES:
            self._give_up("%s ended or printed too much" % self.program)

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        self.close()


class Questions:
    """Questions to one command, one a turn, and what they were answered last.

    `read` comes with each turn: kept here, a sensor's own method would keep sensor and shell alive after their last
    use. A question that two turns got no answer to has no values any more: what was then is not what is now.
    """

    def __init__(self, command: SlowCommand, questions: Iterable[str]) -> None:
        self._command = command
        self._next, self._asked = list(questions), ""
        self._values: Dict[str, Dict[str, Optional[float]]] = {}
        self._silent = dict.fromkeys(self._next, 0)

    @property
    def reason(self) -> str:
        """Why values are missing, '' when none should be."""
        silent = [question for question in self._silent if self._silent[question] >= _SILENT]
        return self._command.reason or ("%s gives no answer to: %s" % (self._command.program, ", ".join(silent))
                                        if silent else "")

    def values(self) -> Dict[str, Optional[float]]:
        """Of all questions together."""
        found: Dict[str, Optional[float]] = {}
        for values in self._values.values():
            found.update(values)
        return found

    def round(self, read: Read, wait_s: float) -> None:
        """A turn for each question, each waited for: before the window only."""
        for _ in self._silent:
            self.turn(read, wait_s)

    def turn(self, read: Read, wait_s: float = 0.0) -> None:
        """Takes the answer to the last question, then asks the next; waits for that answer up to `wait_s`."""
        self._take(read, 0.0)
        if self._command.ask(self._next[0]):
            self._asked = self._next.pop(0)
            self._next.append(self._asked)
            self._take(read, wait_s)
        if self._command.reason:
            self._values = {}                   # no news is not old news

    def _take(self, read: Read, wait_s: float) -> None:
        if not self._asked:
            return
        answer = self._command.answer(wait_s)
        values = None if answer is None else read(self._asked, answer)
        if values is not None:
            self._values[self._asked], self._silent[self._asked] = values, 0
        elif self._command.busy:
            return                              # the answer is still out
        else:
            self._silent[self._asked] += 1
            if self._silent[self._asked] >= _SILENT:
                self._values.pop(self._asked, None)
        self._asked = ""
