"""Progress of a run for people, on stderr: a live bar on a terminal, a line a trial elsewhere. Used by run alone."""
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from device_agents.wire import Trial
from harness.cli._output import clean, in_words, words
from harness.estimate import needed_s, window_s
from harness.fleet import FleetSpec
from harness.seams import TrialResult


class Progress:
    """A context manager; `show` is told every result."""

    def __init__(self, todo: Sequence[Trial], fleet: FleetSpec, cooldown_s: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._left = {trial.id: trial for trial in todo}
        self._total, self._fleet, self._cooldown_s = len(todo), fleet, cooldown_s
        self._counts = {"done": 0, "failed": 0, "skipped": 0, "pending": 0}
        self._running: dict[str, str] = {}
        self._began_s = time.monotonic()
        self._live = sys.stderr.isatty()
        self._bar = Bar(TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                        TextColumn("{task.fields[words]}", markup=False), console=Console(stderr=True),
                        disable=not self._live, transient=True)
        self._task = self._bar.add_task("trials", total=self._total, words="starting")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, result: TrialResult) -> None:
        trial = self._left.get(result.trial_id)
        if trial is None:
            return
        what = clean(f"{trial.device} · {trial.label} · {trial.trace.name} · repeat {trial.repeat}")
        if result.state == "running":
            self._running[result.device] = what
            if result.costs:
                count = sum(map(len, result.costs.values()))
                self._tell(f"{trial.device}: profiled {count} branches of {trial.task}/{trial.model}")
        else:
            self._running.pop(result.device, None)
            self._ended(result, what)
        self._bar.update(self._task, completed=self._total - len(self._left), words=self._words())

    def _ended(self, result: TrialResult, what: str) -> None:
        if not result.final:
            self._tell(f"again: {what}: {result.message}")
            return
        del self._left[result.trial_id]
        self._counts[result.state] += 1
        if result.state != "done":
            self._tell(f"{result.state}: {what}: {result.message}")
        elif not self._live:
            words(f"[{self._total - len(self._left)}/{self._total}] {what}: done, {self._words()}")

    def _words(self) -> str:
        left_s = needed_s([(one.device, window_s(one)) for one in self._left.values()], self._fleet,
                              self._cooldown_s)
        told = [f"{self._counts[state]} {state}" for state in ("failed", "skipped", "pending") if self._counts[state]]
        told.append(f"about {in_words(left_s)} left" if self._left else
                    f"took {in_words(time.monotonic() - self._began_s)}")
        running = "; ".join(self._running.values())
        return ", ".join(told) + (f" · {running}" if running and self._live else "")

    def _tell(self, text: str) -> None:
        if self._live:
            self._bar.console.print(clean(text), markup=False, highlight=False)
        else:
            words(text)
