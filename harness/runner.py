"""One trial on one device: `run_trial`, six numbered steps from top to bottom, no callbacks into it.

A `Runner` lives at a site and is called by the scheduler, one thread a device. It keeps what it learns of a device in
this run (facts, costs, what the device still holds); it never sees the database. Before it starts anything it asks the
device for the trial's id, because the controller or the link may have died while the agent went on. Whatever goes wrong
between a trial's begin and its journal makes it ask again, and no folder goes whose journal did not come.
"""
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from device_agents.wire import BranchBundle, Cost, Order, Trial, canonical_json, costed_as, provenance_of
from harness.collected import Collected
from harness.config import PreflightSpec
from harness.device import Device, Held, Waited, held_trials, open_probed, plugin_files
from harness.errors import DeviceUnreachable, DeviceUnsupported, EdgefleetError
from harness.fleet import DeviceSpec, FleetSpec
from harness.home import Home
from harness.journal_end import failure, overdue
from harness.leases import Windows
from harness.peers import Peers
from harness.preflight import limits
from harness.preparation import learned_path
from harness.seams import CostKey, Report, TrialResult
from workloads.bundle import BundleFolder, open_bundle

SETUP_S = 90.0                                  # import the runtime, load the branches, on the slowest board
STOPPED_S = 5.0                                 # until a trial that was stopped has let go of its lock
PROFILE_ROUNDS, PROFILE_WARMUP = 20, 3
PROFILE_S = 600.0


class Bench(NamedTuple):
    """All that a site must know to run a campaign's trials. Plain data: it travels to the site's process."""

    home: str
    fleet: FleetSpec
    bundles: dict[str, str]                     # id -> folder
    costs: dict[CostKey, tuple[Cost, ...]]      # what the store has
    tokens: dict[str, int]
    preflight: PreflightSpec
    plugin_dirs: tuple[str, ...]
    reference: dict[str, tuple[str, str, str]] = {}     # noqa: RUF012  device -> the campaign's engine, runtime, knobs
    kept: frozenset[tuple[str, int]] = frozenset()      # trial, attempt: the store has the journal


class _Session:
    """What is known of one device in this run."""

    def __init__(self, device: Device, facts: dict[str, Any], collected: Collected) -> None:
        self.device, self.facts = device, facts
        self.held: dict[str, Held] = held_trials(facts, collected)
        self.pushed: set[str] = set()


