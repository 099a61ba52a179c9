"""Append-only trial.jsonl: numbered lines, buffered in memory, written by whoever calls flush() (the sampler's tick).

Written by the loop, the sampler's thread and the load player; the format is in wire.py. The last line is `done` or
`failed`; a file that ends otherwise belongs to an agent that crashed. An inference line is formatted by hand, because
it is the only work of ours that every inference pays for. A write that fails (disk full) is kept as `failure` and
raised in the next caller, as is what ended a thread (`watch`); a reserve of disk blocks, freed then, leaves room for
the last line. It refuses to overwrite.
"""
import json
import os
import threading
from typing import Any, Callable, Dict, List, Optional

from device_agents.seams import Clock

_RESERVE_B = 64 * 1024
_MOST_LINES = 8192                              # in memory, when nobody flushes
_JSON = {None: "null", True: "true", False: "false"}
_INFERENCE = (
    '{"seq":%d,"kind":"inference","t_ns":%d,"phase":"%s","index":%d,"status":"ok","due_ns":%d,"branch":%s,"sample":%d,'
    '"label":%s,"correct":%s,"queue_ms":%.3f,"decide_us":%s,"switch_ms":%.3f,"latency_ms":%.4f,"response_ms":%.3f,'
    '"met":%s,"queue_len":%d,"deadline_ms":%s,"feasible":%d}\n'
)


class JournalBroken(Exception):
    """The journal cannot be written any more; says why. The trial ends."""


class Journal:
    """One trial's journal. `phase` is stamped on every line; change it with enter().

    Raises FileExistsError when `path` exists. Safe to call from several threads.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self.phase = "setup"
        self.failure: Optional[OSError] = None
        self._fault: Optional[Exception] = None         # what ended a thread
        self._clock = clock
        self._lines: List[str] = []
        self._seq = 0
        self._order = threading.Lock()          # numbers lines
        self._writing = threading.Lock()        # keeps their order in the file
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size_b = 0                        # of whole lines in the file
        self._reserve = _reserve(path + ".reserve")

    def write(self, kind: str, t_ns: Optional[int] = None, **fields: Any) -> None:
        """One line of any kind but inference. Values must be JSON; NaN and infinities become null."""
        if t_ns is None:
            t_ns = self._clock.now_ns()
        body = _dumps(fields)
        with self._order:
            self._lines.append('{"seq":%d,"kind":"%s","t_ns":%d,"phase":"%s"%s\n' % (
                self._seq, kind, t_ns, self.phase, "," + body[1:] if fields else "}"))
            self._seq += 1
        self.check()

    def inference(self, t_ns: int, index: int, due_ns: int, branch_json: str, sample: int, label: Any,
                  correct: Optional[bool], queue_ms: float, decide_us: Optional[float], switch_ms: float,
                  latency_ms: float, response_ms: float, met: Optional[bool], queue_len: int,
                  deadline_ms: Optional[float], feasible: int) -> None:
        """One served inference; `branch_json` is the branch's id, already quoted. The hot path: a few microseconds."""
        label_json = str(label) if label.__class__ is int else _dumps(label)
        decide_json = "null" if decide_us is None else "%.1f" % decide_us
        deadline_json = "null" if deadline_ms is None else "%.3f" % deadline_ms
        with self._order:
            self._lines.append(_INFERENCE % (
                self._seq, t_ns, self.phase, index, due_ns, branch_json, sample, label_json, _JSON[correct], queue_ms,
                decide_json, switch_ms, latency_ms, response_ms, _JSON[met], queue_len, deadline_json, feasible))
            self._seq += 1
        self.check()

    def enter(self, phase: str) -> None:
        """Begin a phase: setup | warmup | window | cool. Writes out what is buffered."""
        self.flush()
        self.phase = phase

    def flush(self) -> None:
        """Write what is buffered. Never raises: a failure is kept and raised by the next line."""
        with self._writing:
            if self.failure is not None:
                return
            with self._order:
                lines, self._lines = self._lines, []
            if lines:
                try:
                    self._append("".join(lines).encode("utf-8"))
                except OSError as error:
                    self.failure = error

    def watch(self, work: Callable[[], None]) -> None:
        """A thread's whole work. What ends it is raised by the next line of any other, and so ends the trial."""
        try:
            work()
        except JournalBroken:                   # which the next line raises anyway
            pass
        except Exception as error:
            self._fault = self._fault or error

    def check(self) -> None:
        """Raises JournalBroken when lines were lost, or what ended a thread."""
        if self.failure is not None:
            raise JournalBroken("cannot write %s: %s" % (self.path, self.failure.strerror))
        if self._fault is not None:
            raise self._fault
        if len(self._lines) > _MOST_LINES:
            self.flush()

    def busy(self) -> bool:
        """Is somebody inside? A signal handler that raises then would tear a line."""
        return self._order.locked() or self._writing.locked()

    def close(self, kind: str, **fields: Any) -> None:
        """Write the last line, `done` or `failed`, and close. On a full disk: cut the torn lines off, use the reserve.

        Raises OSError when even that does not go.
        """
        self.flush()
        self._fault = None                      # the last line says it
        if self.failure is not None:
            self._recover()
        self.write(kind, **fields)
        self.flush()
        if self.failure is not None and self._reserve is not None:
            self._recover()
            self.write(kind, **fields)
            self.flush()
        self._drop_reserve()
        os.close(self._file)
        if self.failure is not None:
            raise self.failure

    def _recover(self) -> None:
        self._drop_reserve()
        with self._writing, self._order:
            os.ftruncate(self._file, self._size_b)
            with open(self.path, "rb") as file:
                self._seq = sum(1 for _ in file)
            self._lines, self.failure = [], None

    def _drop_reserve(self) -> None:
        if self._reserve is not None:
            _drop(self.path + ".reserve", self._reserve)
            self._reserve = None

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view):]
        self._size_b += len(data)


def last_event(path: str) -> Dict[str, Any]:
    """The last whole line of a journal as a dict; {} when there is none that can be read."""
    try:
        with open(path, "rb") as file:
            size_b = file.seek(0, os.SEEK_END)
            file.seek(max(0, size_b - 4 * _RESERVE_B))
            tail = file.read()
    except OSError:
        return {}
    if not tail.endswith(b"\n"):
        return {}
    try:
        value = json.loads(tail[:-1].rpartition(b"\n")[2].decode("utf-8"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _dumps(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value), separators=(",", ":"), allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value


def _reserve(path: str) -> Optional[int]:
    """A file of real blocks, or None where the file system cannot promise any."""
    file = None
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(file, 0, _RESERVE_B)
        return file
    except OSError:
        _drop(path, file)
        return None


def _drop(path: str, file: Optional[int]) -> None:
    if file is not None:
        os.close(file)
    try:
        os.unlink(path)
    except OSError:
        pass
