"""Campaign x fleet -> trials: pure, seeded, interleaved in blocks. A trial's id is the hash of what defines it.

Called by resolve.py. Given the same files, bundles and runtimes it returns the same plan, so "what is missing" is a
set difference of ids and resume is the default. What cannot be named yet (bundle not built, device never reached) is
listed with the reason, and so is what the campaign excludes: nothing is dropped in silence.
"""
import fnmatch
import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from device_agents import registry
from device_agents.wire import SLOWDOWN, LoadTrace, Trial, sha256_of
from harness.config import CampaignSpec, ExcludeSpec
from harness.errors import ConfigError
from harness.fleet import NO_RUNTIME as NO_RUNTIME
from harness.fleet import DeviceSpec, FleetSpec
from harness.preparation import Preparation, PreparationKey
from workloads.trace_file import load_trace

if TYPE_CHECKING:
    from workloads.bundle import BundleFolder

TRAFFIC = "traffic_mbps"                       # the column of a trace that needs a peer
ID_LENGTH = 16                                  # hex digits; 2^64 ids: a collision in a million trials is one in 10^7
BundleKey = tuple[str, str, int]                # task, model, training seed

NOTHING_PREPARED: Mapping[PreparationKey, Preparation | None] = MappingProxyType({})

#: Fields of a Trial that do not define it: names, and its place in the interleaving.
NOT_DEFINING = ("id", "campaign", "label", "block")


class Cell(NamedTuple):
    """One combination of the matrix, before repeats."""

    device: str
    task: str
    model: str
    training_seed: int
    method: str                                 # label
    trace: str


class Excluded(NamedTuple):
    """A cell that the campaign leaves out, and why."""

    device: str
    task: str
    model: str
    method: str
    trace: str
    reason: str


class Unnamed(NamedTuple):
    """A trial that has no id yet, because its bundle or its device's runtime is not known."""

    cell: Cell
    repeat: int
    reason: str


class Plan(NamedTuple):
    """`trials` in the order in which they run. `notes` are for people."""

    trials: tuple[Trial, ...]
    excluded: tuple[Excluded, ...]
    unnamed: tuple[Unnamed, ...] = ()
    notes: tuple[str, ...] = ()