class Runner:
    """Runs trials of one `Bench`. Safe for one thread per device."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._home = bench, Home(Path(bench.home))
        self._windows = Windows(bench.fleet.groups)
        self._peers = Peers(bench.fleet, self._home, bench.tokens)
        self._sessions: dict[str, _Session] = {}
        self._collected = {name: Collected(bench.kept) for name in bench.fleet.devices}
        self._busy: set[str] = set()            # devices whose thread is in a trial
        self._costs = dict(bench.costs)
        self._bundles: dict[str, BundleFolder] = {}
        self._plugins = plugin_files(bench.plugin_dirs)

    def run_trial(self, trial: Trial, attempt: int, report: Report) -> TrialResult:
        """One attempt. Returns the `done` result; raises EdgefleetError with `journal` set when one was collected."""
        self._busy.add(trial.device)
        try:
            return self._run_trial(trial, attempt, report)
        finally:
            self._busy.discard(trial.device)

    def _run_trial(self, trial: Trial, attempt: int, report: Report) -> TrialResult:
        spec = self._bench.fleet.devices[trial.device]
        # 1. the device: reached, the right runtime, and not already busy with this very trial
        session, facts = self._session(spec, trial)
        device, held = session.device, session.held.get(trial.id)
        attempt = held.attempt if held else attempt
        # 2. what it lacks: bundle, plug-ins, costs
        folder = self._push(session, trial)
        costs, profiled = self._cost(session, trial, folder.bundle)
        order = self._order(trial, attempt, folder.bundle, costs, session)
        report(TrialResult(trial.id, trial.device, attempt, "running", False, at_s=time.time(), token=order.token,
                           period_ms=order.period_ms, deadline_ms=order.deadline_ms, facts=facts, costs=profiled))
        with (self._asked_again(trial.device), self._windows.measured(spec, *self._peers.specs(order)),
              self._peers.serving(order, folder.files, _due_s(trial), begun=held is not None) as order):
            # 3. start, unless the device has it already
            if held is None:
                with self._collected[trial.device].leaving() as gone:
                    device.start(order, gone)
            # 4. wait in silence, 5. collect
            state, journal_gz = self._wait(device, trial, attempt)
        session.held.pop(trial.id, None)
        # 6. the result
        if state != "done":
            error = failure(state, journal_gz, f"{trial.device}: trial {trial.id}, attempt {attempt}")
            error.journal = journal_gz
            raise error
        return TrialResult(trial.id, trial.device, attempt, "done", True, journal=journal_gz, at_s=time.time())

    def profiled(self, trial: Trial) -> tuple[Cost, ...]:
        """Idle costs of the trial's branches on its device, measured now if need be: what preparations start from."""
        session, _ = self._session(self._bench.fleet.devices[trial.device], trial)
        return self._cost(session, trial, self._push(session, trial).bundle)[0]

    def collected(self, device: str, trial_id: str, attempt: int) -> bool:
        """Its journal came back; there is none, if it is empty."""
        return (trial_id, attempt) in self._collected[device]

    def stored(self, device: str, trial_id: str, attempt: int) -> None:
        """The driver has stored what was collected of this attempt: the device need not keep it."""
        self._collected[device].stored((trial_id, attempt))

    def close(self) -> None:
        """Leave devices as found: no trial folders, no connections. One that is gone, or busy, keeps its folders."""
        sessions = list(self._sessions.values())
        with ThreadPoolExecutor(max_workers=max(1, len(sessions))) as pool:     # a dead one must not cost the others
            list(pool.map(self._leave, sessions))
        self._peers.close()

    def _leave(self, session: _Session) -> None:
        name = session.device.spec.name
        if name not in self._busy:
            with suppress(EdgefleetError), self._collected[name].leaving() as gone:
                if gone:
                    session.device.clean(gone)
        session.device.close()

    @contextmanager
    def _asked_again(self, device: str) -> Iterator[None]:
        """What has become of a trial that began and whose journal did not come, only the device knows: after an error
        in the block it is connected to and probed anew."""
        try:
            yield
        except EdgefleetError as error:
            if not error.peer:
                self._sessions.pop(device).device.close()
            raise

    def _session(self, spec: DeviceSpec, trial: Trial) -> tuple[_Session, dict[str, Any] | None]:
        """The device's session, and its facts when it was probed just now."""
        fresh = spec.name not in self._sessions
        if fresh:
            with self._peers.pushing(spec.name):
                device, facts = open_probed(spec, self._home, self._plugins)
            self._sessions[spec.name] = _Session(device, facts, self._collected[spec.name])
        session = self._sessions[spec.name]
        engine = session.facts["engines"].get(trial.engine, {})
        if engine.get("runtime") is None:
            raise DeviceUnsupported(f"{spec.name}: {engine.get('reason') or 'no runtime for ' + trial.engine}")
        if engine["runtime"] != trial.runtime:
            raise DeviceUnsupported(
                f"{spec.name}: has {engine['runtime']} now, but this trial was planned for {trial.runtime}. Run "
                "the same command again: it asks every device afresh.")
        return session, (session.facts if fresh else None)

    def _push(self, session: _Session, trial: Trial) -> BundleFolder:
        if trial.bundle not in self._bundles:
            self._bundles[trial.bundle] = open_bundle(Path(self._bench.bundles[trial.bundle]))
        folder = self._bundles[trial.bundle]
        if trial.bundle not in session.pushed:
            with self._peers.pushing(trial.device):
                session.device.push({**folder.files, **{digest: path for _, (digest, path) in self._plugins.items()}})
            session.pushed.add(trial.bundle)
        if trial.learned is not None and trial.learned not in session.pushed:
            session.device.push({trial.learned: learned_path(self._home.path, trial.learned)})
            session.pushed.add(trial.learned)
        return folder

    def _cost(self, session: _Session, trial: Trial,
              bundle: BranchBundle) -> tuple[tuple[Cost, ...], dict[CostKey, tuple[Cost, ...]]]:
        """The costs of the trial's branches on its device, and all that was profiled just now: what rates and deadlines
        refer to is, where that is another engine on the same bundle. A parent was profiled before it had a child."""
        own = (trial.device, trial.bundle, *costed_as(trial.engine, trial.runtime), canonical_json(trial.knobs))
        missing = [key for key in dict.fromkeys((own, self._reference(trial, bundle)))
                   if key not in self._costs and key[1] == trial.bundle]
        found: dict[CostKey, tuple[Cost, ...]] = {}     # all are kept or none, or a retry would not tell of the first
        for key in missing:
            local = trial._replace(engine=key[2], runtime=key[3], knobs=json.loads(key[4]), peers=(), link={})
            order = self._order(local, 0, bundle, (), session)._replace(
                extra={"profile": {"rounds": PROFILE_ROUNDS, "warmup": PROFILE_WARMUP}})
            with self._windows.measured(session.device.spec):
                found[key] = session.device.profile(order, PROFILE_S)
        self._costs.update(found)
        return self._costs[own], found

    def _order(self, trial: Trial, attempt: int, bundle: BranchBundle, costs: tuple[Cost, ...],
               session: _Session) -> Order:
        spec = session.device.spec
        full_ms = full_latency_ms(bundle, self._costs.get(self._reference(trial, bundle)) or costs)
        return Order(
            trial=trial, attempt=attempt, token=self._bench.tokens[trial.device],
            period_ms=period_ms(trial.arrival, full_ms), deadline_ms=deadline_ms(trial.deadline, full_ms), costs=costs,
            preflight=limits(self._bench.preflight, session.facts), provenance=provenance_of(trial, spec.provenance),
            power_model=spec.power_model, plugins={name: digest for name, (digest, _) in self._plugins.items()},
            extra={"replay": dict(spec.simulate)} if spec.simulate else {})

    def _reference(self, trial: Trial, bundle: BranchBundle) -> CostKey:
        """The costs that rates and deadlines refer to, the same for all rows of a cell: those of the campaign's engine,
        on the bundle that this one was derived from, if it was."""
        own = (*costed_as(trial.engine, trial.runtime), canonical_json(trial.knobs))
        parent = bundle.training.get("parent") or trial.bundle
        return trial.device, parent, *self._bench.reference.get(trial.device, own)

    def _wait(self, device: Device, trial: Trial, attempt: int) -> Waited:
        """Silent until the trial ends. A channel that dies is no failed trial: it is asked again when it is due."""
        due_s = time.monotonic() + _due_s(trial)
        try:
            ended = self._ended(device, trial, attempt, due_s - time.monotonic())
        except DeviceUnreachable:
            time.sleep(max(0.0, due_s - SETUP_S - time.monotonic()))
            ended = self._ended(device, trial, attempt, SETUP_S)
        if ended.state == "running":
            device.stop(trial.id, attempt)
            journal = self._ended(device, trial, attempt, STOPPED_S).journal_gz
            late = overdue(journal, f"{trial.device}: trial {trial.id} was not done {SETUP_S:.0f} s after its time")
            late.journal = journal
            raise late
        return ended

    def _ended(self, device: Device, trial: Trial, attempt: int, deadline_s: float) -> Waited:
        """How it ended, its journal with it, or that it runs still."""
        ended = device.wait(trial.id, attempt, deadline_s)
        if ended.state != "running":
            self._collected[trial.device].add((trial.id, attempt))
        return ended


def _due_s(trial: Trial) -> float:
    """How long after its start a trial is overdue."""
    return SETUP_S + trial.warmup_s + trial.duration_s * (2 if trial.late == "serve" else 1)


def full_latency_ms(bundle: BranchBundle, costs: tuple[Cost, ...]) -> float | None:
    """Idle median of the branch with most MACs; None before it is known."""
    full = max(bundle.branches, key=lambda branch: branch.macs).id
    return next((cost.latency_ms for cost in costs if cost.branch == full), None)


def period_ms(arrival: Mapping[str, Any], full_ms: float | None) -> float | None:
    """Mean time between arrivals on a device whose full branch takes `full_ms`; None for a closed loop."""
    rate = arrival.get("rate")
    if rate is None:
        return None
    if "hz" in rate:
        return float(1000.0 / rate["hz"])
    return None if full_ms is None else float(full_ms / rate["utilisation"])


def deadline_ms(deadline: Mapping[str, Any], full_ms: float | None) -> float | None:
    """The deadline as asked, on a device whose full branch takes `full_ms`; None when none is asked."""
    if "ms" in deadline:
        return float(deadline["ms"])
    if "x_full" not in deadline or full_ms is None:
        return None
    return float(deadline["x_full"] * full_ms)
