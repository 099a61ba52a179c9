"""Runs what is missing of a resolved campaign and puts every result into the store: the single writer.

Called by cli/run.py, and callable from a notebook. The scheduler brings results; each is one transaction here, journal
first as a file, then its rows. It refuses to decide about retries (scheduler) or devices (health), and never loses a
journal: a site lets a device forget one only after it was stored here, and a trial whose device went out of reach stays
pending, so that the next run asks for it.
"""
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from db.derive import derive_trial
from db.ingest import ingest_journal
from db.store import Store
from device_agents.wire import Trial, canonical_json, costed_as
from harness.campaign import NO_RUNTIME
from harness.collected import kept_by
from harness.fleet import DeviceSpec
from harness.home import Home
from harness.leases import lock_devices
from harness.resolve import Resolved
from harness.runner import Bench
from harness.scheduler import make_scheduler
from harness.seams import TrialResult

FINISHED = ("done", "failed", "skipped")


class Ended(NamedTuple):
    """How many of the campaign's trials are in which state after the run, and how many were there to do."""

    attempted: int
    states: dict[str, int]


Watch = Callable[[TrialResult], None]
"""Is told every result after it was stored; for progress."""


def missing(resolved: Resolved, store: Store, retry: Sequence[str] = ()) -> list[Trial]:
    """The trials of the plan that are not finished. `retry`: states that count as not finished, e.g. ("failed",)."""
    states = store.states(trial.id for trial in resolved.plan.trials)
    finished = set(FINISHED) - set(retry)
    return [trial for trial in resolved.plan.trials if states.get(trial.id, "pending") not in finished]


def record_plan(resolved: Resolved, store: Store) -> None:
    """Campaign, devices, bundles and trials, before anything runs. Trials of a device without runtime are skipped."""
    spec = resolved.campaign
    store.save_campaign(spec.name, spec.model_dump(mode="json", exclude_none=True),
                        {one.name: one.model_dump(mode="json", exclude_none=True) for one in resolved.devices})
    for device in resolved.devices:
        store.save_device(device.name, device.transport, device.device_class, device.slowdown, device.provenance,
                          resolved.facts.get(device.name))
    for folder in (*resolved.bundles.values(), *resolved.derived.values()):
        store.save_bundle(folder.bundle)
    for one in resolved.prepared:
        store.save_preparation(spec.name, one.label, one.device, one.parent, one.adapter,
                               one.bundle if one.bundle != one.parent else None, one.settings, one.learned, one.budget,
                               one.tuning, one.log)
    store.add_trials(resolved.plan.trials, {one.name: one.provenance for one in resolved.devices})
    for trial in resolved.plan.trials:
        if trial.runtime == NO_RUNTIME:
            facts = resolved.facts.get(trial.device) or (store.device(trial.device) or {}).get("facts", {})
            reason = facts.get("engines", {}).get(trial.engine, {}).get("reason")
            store.skip(trial.id, f"{trial.device}: {reason or 'no runtime for ' + trial.engine}", "DeviceUnsupported",
                       "device")


def run_missing(resolved: Resolved, home: Home, store: Store, scheduler: str, watch: Watch,
                retry: Sequence[str] = (), ray_address: str = "local") -> Ended:
    """Run to the end of what can be run. Raises DeviceNotReady when another controller holds a device, StoreError."""
    todo = missing(resolved, store, retry)
    if todo:
        run_trials(todo, resolved, home, store, scheduler, watch, ray_address)
    states = store.states(trial.id for trial in resolved.plan.trials)
    counts = {state: list(states.values()).count(state) for state in sorted(set(states.values()))}
    return Ended(len(todo), counts)


def run_trials(todo: Sequence[Trial], resolved: Resolved, home: Home, store: Store, scheduler: str, watch: Watch,
               ray_address: str = "local") -> dict[str, str]:
    """Run these trials, which the store knows, and enter what comes; their states afterwards. Raises likewise."""
    devices = {name for trial in todo for name in (trial.device, *trial.peers)}
    with lock_devices(home.leases, sorted(devices)) as tokens:
        bench = _bench(resolved, home, store, todo, tokens)
        book = _Book(store, home, todo, resolved.devices)
        results = make_scheduler(scheduler, bench, ray_address).run(todo, book.first_attempts)
        for result in _closed(results):
            watch(book.enter(result))
    return store.states(trial.id for trial in todo)


def _closed(results: Iterator[TrialResult]) -> Iterator[TrialResult]:
    """The scheduler's results; whatever ends the loop also ends the scheduler, at once."""
    with closing(results):                      # type: ignore[type-var]  # a generator, typed as its interface
        yield from results


