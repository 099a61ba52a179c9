"""Who runs which trial when: `inline` in this thread, or `ray` with one actor a site and a thread a device.

Both walk `attempts`, the one place that retries, so they differ in concurrency alone. Called by run.py with a Bench.
This file is the only one that imports ray. It refuses to know what a trial does and to touch the database.
"""
import json
import queue
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from device_agents.registry import BadPlugin, UnknownPlugin
from device_agents.seams import UserError
from device_agents.wire import Trial
from harness.errors import (
    AgentFailed,
    ConfigError,
    DeviceNotReady,
    DeviceUnreachable,
    DeviceUnsupported,
    EdgefleetError,
)
from harness.fleet import HERE
from harness.health import Health
from harness.runner import Bench, Runner
from harness.seams import Report, Scheduler, TrialResult, Work

SCHEDULERS = ("ray", "inline")
RETRY_PAUSE_S = 2.0                             # before asking an unreachable device again; doubled each time
NOT_READY_PAUSE_S = 10.0                        # when the campaign states no cooldown_s
START_S = 120.0                                 # until a site's process has imported what it needs
POLL_S = 0.5                                    # how long a site's actor holds an empty-handed question


def make_scheduler(name: str, bench: Bench, address: str = "local") -> Scheduler:
    """`address` is Ray's; "local" starts a cluster of our own, because joining a stranger's would be a surprise."""
    if name == "inline":
        return Inline(bench)
    if name == "ray":
        return RaySites(bench, address)
    raise ConfigError.unknown("scheduler", name, SCHEDULERS, "--scheduler")


def attempts(trials: Sequence[Trial], first_attempts: Mapping[str, int], work: Work, report: Report,
             health: Mapping[str, Health], cooldown_s: float, stopped: Callable[[float], bool]) -> None:
    """Run `trials` one after the other, each with the retries that its error's class allows. Reports every result.

    `stopped(seconds)` sleeps for so long, at the most, and says whether to stop.
    """
    for trial in trials:
        if stopped(0):
            return
        benched = next((said for name in (trial.device, *trial.peers) if (said := health[name].benched)), None)
        if benched:
            report(TrialResult(trial.id, trial.device, 0, "pending", True, benched.error, benched.blame,
                               benched.reason, at_s=time.time()))
            continue
        _attempt(trial, first_attempts.get(trial.id, 1), work, report, health, cooldown_s, stopped)


def _attempt(trial: Trial, number: int, work: Work, report: Report, health: Mapping[str, Health], cooldown_s: float,
             stopped: Callable[[float], bool]) -> None:
    tried: Counter[type[EdgefleetError]] = Counter()
    while True:
        begun: list[TrialResult] = []

        def note(result: TrialResult, begun: list[TrialResult] = begun) -> None:
            begun.append(result)
            report(result)

        try:
            result = work(trial, number, note)
        except Exception as problem:            # whatever it is, it is a row
            error = _as_ours(problem, trial)
            final = tried[type(error)] >= error.retries
            attempt = begun[-1].attempt if begun else number
            report(_failed(trial, attempt, error, final))
            if final:
                health[error.peer or trial.device].failed(error)
                return
            if stopped(_pause_s(error, tried[type(error)], cooldown_s)):
                return
            tried[type(error)] += 1
            number = max(number, attempt + 1)   # one that the device held may be older than those that got nowhere
        else:
            health[trial.device].succeeded()
            report(result)
            return


def _as_ours(problem: Exception, trial: Trial) -> EdgefleetError:
    """Ours as it is; a mistake of the user's, and a bug of ours with its traceback, as failures that end the trial."""
    if isinstance(problem, EdgefleetError):
        return problem
    if isinstance(problem, UserError | UnknownPlugin | BadPlugin):
        return AgentFailed(f"{trial.device}: {problem}", blame="user")
    return AgentFailed(f"{trial.device}: a bug of edgefleet: " + "".join(traceback.format_exception(problem)))


