"""Prepares what depends on a device before its trials can be named: costs, tuning, offline halves, training chains.

Called by cli/run.py between building and running. Every row of the campaign that asks for it gets one Preparation for
each device and bundle, written whole and reused by content, so a killed run goes on where it stopped; trials of a
training chain are real trials of their own campaign "NAME/learning". Refuses to look at the evaluation: it is handed
tuning traces, whose seeds are other ones, and validation data. A trace that no seed changes is told in the log.
"""
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from db.store import Store
from device_agents.seams import UserError
from device_agents.wire import Cost, Trial, canonical_json, costed_as
from harness.campaign import derive_seed, trial_id, trial_of
from harness.device import plugin_files
from harness.driver import run_trials
from harness.errors import AgentFailed, DeviceError, DeviceUnreachable, DeviceUnsupported, TrialError
from harness.fleet import NO_RUNTIME, DeviceSpec
from harness.home import Home
from harness.leases import lock_devices
from harness.preparation import Preparation, learned_in, method_of, write_learned, write_preparation
from harness.resolve import Resolved, Waiting
from harness.roll_call import ask_devices, runtime_of
from harness.runner import PROFILE_ROUNDS, PROFILE_WARMUP, Bench, Runner, deadline_ms, full_latency_ms, period_ms
from harness.tuning import Draw, Lesson, Twin, best_of, search
from harness.tuning_traces import lesson_trace, mean_load_pct, tuning_traces, unseeded
from workloads.bundle import BundleFolder
from workloads.seams import DeviceCase, Method, Prepared, Progress, Report

MOST_TUNED_ARRIVALS_S = 60.0                    # of virtual time, however slow the device
PEAK_RUNS, LOADS = 3, 2                         # of a branch in a profile: runs for its memory; loads for both


class _Row(NamedTuple):
    """One preparation in the making."""

    waiting: Waiting
    device: DeviceSpec
    parent: BundleFolder
    method: Method
    costs: dict[str, Cost]
    peers: dict[str, tuple[Cost, ...]]          # what the branches cost there; where there is something to be tuned
    prototype: Trial


class Unprepared(NamedTuple):
    """A row that the plan goes on waiting for, and why."""

    label: str
    device: str
    reason: str


def prepare_missing(resolved: Resolved, home: Home, store: Store,
                    report: Callable[[str], "Any"]) -> tuple[list[Preparation], list[Unprepared]]:
    """Make and keep every preparation that the plan waits for. `report(name)` is a context that shows progress.

    A device that does not answer, or a trial that fails on it, costs its own row and no other. Raises UserError,
    ConfigError, StoreError.
    """
    made: list[Preparation] = []
    unprepared: list[Unprepared] = []
    campaign = resolved.campaign
    devices = sorted({name for one in resolved.waiting for name in (one.device, *campaign.method(one.label).peers)})
    for one in resolved.waiting:
        if one.device in resolved.silent:
            unprepared.append(Unprepared(one.label, one.device, resolved.silent[one.device]))
            continue
        try:
            with report(f"prepare {one.label} for {one.device}, {one.key[0]}/{one.key[1]} seed {one.key[2]}") as show:
                row = _opened(resolved, home, store, one, devices)
                done = _prepare(resolved, home, store, row, show)
        except (DeviceError, TrialError) as error:
            unprepared.append(Unprepared(one.label, one.device, str(error)))
            continue
        write_preparation(one.file, done)
        made.append(done)
    return made, unprepared