def derive_seed(seed: int, dimension: str) -> int:
    """One independent 32-bit seed per random dimension, from its name."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{dimension}".encode()).digest()[:4], "big")


def trial_id(trial: Trial) -> str:
    """Hash of everything that defines the trial; the trace counts by its content, not by its name."""
    value: dict[str, Any] = dict(trial._asdict())
    for name in NOT_DEFINING:
        del value[name]
    value["peers"] = sorted(trial.peers)
    if not trial.link:                          # a trial without one keeps the id that it had before links
        del value["link"]
    if not trial.method_sha256:
        del value["method_sha256"]
    value["trace"] = trial.trace.digest()
    return sha256_of(value)[:ID_LENGTH]


def expand(campaign: CampaignSpec, fleet: FleetSpec, bundles: Mapping[BundleKey, "BundleFolder"],
           runtimes: Mapping[tuple[str, str], str], plugin_dirs: Sequence[str], where: str = "",
           prepared: Mapping[PreparationKey, Preparation | None] = NOTHING_PREPARED) -> Plan:
    """All trials of the campaign. `runtimes` maps (device, engine) to e.g. "onnxruntime 1.31.1" or NO_RUNTIME.

    `prepared` holds the rows that need a preparation: None for one that is not made yet, whose trials have no ids then.
    `where` names the campaign file in messages. Raises ConfigError for unknown devices and for a campaign that selects
    nothing, UserError (seams) for a trace that cannot be read.
    """
    where = where or f"campaign {campaign.name!r}"
    cells, excluded, notes = _cells(campaign, fleet, where)
    offline = set(registry.names("workloads.methods", plugin_dirs))
    trials: dict[str, Trial] = {}
    unnamed: list[Unnamed] = []
    merged: dict[tuple[str, str], None] = {}
    for repeat in range(campaign.repeats):
        seed = derive_seed(campaign.seed, f"repeat/{repeat}")
        traces = {name: load_trace(name, campaign.trial.duration_s, derive_seed(seed, "trace"), plugin_dirs)
                  for name in campaign.matrix.trace}
        _check_traffic(campaign, cells, traces, where)
        block: list[Trial] = []
        for cell in cells:
            known = _known(campaign, cell, bundles, runtimes, offline, prepared)
            if isinstance(known, str):
                unnamed.append(Unnamed(cell, repeat, known))
                continue
            trial = trial_of(campaign, fleet, cell.device, cell.method, known.folder, known.runtime,
                             traces[cell.trace], seed, repeat, known.prepared)
            twin = trials.setdefault(trial.id, trial)
            if twin is trial:
                block.append(trial)
            else:
                merged[(twin.label, trial.label)] = None
        random.Random(derive_seed(seed, "order")).shuffle(block)
        for trial in block:                     # re-inserted, so that the dict is in running order
            trials[trial.id] = trials.pop(trial.id)
    notes += [f"{second!r} has the same settings as {first!r}: run once, as {first!r}" for first, second in merged]
    return Plan(tuple(trials.values()), tuple(excluded), tuple(unnamed), tuple(notes))


def bundle_key(cell: Cell) -> BundleKey:
    return cell.task, cell.model, cell.training_seed


def selected(campaign: CampaignSpec, fleet: FleetSpec, where: str = "") -> list[Cell]:
    """The cells of the matrix that the campaign does not exclude. Raises ConfigError like expand()."""
    return _cells(campaign, fleet, where or f"campaign {campaign.name!r}")[0]


class _Known(NamedTuple):
    """What a cell needs before its trials have ids."""

    folder: "BundleFolder"
    runtime: str
    prepared: Preparation | None


def _known(campaign: CampaignSpec, cell: Cell, bundles: Mapping[BundleKey, "BundleFolder"],
           runtimes: Mapping[tuple[str, str], str], offline: set[str],
           prepared: Mapping[PreparationKey, Preparation | None]) -> _Known | str:
    """Bundle, runtime and preparation of a cell, or the reason why they are not known."""
    runtime = runtimes.get((cell.device, campaign.engine(cell.method)))
    if runtime is None:
        return f"the device {cell.device} was never reached, so its runtime is not known"
    where = f"{cell.task}/{cell.model}, seed {cell.training_seed}"
    folder = bundles.get(bundle_key(cell))
    if folder is None:
        return f"the bundle {where}, is not built"
    method = campaign.method(cell.method).adapter
    if method in offline and method not in folder.policies:
        return f"the bundle {where}, has no policy for {method} yet"
    key = (cell.method, cell.device, folder.bundle.id)
    if runtime != NO_RUNTIME and key in prepared and prepared[key] is None:
        return f"{cell.method} is not prepared for the device {cell.device} and {where}, yet"
    return _Known(folder, runtime, prepared.get(key))


def trial_of(campaign: CampaignSpec, fleet: FleetSpec, name: str, label: str, folder: "BundleFolder", runtime: str,
             trace: LoadTrace, seed: int, repeat: int, prepared: Preparation | None = None) -> Trial:
    """One trial of a row, with its id. Settings: the policy's, then what was prepared, then the campaign's own."""
    spec, method, device = campaign.trial, campaign.method(label), fleet.devices[name]
    slow = {f"{SLOWDOWN}{peer}": fleet.devices[peer].slowdown for peer in method.peers
            if fleet.devices[peer].slowdown != 1.0}
    peers = {"peers": list(method.peers)} if method.peers else {}       # an adapter must know what it may choose
    policy, made = folder.policies.get(method.adapter, {}), prepared.settings if prepared else {}
    trial = Trial(
        id="", campaign=campaign.name, device=device.name, peers=method.peers, task=folder.bundle.task,
        model=folder.bundle.model,
        bundle=prepared.bundle if prepared else folder.bundle.id, method=method.adapter, label=label,
        settings={**policy, **made, **method.settings, **peers},
        link={**method.link.model_dump(exclude_none=True), **slow},
        learned=prepared.learned if prepared else None,
        engine=campaign.engine(label), runtime=runtime, knobs=campaign.knobs(campaign.engine(label)),
        residency=method.residency or spec.residency,
        trace=trace, arrival=spec.arrival.model_dump(exclude_none=True),
        deadline=spec.deadline.model_dump(exclude_none=True), late=spec.late, duration_s=spec.duration_s,
        warmup_s=spec.warmup_s, sample_hz=spec.sample_hz, accuracy_floor=spec.accuracy_floor,
        slowdown=device.slowdown, seed=seed, repeat=repeat, block=repeat,
        method_sha256=_text_sha256(registry.file_of("device_agents.adapters", method.adapter, campaign.plugin_dirs)))
    return trial._replace(id=trial_id(trial))


def _text_sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _cells(campaign: CampaignSpec, fleet: FleetSpec, where: str) -> tuple[list[Cell], list[Excluded], list[str]]:
    """The cells that are left, those that are excluded, and a note for each exclude and method to no effect."""
    matrix = campaign.matrix
    for key, values in matrix:
        if values == () and (key not in ("task", "model", "workload") or not matrix.workloads):
            raise ConfigError(f"{where}: matrix.{key} is empty, so the campaign selects nothing.")
    devices = fleet.select(matrix.device, f"{where} (matrix.device)")
    cells: list[Cell] = []
    excluded: dict[Excluded, None] = {}
    used: set[int] = set()
    for cell in _product(campaign, devices):
        rules = [index for index, rule in enumerate(campaign.exclude) if _matches(rule, cell, campaign, fleet)]
        used.update(rules)
        if rules:
            excluded[_excluded(cell, campaign.exclude[rules[0]])] = None
        else:
            cells.append(cell)
    if not cells:
        raise ConfigError(f"{where}: 'exclude' leaves nothing of {len(excluded)} cells "
                          f"({'; '.join(sorted({one.reason for one in excluded}))}), so the campaign selects nothing.")
    for cell in cells:
        _check_peers(fleet, cell.device, campaign.method(cell.method).peers, f"{where} (methods.{cell.method}.peers)")
    notes = [f"exclude[{index}] matches nothing in the matrix"
             for index in range(len(campaign.exclude)) if index not in used]
    notes += [f"[methods.{label}] is not in matrix.method, so nothing runs it"
              for label in campaign.methods if label not in matrix.method]
    return cells, list(excluded), notes


def _check_peers(fleet: FleetSpec, name: str, peers: Iterable[str], where: str) -> None:
    """A peer is another device of the same site, at an address that this one can reach."""
    device = fleet.devices[name]
    for peer_name in peers:
        peer = fleet.devices.get(peer_name)
        if peer is None:
            raise ConfigError.unknown("device", peer_name, fleet.devices, where)
        if peer_name == name:
            method = where.rpartition("(methods.")[2].rpartition(".peers")[0]
            raise ConfigError(f"{where}: {name} cannot be its own peer; leave that cell out: exclude = "
                              f"[{{ device = \"{name}\", method = \"{method}\", reason = \"it is the peer\" }}]")
        if device.site != peer.site or "simulated" in (device.transport, peer.transport):
            raise ConfigError(f"{where}: {name} ({device.transport}, site {device.site}) cannot reach {peer_name} "
                              f"({peer.transport}, site {peer.site}): peers are real devices of one site.")
        if peer.address_for(device) is None:
            which = " (that of its Wi-Fi, which its settings show; adb's cable has none)" * (peer.transport == "adb")
            raise ConfigError(f"{where}: it is not known at which address {name} reaches {peer_name}; state it in "
                              f"the fleet file below [devices.{peer_name}]: address = \"192.168.1.20\"{which}")


def _check_traffic(campaign: CampaignSpec, cells: Iterable[Cell], traces: Mapping[str, LoadTrace], where: str) -> None:
    """A trace's traffic goes to a peer: over the loopback, or nowhere, it would be no load of a network."""
    loud = {name for name, trace in traces.items() if TRAFFIC in trace.columns}
    for cell in cells:
        if cell.trace in loud and not campaign.method(cell.method).peers:
            raise ConfigError(
                f"{where}: the trace {cell.trace} asks for {TRAFFIC}, and the method {cell.method} has no peer to send "
                f"it to. Give it one below [methods.{cell.method}]: engine = \"remote\", peers = [\"NAME\"], or leave "
                f"the cell out: exclude = [{{ trace = \"{cell.trace}\", method = \"{cell.method}\", reason = "
                f"\"nothing to send to\" }}]")


def _product(campaign: CampaignSpec, devices: Iterable[DeviceSpec]) -> Iterable[Cell]:
    matrix = campaign.matrix
    return dict.fromkeys(                       # a name that the matrix lists twice counts once
        Cell(device.name, task, model, training_seed, method, trace)
        for device in devices for task, model, training_seed in matrix.workloads
        for method in matrix.method for trace in matrix.trace)


def _matches(rule: ExcludeSpec, cell: Cell, campaign: CampaignSpec, fleet: FleetSpec) -> bool:
    adapter = campaign.method(cell.method).adapter
    return (fleet.matches(cell.device, rule.device) and fnmatch.fnmatchcase(cell.task, rule.task)
            and fnmatch.fnmatchcase(cell.model, rule.model) and fnmatch.fnmatchcase(cell.trace, rule.trace)
            and any(fnmatch.fnmatchcase(name, rule.method) for name in (cell.method, adapter)))


def _excluded(cell: Cell, rule: ExcludeSpec) -> Excluded:
    return Excluded(cell.device, cell.task, cell.model, cell.method, cell.trace, rule.reason)
