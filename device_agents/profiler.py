"""Branch -> Cost on this very device, idle: latency in interleaved rounds, load time, peak memory, measured energy.

The verb `profile`: an Order with extra["profile"] = {"rounds": n, "warmup": n} names bundle, engine, knobs, slowdown.
Branches take turns inside each round, so that a drift of the device's speed hits them all alike. Peak memory is that of
a process of its own that has loaded one branch. Takes the device's lock: no trial runs at the same time. Engine and
energy source may be the user's, as in a trial. It refuses (UserError) what is no engine, and plug-ins that raise or
give no readings.
"""
import json
import os
from typing import Any, Dict, List, Optional

from device_agents import claim, memory, registry, trial_folder
from device_agents.clock import BootClock
from device_agents.ending import kind_of
from device_agents.sampler import measurements_of, open_energy
from device_agents.seams import Clock, EnergySource, Engine, UserError
from device_agents.slowdown import slowed
from device_agents.trial_folder import BadOrder, read_bundle
from device_agents.wire import BranchBundle, Cost, Order, order_from_json

_ROUNDS, _WARMUP = 30, 3
_PEAK_RUNS = 3


def profile(home: str, text: str) -> List[Dict[str, Any]]:
    """`text` = the order as JSON. One Cost a branch, as dicts. Raises BadOrder, Busy, Unsupported, UserError."""
    try:
        order = order_from_json(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise BadOrder("not an order: %s" % error)
    home = trial_folder.prepare(home)
    store = os.path.join(home, "store")
    trial_folder.check_store(store, order)
    bundle = read_bundle(store, order.trial.bundle)
    with claim.device_lock(home, "profile"), trial_folder.staged_plugins(home, order.plugins) as plugin_dirs:
        try:
            return [dict(cost._asdict()) for cost in _measure(store, order, bundle, plugin_dirs)]
        except Exception as error:
            if isinstance(error, UserError) or kind_of(error) != "user":
                raise
            raise UserError("%s: %s" % (type(error).__name__, error))


def _measure(store: str, order: Order, bundle: BranchBundle, plugin_dirs: List[str]) -> List[Cost]:
    trial, clock = order.trial, BootClock()
    rounds, warmup = _counts(order)
    engine_class = registry.load("device_agents.engines", trial.engine, Engine, plugin_dirs)
    engine_class.runtime()
    peaks_mb = {branch.id: _peak_mb(engine_class, bundle, store, order, branch.id) for branch in bundle.branches}
    engine = slowed(engine_class(), trial.engine, trial.slowdown, clock)
    _open(engine, bundle, store, order, clock)
    load_ms = {branch.id: _timed_load(engine, branch.id, trial.knobs, clock) for branch in bundle.branches}
    latencies_ms: Dict[str, List[float]] = {branch.id: [] for branch in bundle.branches}
    for number in range(warmup + rounds):
        for branch in bundle.branches:
            begun_ns = clock.now_ns()
            engine.infer(branch.id, number % bundle.count)
            if number >= warmup:
                latencies_ms[branch.id].append((clock.now_ns() - begun_ns) / 1e6)
    counter = _joule_counter(order, plugin_dirs)
    return [Cost(name, trial.engine, _quantile(values, 0.5), _quantile(values, 0.95), load_ms[name], peaks_mb[name],
                 _energy_mj(counter, engine, name, bundle, rounds, clock), "profile", order.provenance)
            for name, values in latencies_ms.items()]


def _counts(order: Order) -> "tuple[int, int]":
    asked = order.extra.get("profile") or {}
    rounds, warmup = asked.get("rounds", _ROUNDS), asked.get("warmup", _WARMUP)
    if not (isinstance(rounds, int) and isinstance(warmup, int) and rounds >= 1 and warmup >= 0):
        raise BadOrder("extra.profile needs rounds >= 1 and warmup >= 0, is %r" % (asked,))
    return rounds, warmup


def _open(engine: Engine, bundle: BranchBundle, store: str, order: Order, clock: Clock) -> None:
    engine.open(bundle, store, dict(order.extra, seed=order.trial.seed, clock=clock,
                                    costs={cost.branch: cost for cost in order.costs}))


def _timed_load(engine: Engine, branch: str, knobs: Dict[str, Any], clock: Clock) -> float:
    begun_ns = clock.now_ns()
    engine.load(branch, knobs)
    return (clock.now_ns() - begun_ns) / 1e6


def _peak_mb(engine_class: Any, bundle: BranchBundle, store: str, order: Order, branch: str) -> Optional[float]:
    """Peak memory of a fork that loads and runs this branch alone. Forked before this process has loaded any."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            memory.reset_peak()
            engine = engine_class()
            _open(engine, bundle, store, order, BootClock())
            engine.load(branch, order.trial.knobs)
            for sample in range(_PEAK_RUNS):
                engine.infer(branch, sample % bundle.count)
            os.write(writer, repr(memory.peak_rss_mb()).encode("ascii"))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    os.waitpid(child, 0)
    return float(answer) if answer not in (b"", b"None") else None


def _joule_counter(order: Order, plugin_dirs: List[str]) -> Optional[EnergySource]:
    """A measured source with a counter of joules; modelled joules are no property of a branch."""
    for source in open_energy("", order.power_model, plugin_dirs).values():
        if source.provenance == "measured" and _joules(source, 0) is not None:
            return source
    return None


def _joules(source: EnergySource, t_ns: int) -> Optional[float]:
    answer = source.read("", t_ns)
    try:
        return next((reading.value for reading in measurements_of(answer) if reading.metric == "energy_j"), None)
    except TypeError as error:
        raise UserError("energy source %s: %s" % (type(source).__name__, error))


def _energy_mj(source: Optional[EnergySource], engine: Engine, branch: str, bundle: BranchBundle, rounds: int,
               clock: Clock) -> Optional[float]:
    """Of one inference, everything that the source sees included, the idle device too."""
    if source is None:
        return None
    before_j = _joules(source, clock.now_ns())
    for number in range(rounds):
        engine.infer(branch, number % bundle.count)
    after_j = _joules(source, clock.now_ns())
    return None if before_j is None or after_j is None else (after_j - before_j) * 1e3 / rounds


def _quantile(values: List[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