def _bench(resolved: Resolved, home: Home, store: Store, todo: Sequence[Trial], tokens: Mapping[str, int]) -> Bench:
    every = {**{one.bundle.id: one for one in resolved.bundles.values()}, **resolved.derived}
    engine = resolved.campaign.trial.engine     # rates and deadlines refer to it, whatever a method's own may be
    knobs = canonical_json(resolved.campaign.knobs(engine))
    reference = {name: (*costed_as(engine, runtime), knobs) for (name, of), runtime in resolved.runtimes.items()
                 if of == engine and runtime != NO_RUNTIME}
    keys = {(trial.device, trial.bundle, *costed_as(trial.engine, trial.runtime), canonical_json(trial.knobs))
            for trial in todo}
    keys |= {(trial.device, every[trial.bundle].bundle.training.get("parent") or trial.bundle,
              *reference[trial.device]) for trial in todo if trial.device in reference}
    costs = {key: costs for key in sorted(keys) if (costs := store.costs(*key))}
    ids = {trial.id for trial in todo}
    kept = frozenset(name for name in kept_by(store) if name[0] in ids)
    return Bench(str(home.path), resolved.fleet, {name: str(one.path) for name, one in every.items()},
                 costs, dict(tokens), resolved.campaign.preflight, resolved.campaign.plugin_dirs,
                 reference=reference, kept=kept)


class _Book:
    """Enters results of one run. Knows which attempts were left open by a controller that died."""

    def __init__(self, store: Store, home: Home, todo: Sequence[Trial], devices: Sequence[DeviceSpec]) -> None:
        self._store, self._home = store, home
        self._devices = {one.name: one for one in devices}
        self._trials = {trial.id: trial for trial in todo}
        self._open = {row["trial"]: row["number"] for row in store.read("attempt", state="running")}
        self.first_attempts = {trial.id: store.next_attempt_number(trial.id) for trial in todo}

    def enter(self, result: TrialResult) -> TrialResult:
        """Store one result; returns it as stored (a journal that cannot be read makes a failure of a success)."""
        trial = self._trials[result.trial_id]
        if result.facts is not None:
            one = self._devices[result.device]
            self._store.save_device(one.name, one.transport, one.device_class, one.slowdown, one.provenance,
                                    result.facts)
        for key, costs in result.costs.items():
            self._store.save_costs(*key, costs)
        if result.state == "running":
            self._begin(result)
        elif result.state == "skipped" and trial.id not in self._open:      # it never began: no attempt
            self._store.skip(trial.id, result.message, result.error, result.blame)
        elif result.attempt == 0:
            self._store.set_trial_state(trial.id, "pending", result.error, result.blame, result.message)
        else:
            result = self._end(result)
        return result

    def _begin(self, result: TrialResult) -> None:
        left_open = self._open.get(result.trial_id)
        if left_open not in (None, result.attempt):
            why = ("AgentCrashed", "device", "the controller died, and the device does not know this attempt")
            if result.state != "running":
                why = (result.error, result.blame, "the controller died, and the device was not asked for this "
                       f"attempt: {result.message}")
            self._store.finish_attempt(result.trial_id, left_open, "failed", *why, None, result.at_s)
        self._store.begin_attempt(result.trial_id, result.attempt, result.token, result.period_ms, result.deadline_ms,
                                  result.at_s)
        self._open[result.trial_id] = result.attempt

    def _end(self, result: TrialResult) -> TrialResult:
        if self._open.get(result.trial_id) != result.attempt:       # it failed before it began: unreachable, say
            self._begin(result)
        journal = self._keep(result)
        if journal is not None:
            got = ingest_journal(self._store, journal, result.trial_id, result.attempt)
            if result.state == "done" and got.state != "done":
                why = "; ".join(got.problems[:3]) or "its last line is missing"
                result = result._replace(state="failed", error="AgentCrashed", blame="device",
                                         message=f"{result.device}: the journal is not whole: {why}")
            derive_trial(self._store, result.trial_id)          # before the state says done: a kill leaves no gap
        self._finish(result, result.state if result.final else "pending", journal)
        return result

    def _finish(self, result: TrialResult, trial_state: str, journal: Path | None = None) -> None:
        self._store.finish_attempt(result.trial_id, result.attempt, "done" if result.state == "done" else "failed",
                                   result.error, result.blame, result.message, journal.name if journal else None,
                                   result.at_s or time.time(), trial_state=trial_state)
        self._open.pop(result.trial_id, None)

    def _keep(self, result: TrialResult) -> Path | None:
        """The journal as a file, before anything is made of it."""
        if not result.journal:
            return None
        path = self._home.journals / f"{result.trial_id}.{result.attempt}.jsonl.gz"
        part = path.with_name(path.name + ".part")
        try:
            part.write_bytes(result.journal)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path