def _opened(resolved: Resolved, home: Home, store: Store, one: Waiting, devices: Sequence[str]) -> _Row:
    """The row with its device's costs, which are profiled where the store has none."""
    device, parent = resolved.fleet.devices[one.device], resolved.bundles[one.key]
    campaign = resolved.campaign
    trace = tuning_traces(campaign, 1.0)[0]
    prototype = trial_of(campaign, resolved.fleet, one.device, one.label, parent, one.runtime, trace, 0, 0)
    engine = campaign.trial.engine              # a method's own engine, remote for one, changes no cost of the branches
    runtime = resolved.runtimes[one.device, engine]
    local = prototype._replace(engine=engine, runtime=runtime, knobs=campaign.knobs(engine), peers=())
    costs = _costs(resolved, home, store, local, devices)
    method = method_of(campaign.method(one.label).adapter, campaign.plugin_dirs)
    assert method is not None, one.label        # or else nothing would wait for it
    tuned = bool(campaign.tuning and method.space)
    peers = {name: _costs(resolved, home, store, _at_peer(resolved, home, store, prototype, name), devices)
             for name in (prototype.peers if tuned else ())}
    return _Row(one, device, parent, method, {cost.branch: cost for cost in costs}, peers, prototype)


def _costs(resolved: Resolved, home: Home, store: Store, trial: Trial, devices: Sequence[str],
           derived: Sequence[BundleFolder] = ()) -> tuple[Cost, ...]:
    """Idle costs of the trial's branches on its device, which is profiled where the store has none."""
    key = trial.device, trial.bundle, *costed_as(trial.engine, trial.runtime), canonical_json(trial.knobs)
    costs = store.costs(*key)
    if not costs:
        with _runner(resolved, home, devices, derived) as runner:
            costs = runner.profiled(trial)
        store.save_costs(*key, costs)
    return costs


def _at_peer(resolved: Resolved, home: Home, store: Store, trial: Trial, name: str) -> Trial:
    """The trial as if it were the peer's own: what it serves with. Raises DeviceUnreachable, DeviceUnsupported."""
    spec, engine = resolved.fleet.devices[name], costed_as(trial.engine, trial.runtime)[0]
    answers, silent = ask_devices([spec], [engine], home)
    if name in silent:
        raise DeviceUnreachable(f"{name}, peer of {trial.device}: {silent[name]}")
    store.save_device(spec.name, spec.transport, spec.device_class, spec.slowdown, spec.provenance, answers[name])
    runtime = runtime_of(answers[name], engine)
    if runtime in (None, NO_RUNTIME):
        raise DeviceUnsupported(f"{name}, peer of {trial.device}: no runtime for {engine}")
    return trial._replace(device=name, slowdown=spec.slowdown, engine=engine, runtime=str(runtime), knobs={}, peers=(),
                          link={})


def _prepare(resolved: Resolved, home: Home, store: Store, row: _Row, show: Report) -> Preparation:
    """Offline half, then tuning, then the training chain; each starts from what the one before gave."""
    campaign, spec = resolved.campaign, resolved.campaign.method(row.waiting.label)
    offline = Prepared()
    if row.method.per_device:
        offline = row.method.prepare(_case(resolved, home, row), show)
    settings, log = dict(offline.settings), list(offline.log)
    if seen := unseeded(campaign):
        log.append(f"the same for every seed, so the evaluation's own were there to be seen: {', '.join(seen)}")
    device_s = profile_s(_all_costs(resolved, home, store, row, offline))
    budget = {**offline.budget, "device_s": device_s + offline.budget.get("device_s", 0.0)}
    drawn: tuple[dict[str, Any], ...] = ()
    if campaign.tuning and row.method.space and (why := _untunable(row, offline)):
        log.append(f"not tuned: {why}")
    elif campaign.tuning and row.method.space:
        began = time.monotonic()
        space = {name: span for name, span in row.method.space.items() if name not in spec.settings}
        found = _tune(resolved, home, row, settings, space, show)
        best = best_of(found)
        settings.update(best.settings)
        drawn = tuple(draw._asdict() for draw in found)
        budget["search_s"] = budget.get("search_s", 0.0) + time.monotonic() - began
        log.append(f"tuned on a simulated twin: {len(found)} configurations, on-time accuracy {found[0].score:.2f} % "
                   f"by default, {best.score:.2f} % with {best.settings or 'the defaults'}")
        if row.peers:
            log.append(f"the twin's peers ({', '.join(row.peers)}) are idle, and its link is as the campaign asks; "
                       "what is not asked of the link takes no time there")
    learned = None if offline.learned is None else write_learned(home.path, offline.learned)
    trials = _chain_length(resolved, row.method)
    if trials:
        learned, spent_s = _learn(resolved, home, store, row, settings, learned, trials, show)
        budget["device_s"] += spent_s
        settings["learn"] = False               # evaluation starts from what was learned, and changes it no more
        log.append(f"learned from {trials} training trials, {spent_s:.1f} s on the device")
    bundle = offline.bundle.bundle.id if offline.bundle else row.parent.bundle.id
    return Preparation(row.waiting.label, spec.adapter, row.device.name, row.parent.bundle.id, bundle, settings,
                       learned, {name: round(value, 3) for name, value in budget.items()}, drawn, tuple(log))


