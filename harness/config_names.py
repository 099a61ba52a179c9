"""Do the names in a campaign file exist? Every one is a file in a folder: a method's, an engine's, a task's, a trace's.

Called by config.py, before anything is built or run. Raises ConfigError, which says where the name stands, what there
is and the nearest miss. Devices are checked against the fleet by campaign.py.
"""
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from device_agents import registry
from device_agents.seams import Adapter, Engine, UserError
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.config import CampaignSpec

OFFLOADING = "remote"                           # the engine that has peers
TRACES = "workloads.traces"
PACKAGES = ("device_agents.adapters", "device_agents.engines", "device_agents.sensors", "device_agents.energy",
            "workloads.tasks", "workloads.models", "workloads.methods", TRACES)
PROCESSORS = ("cpu", "gpu", "npu")


def processor_of(engine: str, plugin_dirs: Iterable[str]) -> str:
    """What the engine's file says: cpu, gpu, npu, or "" where its trials say."""
    return str(registry.load("device_agents.engines", engine, Engine, plugin_dirs).processor)


def check_processors(spec: "CampaignSpec", path: Path) -> None:
    """Of every engine, and the one that the campaign states, which must be its own engine's."""
    stated = spec.trial.knobs.get("processor")
    own = {name: processor_of(name, spec.plugin_dirs) for name in spec.engines}
    if stated is not None and stated not in PROCESSORS:
        raise ConfigError.unknown("processor", str(stated), PROCESSORS, f"{path} (trial.knobs.processor)")
    for name, processor in own.items():
        if processor not in ("", *PROCESSORS):
            raise ConfigError(f"{path}: engine {name!r} says that its processor is {processor!r}; in its file, set it "
                              f"to one of: {', '.join(PROCESSORS)}.")
    if stated is not None and own[spec.trial.engine] not in ("", stated):
        raise ConfigError(f"{path} (trial.knobs.processor): engine {spec.trial.engine!r} runs on "
                          f"{own[spec.trial.engine]}, not on {stated}. Name an engine of that processor: there is one "
                          "file for each.")


def check_knobs(spec: "CampaignSpec", path: Path) -> None:
    """By each engine itself, as it will on the device. What only a device knows, as its cores, is not asked."""
    for name in spec.engines:
        engine = registry.load("device_agents.engines", name, Engine, spec.plugin_dirs)
        stated = {key: value for key, value in spec.knobs(name).items() if key not in engine.per_call}
        try:
            engine.check_knobs(stated)
        except UserError as error:
            raise ConfigError(f"{path} (trial.knobs): {error}") from None


def check_names(spec: "CampaignSpec", path: Path, imported: Iterable[str]) -> None:
    """Every name in the file is a file name in a folder; say which is not."""
    _check_shadows(spec, path)
    adapters = _plugins("device_agents.adapters", spec)
    _known("method", spec.matrix.method, {*adapters, *spec.methods}, f"{path} (matrix.method)")
    engines = _plugins("device_agents.engines", spec)
    _known("engine", [spec.trial.engine], engines, f"{path} (trial.engine)")
    for label, method in spec.methods.items():
        _known("adapter", [method.adapter], adapters, f"{path} (methods.{label}.adapter)")
        _known("engine", [spec.engine(label)], engines, f"{path} (methods.{label}.engine)")
        _check_peers(spec, label, f"{path} (methods.{label})")
    for label in dict.fromkeys((*spec.methods, *spec.matrix.method)):
        _check_settings(spec, label, f"{path} (methods.{label})")
    part = "workload" if spec.matrix.workload else ""
    workloads = spec.matrix.workloads
    _known("task", [task for task, _, _ in workloads], _plugins("workloads.tasks", spec),
           f"{path} (matrix.{part or 'task'})")
    _known("model", [model for _, model, _ in workloads], {*_models(spec), *imported},
           f"{path} (matrix.{part or 'model'})")
    _known("trace", spec.matrix.trace, trace_names(spec.plugin_dirs), f"{path} (matrix.trace)")


def _check_shadows(spec: "CampaignSpec", path: Path) -> None:
    """A file of the user's with the name of one of ours would be passed over, and ours run under its name."""
    for package in PACKAGES:
        own = trace_names(()) if package == TRACES else registry.names(package)
        folder = package.rpartition(".")[2]
        for file in [one for plugins in spec.plugin_dirs for one in sorted(Path(plugins, folder).glob("*.*"))]:
            if file.stem in own and file.suffix in (".py", ".csv" * (package == TRACES)):
                raise ConfigError(f"{path}: {file} has the name of one of edgefleet's own {folder}, which would be "
                                  "used in its place. Give it another name.")


def _check_settings(spec: "CampaignSpec", label: str, where: str) -> None:
    """By the adapter itself, as it will on the device, hours of training later."""
    method = spec.method(label)
    try:
        registry.load("device_agents.adapters", method.adapter, Adapter, spec.plugin_dirs).checked(method.settings)
    except UserError as error:
        raise ConfigError(f"{where}: {error}") from None


def _check_peers(spec: "CampaignSpec", label: str, where: str) -> None:
    method, engine = spec.method(label), spec.engine(label)
    if method.peers and engine != OFFLOADING:
        raise ConfigError(f"{where}: 'peers' needs engine = \"{OFFLOADING}\"; the engine {engine!r} has none.")
    if method.link.model_fields_set and not method.peers:
        raise ConfigError(f"{where}: 'link' shapes the way to the peers, and there is none; add peers = [\"NAME\"].")


def trace_names(plugin_dirs: Iterable[str]) -> list[str]:
    """Load traces are generators (NAME.py) or tables (NAME.csv), in workloads/traces/ and the user's traces/."""
    folders = [*importlib.import_module(TRACES).__path__, *(f"{one}/traces" for one in plugin_dirs)]
    tables = {file.stem for folder in folders for file in Path(folder).glob("*.csv")}
    return sorted(tables | set(registry.names(TRACES, plugin_dirs)))


def _plugins(package: str, spec: "CampaignSpec") -> list[str]:
    return registry.names(package, spec.plugin_dirs)


def _models(spec: "CampaignSpec") -> set[str]:
    """The networks: every file of the folder but the operators that they share."""
    return set(_plugins("workloads.models", spec)) - {"operators"}


def _known(what: str, wanted: Iterable[str], allowed: Iterable[str], where: str) -> None:
    allowed = set(allowed)
    for name in wanted:
        if name not in allowed:
            raise ConfigError.unknown(what, name, allowed, where)