def _failed(trial: Trial, attempt: int, error: EdgefleetError, final: bool) -> TrialResult:
    state = "skipped" if isinstance(error, DeviceUnsupported) else "failed"
    if final and isinstance(error, DeviceUnreachable):
        state = "pending"                       # the device may hold its journal: the next run asks it
    return TrialResult(trial.id, trial.device, attempt, state, final, type(error).__name__, error.blame, str(error),
                       journal=error.journal, at_s=time.time())


def _pause_s(error: EdgefleetError, tried: int, cooldown_s: float) -> float:
    if isinstance(error, DeviceNotReady):
        return cooldown_s or NOT_READY_PAUSE_S
    return RETRY_PAUSE_S * 2 ** tried if isinstance(error, DeviceUnreachable) else 0.0


class Inline:
    """One trial after the other, in the plan's order, in this process. The twin that tests and debuggers use."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def run(self, trials: Sequence[Trial], first_attempts: Mapping[str, int]) -> Iterator[TrialResult]:
        site = Site(self._bench)
        try:
            site.start([trials], first_attempts)
            while (found := site.next()) is not None:
                yield from found
        finally:
            site.stop()
            site.close()


class Site:
    """The devices of one site, a thread for each lane of trials. Lives in a Ray actor; knows nothing of Ray."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._runner = bench, Runner(bench)
        self._results: queue.SimpleQueue[tuple[TrialResult, bool] | None] = queue.SimpleQueue()
        self._told: list[TrialResult] = []      # by the last `next`, with their journals
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, lanes: Sequence[Sequence[Trial]], first_attempts: Mapping[str, int]) -> None:
        """The trials of a lane run one after the other; all trials of a device are in one lane."""
        health = {name: Health(name) for lane in lanes for trial in lane for name in (trial.device, *trial.peers)}
        self._threads = [threading.Thread(target=self._lane, args=(lane, first_attempts, health), daemon=True)
                         for lane in lanes]
        for thread in self._threads:
            thread.start()

    def next(self) -> list[TrialResult] | None:
        """Results since the last call, waiting for one if need be; None when all threads have ended.

        Whoever calls has stored what the call before brought: devices may forget those journals.
        """
        for result in self._told:
            self._runner.stored(result.device, result.trial_id, result.attempt)
        found: list[tuple[TrialResult, bool]] = []
        with suppress(queue.Empty):
            first = self._results.get(timeout=POLL_S)
            while first is not None:
                found.append(first)
                first = self._results.get_nowait()
        if not found and not any(thread.is_alive() for thread in self._threads) and self._results.empty():
            return None
        self._told = [result for result, collected in found if collected]
        return [result for result, _ in found]

    def report(self, result: TrialResult) -> None:
        """From a lane's thread. Whether the journal came is known now: a later attempt may yet bring it."""
        self._results.put((result, self._runner.collected(result.device, result.trial_id, result.attempt)))

    def stop(self) -> None:
        """Begin nothing more. What runs on a device goes on there; the next run collects it."""
        self._stop.set()

    def close(self) -> None:
        self._runner.close()

    def _lane(self, trials: Sequence[Trial], first_attempts: Mapping[str, int], health: Mapping[str, Health]) -> None:
        try:
            attempts(trials, first_attempts, self._runner.run_trial, self.report, health,
                     self._bench.preflight.cooldown_s, self._stop.wait)
        finally:
            self._results.put(None)             # wakes next(), which then sees that this thread is ending