def _untunable(row: _Row, offline: Prepared) -> str:
    """Why a simulated twin cannot say which settings are better; '' when it can."""
    here = {branch.id for branch in row.parent.bundle.branches}
    if offline.bundle and not here >= {branch.id for branch in offline.bundle.bundle.branches}:
        return "its choices are made offline, before the network that it runs exists"
    return ""


def _case(resolved: Resolved, home: Home, row: _Row) -> DeviceCase:
    campaign = resolved.campaign
    loaded_pct = mean_load_pct(tuning_traces(campaign, campaign.trial.duration_s), campaign.trial.duration_s)
    full_ms = full_latency_ms(row.parent.bundle, tuple(row.costs.values()))
    return DeviceCase(home.path, row.parent, row.device.name, row.costs,
                      deadline_ms(row.prototype.deadline, full_ms), loaded_pct,
                      campaign.method(row.waiting.label).settings, derive_seed(campaign.seed, "prepare"),
                      campaign.plugin_dirs)


def _tune(resolved: Resolved, home: Home, row: _Row, settings: Mapping[str, Any], space: Mapping[str, Any],
          show: Report) -> list[Draw]:
    campaign, bundle, costs = resolved.campaign, row.parent.bundle, tuple(row.costs.values())
    assert campaign.tuning is not None
    full_ms, count = full_latency_ms(bundle, costs), campaign.tuning.configurations
    period, deadline = period_ms(row.prototype.arrival, full_ms), deadline_ms(row.prototype.deadline, full_ms)
    duration_s = min(MOST_TUNED_ARRIVALS_S, campaign.tuning.arrivals * (period or full_ms or 1.0) / 1e3)
    traces = tuning_traces(campaign, duration_s)
    lesson_s = min(duration_s, campaign.trial.duration_s)       # as long as the real ones, where the budget allows
    lessons = [Lesson(lesson_trace(campaign, lesson_s, number), lesson_s,
                      derive_seed(campaign.seed, f"tuning/lesson/{number}"))
               for number in range(_chain_length(resolved, row.method))]
    twin, done = Twin(home, row.device, row.parent, row.costs, plugin_files(campaign.plugin_dirs), row.peers), 0

    def score(drawn: dict[str, Any]) -> float:
        nonlocal done
        trial = row.prototype._replace(
            settings={**row.prototype.settings, **settings, **drawn}, duration_s=duration_s, warmup_s=0.0,
            sample_hz=max(campaign.trial.sample_hz, 50.0 / duration_s), seed=derive_seed(campaign.seed, "tuning/trial"))
        value = twin.score(trial, lessons, traces, period, deadline)
        done += 1
        show(Progress("tune", done, count, 0.0, None))
        return value

    try:
        return search(space, count, derive_seed(campaign.seed, f"tuning/{row.waiting.label}"), score)
    finally:
        twin.close()


def _learn(resolved: Resolved, home: Home, store: Store, row: _Row, settings: Mapping[str, Any], learned: str | None,
           count: int, show: Report) -> tuple[str | None, float]:
    """The chain: each trial starts from what the one before learned. (artifact, seconds on the device)."""
    campaign = resolved.campaign
    chain = f"{campaign.name}/learning"
    store.save_campaign(chain, campaign.model_dump(mode="json", exclude_none=True), {})
    spent_s = 0.0
    for number in range(count):
        seed = derive_seed(campaign.seed, f"learning/{number}")
        trial = row.prototype._replace(
            campaign=chain, label=f"{row.waiting.label} (training)", learned=learned, seed=seed, repeat=number,
            block=number, trace=lesson_trace(campaign, campaign.trial.duration_s, number),
            settings={**row.prototype.settings, **settings, "learn": True})
        trial = trial._replace(id=trial_id(trial))
        store.save_bundle(row.parent.bundle)
        store.add_trials([trial], {row.device.name: row.device.provenance})
        ended = store.states([trial.id])
        if ended[trial.id] != "done":           # or else a run that was killed had come so far
            ended = run_trials([trial], resolved, home, store, "inline", lambda _: None)
        if ended[trial.id] != "done":
            found = store.trials(ids=[trial.id])[0]
            raise AgentFailed(f"{row.device.name}: training trial {number + 1} of {count} for {row.waiting.label} "
                              f"ended as {found['state']}: {found['reason']}", blame=found["blame"] or "harness")
        learned = _learned_of(home, store, trial)
        spent_s += trial.duration_s + trial.warmup_s
        show(Progress("learn", number + 1, count, 0.0, None))
    return learned, spent_s


def _learned_of(home: Home, store: Store, trial: Trial) -> str:
    """Take the artifact out of the trial's journal into the home. AgentFailed: none in it; UserError: no journal."""
    last = [row for row in store.read("attempt", trial=trial.id) if row["state"] == "done"][-1]
    path = home.journals / last["journal"]
    if not path.is_file():
        raise UserError(f"{path} is gone, and with it what a training trial learned; bring it back, or use a new home")
    return write_learned(home.path, learned_in(path.read_bytes(), trial))


def _chain_length(resolved: Resolved, method: Method) -> int:
    tuning = resolved.campaign.tuning
    asked = tuning.training_trials if tuning else None
    return 0 if not method.training_trials else asked or method.training_trials


def _all_costs(resolved: Resolved, home: Home, store: Store, row: _Row, offline: Prepared) -> list[Cost]:
    """All that is profiled for the row: the parent here and at its peers, and what was derived, now, to be billed."""
    costs = [*row.costs.values(), *(cost for found in row.peers.values() for cost in found)]
    if offline.bundle:
        engine, runtime = costed_as(row.prototype.engine, row.prototype.runtime)
        trial = row.prototype._replace(bundle=offline.bundle.bundle.id, engine=engine, runtime=runtime, peers=(),
                                       link={})
        store.save_bundle(offline.bundle.bundle)
        costs += _costs(resolved, home, store, trial, [row.device.name], [offline.bundle])
    return costs


def profile_s(costs: Iterable[Cost]) -> float:
    """What profiling took on the devices, estimated from what it found; nothing where costs were stated."""
    spent_ms = 0.0
    for cost in costs:
        if cost.source == "profile":
            joules = PROFILE_ROUNDS if cost.energy_mj is not None else 0        # rounds of their own
            spent_ms += (PROFILE_WARMUP + PROFILE_ROUNDS + PEAK_RUNS + joules) * cost.latency_ms
            spent_ms += LOADS * (cost.load_ms or 0.0)
    return spent_ms / 1e3


@contextmanager
def _runner(resolved: Resolved, home: Home, devices: Sequence[str],
            derived: Sequence[BundleFolder]) -> Iterator[Runner]:
    with lock_devices(home.leases, devices) as tokens:
        bundles = {one.bundle.id: str(one.path) for one in (*resolved.bundles.values(), *derived)}
        runner = Runner(Bench(str(home.path), resolved.fleet, bundles, {}, tokens, resolved.campaign.preflight,
                              resolved.campaign.plugin_dirs))
        try:
            yield runner
        finally:
            runner.close()