class RaySites:
    """One actor a site, placed by the resource `site:NAME`; the site `here` is wherever the driver is."""

    def __init__(self, bench: Bench, address: str) -> None:
        self._bench, self._address = bench, address

    def run(self, trials: Sequence[Trial], first_attempts: Mapping[str, int]) -> Iterator[TrialResult]:
        ray, ours = _start_ray(self._address)
        actors: dict[str, Any] = {}
        try:
            by_site = self._by_site(trials)
            self._check(ray, by_site)
            for name, its_trials in by_site.items():
                actors[name] = self._actor(ray, name)
                begun = actors[name].start.remote(_by_device(its_trials), dict(first_attempts))
                try:
                    ray.get(begun, timeout=START_S)
                except ray.exceptions.GetTimeoutError:
                    raise SiteLost(f"the site {name!r} did not start within {START_S:.0f} s; look at its machine, then "
                                   "run again") from None
                except ray.exceptions.RayActorError:
                    raise SiteLost(f"the site {name!r} died while it started; look at its machine, then run again"
                                   ) from None
            yield from self._stream(ray, actors)
        finally:
            _end(ray, list(actors.values()))
            if ours:
                ray.shutdown()

    def _stream(self, ray: Any, actors: Mapping[str, Any]) -> Iterator[TrialResult]:
        asked = {actor.next.remote(): name for name, actor in actors.items()}
        while asked:
            ready, _ = ray.wait(list(asked), num_returns=1)
            name = asked.pop(ready[0])
            try:
                results = ray.get(ready[0])
            except ray.exceptions.RayActorError:
                raise SiteLost(f"the site {name!r} died; run again: what its devices hold will be collected") from None
            if results is None:
                continue
            # When we are resumed, the driver has stored these; meanwhile the site's threads went on.
            yield from results
            asked[actors[name].next.remote()] = name

    def _by_site(self, trials: Sequence[Trial]) -> dict[str, list[Trial]]:
        sites: dict[str, list[Trial]] = {}
        for trial in trials:
            sites.setdefault(self._bench.fleet.devices[trial.device].site, []).append(trial)
        return sites

    def _check(self, ray: Any, names: Iterable[str]) -> None:
        """Ray itself would wait for a site without end, and say nothing."""
        there = ray.cluster_resources()
        missing = sorted(name for name in names if name != HERE and f"site:{name}" not in there)
        if missing:
            example = json.dumps({f"site:{missing[0]}": 1})
            raise ConfigError(f"the Ray cluster at {self._address!r} has no site {', '.join(map(repr, missing))}. "
                              f"Start Ray there with: ray start --address HEAD:6379 --resources '{example}', and name "
                              "the cluster by --ray-address; or leave `site` out of the fleet file.")

    def _actor(self, ray: Any, name: str) -> Any:
        resources = {} if name == HERE else {f"site:{name}": 0.001}
        options = {"num_cpus": 0, "resources": resources, "max_concurrency": 4}
        return ray.remote(Site).options(**options).remote(self._bench)


class SiteLost(EdgefleetError):
    """A machine of the Ray cluster went away in mid-campaign."""

    exit_code = 3
    blame = "link"


def _start_ray(address: str) -> tuple[Any, bool]:
    """(ray, whether we started or joined it ourselves and must leave it)."""
    import ray

    if ray.is_initialized():
        return ray, False
    terminated = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL     # None: of whom Python does not know
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, configure_logging=True,
                 logging_level="ERROR", **({"num_cpus": 1} if address == "local" else {}))
    except Exception as error:                  # on a slow machine even a bare one
        raise ConfigError(f"Ray does not start at address {address!r}: {str(error).rstrip('.')}. `--scheduler inline` "
                          "runs without it.") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminated)   # Ray's own answer to it is a dump of addresses, and an abort
    return ray, True


def _end(ray: Any, actors: Sequence[Any]) -> None:
    """Stop and close all sites. One that died has nothing to close and keeps no other from it: `wait` raises none."""
    with suppress(Exception):
        ray.wait([actor.stop.remote() for actor in actors], num_returns=len(actors), timeout=5)
        ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=30)
    for actor in actors:
        ray.kill(actor)


def _by_device(trials: Sequence[Trial]) -> list[list[Trial]]:
    lanes: dict[str, list[Trial]] = {}
    for trial in trials:
        lanes.setdefault(trial.device, []).append(trial)
    return list(lanes.values())
