"""A campaign file -> checked settings. The file is the experiment; the resolved form is stored with its results.

Called by resolve.py. `load_campaign` checks every key, type and plug-in name before anything is built or run, and
tells all mistakes with file, dotted key, what is allowed and the nearest miss. Devices are checked against the fleet
by campaign.py. Refuses to guess: an unknown key is an error.
"""
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from device_agents import registry
from device_agents.seams import Engine
from harness.errors import ConfigError
from harness.spec_file import Name, Spec, read_toml, validated

Patterns = Annotated[tuple[str, ...], Field(strict=False)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
PROCESSORS = ("cpu", "gpu", "npu")
Percent = Annotated[float, Field(ge=0.0, le=100.0)]


class PreflightSpec(Spec):
    """Limits that a device must meet before a trial; None = not asked. A missing sensor passes as "unknown"."""

    above_idle_c: NotNegative | None = None
    min_battery_pct: Percent | None = None
    max_co_cpu_pct: Percent | None = None
    cooldown_s: NotNegative = 0.0


class ExcludeSpec(Spec):
    """Cells that are left out, by name or glob; a key that is not stated matches everything."""

    device: str = "*"
    task: str = "*"
    model: str = "*"
    method: str = "*"
    trace: str = "*"
    reason: Annotated[str, Field(min_length=1)] = "excluded by the campaign"

    @model_validator(mode="after")
    def _says_something(self) -> "ExcludeSpec":
        if not self.model_fields_set - {"reason"}:
            raise ValueError("state at least one of device, task, model, method and trace")
        return self


class MatrixSpec(Spec):
    """What is crossed with what. `method` holds labels of [methods.*] or plug-in names; `device` names, globs, tags."""

    device: Patterns
    task: Names
    model: Names
    method: Names
    trace: Names
    training_seed: Annotated[tuple[Seed, ...], Field(strict=False)] = (0,)


class RateSpec(Spec):
    """Arrivals: a share of what this device's full branch can serve when idle, or absolute in Hz. One of both."""

    utilisation: Positive | None = None
    hz: Positive | None = None

    @model_validator(mode="after")
    def _one(self) -> "RateSpec":
        if (self.utilisation is None) == (self.hz is None):
            raise ValueError("state one of { utilisation = 0.8 } and { hz = 10 }")
        return self


class ArrivalSpec(Spec):
    """closed: the next inference starts when the last ends. The other kinds are open loops with a rate."""

    kind: Literal["closed", "periodic", "poisson", "trace"]
    rate: RateSpec | None = None

    @model_validator(mode="after")
    def _rate_fits_kind(self) -> "ArrivalSpec":
        if self.kind == "closed" and self.rate is not None:
            raise ValueError("a closed loop has no rate; drop 'rate' or choose periodic, poisson or trace")
        if self.kind != "closed" and self.rate is None:
            raise ValueError(f"{self.kind} arrivals need a rate: {{ utilisation = 0.8 }} or {{ hz = 10 }}")
        return self


class DeadlineSpec(Spec):
    """x_full: times the idle median of this device's full branch. ms: absolute. Neither: no deadline."""

    x_full: Positive | None = None
    ms: Positive | None = None

    @model_validator(mode="after")
    def _at_most_one(self) -> "DeadlineSpec":
        if self.x_full is not None and self.ms is not None:
            raise ValueError("state one of { x_full = 1.3 } and { ms = 80 }, not both")
        return self


class TrialSpec(Spec):
    """What every trial of the campaign has in common. See docs/campaigns.md for each key."""

    engine: Name = "onnxruntime_cpu"
    residency: str = "all"
    arrival: ArrivalSpec = ArrivalSpec(kind="periodic", rate=RateSpec(utilisation=0.8))
    deadline: DeadlineSpec = DeadlineSpec(x_full=1.3)
    late: Literal["drop", "serve"] = "drop"
    duration_s: Positive = 60.0
    warmup_s: NotNegative = 2.0
    sample_hz: Annotated[float, Field(gt=0.0, le=1000.0)] = 10.0
    accuracy_floor: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    knobs: dict[str, Any] = Field(default_factory=dict)

    @field_validator("residency")
    @classmethod
    def _residency(cls, value: str) -> str:
        if not re.fullmatch(r"all|one|cache:[1-9][0-9]{0,3}", value):
            raise ValueError(f"{value!r} is none of: all, one, cache:K with K >= 1 (cache:3 keeps three loaded)")
        return value


class MethodSpec(Spec):
    """A method under a label: `adapter` is a plug-in name, every other key one of its settings."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    adapter: Name

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class CampaignSpec(Spec):
    """A whole campaign file. `plugins` and `fleet` are relative to the file until `load_campaign` resolves them."""

    name: Name
    matrix: MatrixSpec
    seed: Seed = 0
    repeats: Annotated[int, Field(ge=1, le=10_000)] = 1
    preflight: PreflightSpec = PreflightSpec()
    exclude: Annotated[tuple[ExcludeSpec, ...], Field(strict=False)] = ()
    trial: TrialSpec = TrialSpec()
    methods: dict[Name, MethodSpec] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    plugins: Annotated[Path | None, Field(strict=False)] = None
    fleet: Annotated[Path | None, Field(strict=False)] = None
    outcomes: Names = ()

    @property
    def plugin_dirs(self) -> tuple[str, ...]:
        return (str(self.plugins),) if self.plugins else ()

    def method(self, label: str) -> MethodSpec:
        """The method behind a label of the matrix: a table of the file, or the plug-in of that name as it is."""
        return self.methods.get(label) or MethodSpec(adapter=label)


def load_campaign(path: Path) -> CampaignSpec:
    """Raises ConfigError: no such file, broken TOML, a wrong key or type, an unknown plug-in name."""
    path = path.absolute()
    spec = validated(CampaignSpec, read_toml(path, "campaign"), path)
    updates = {key: path.parent / folder for key in ("plugins", "fleet") if (folder := getattr(spec, key))}
    spec = spec.model_copy(update=updates)
    if spec.plugins and not spec.plugins.is_dir():
        raise ConfigError(f"{path}: plugins = {str(spec.plugins)!r} is no folder "
                          "(it is relative to the campaign file).")
    _check_names(spec, path)
    return spec.model_copy(update={"trial": _on_its_processor(spec, path)})


def _on_its_processor(spec: CampaignSpec, path: Path) -> TrialSpec:
    """The processor of the engine is a knob of every trial where it is not the CPU, so that results carry it."""
    trial = spec.trial
    stated, own = trial.knobs.get("processor"), registry.load(
        "device_agents.engines", trial.engine, Engine, spec.plugin_dirs).processor
    if stated is not None and stated not in PROCESSORS:
        raise ConfigError.unknown("processor", str(stated), PROCESSORS, f"{path} (trial.knobs.processor)")
    if own not in ("", *PROCESSORS):
        raise ConfigError(f"{path}: engine {trial.engine!r} says that its processor is {own!r}; in its file, set it to "
                          f"one of: {', '.join(PROCESSORS)}.")
    if stated is not None and own not in ("", stated):
        raise ConfigError(f"{path} (trial.knobs.processor): engine {trial.engine!r} runs on {own}, not on {stated}. "
                          "Name an engine of that processor: there is one file for each.")
    return trial if own in ("", "cpu") else trial.model_copy(update={"knobs": {**trial.knobs, "processor": own}})


def _check_names(spec: CampaignSpec, path: Path) -> None:
    """Every name in the file is a file name in a folder; say which is not."""
    adapters = _plugins("device_agents.adapters", spec)
    _known("method", spec.matrix.method, {*adapters, *spec.methods}, f"{path} (matrix.method)")
    for label, method in spec.methods.items():
        _known("adapter", [method.adapter], adapters, f"{path} (methods.{label}.adapter)")
    _known("engine", [spec.trial.engine], _plugins("device_agents.engines", spec), f"{path} (trial.engine)")
    _known("task", spec.matrix.task, _plugins("workloads.tasks", spec), f"{path} (matrix.task)")
    _known("model", spec.matrix.model, _plugins("workloads.models", spec), f"{path} (matrix.model)")
    _known("trace", spec.matrix.trace, trace_names(spec.plugin_dirs), f"{path} (matrix.trace)")


def trace_names(plugin_dirs: Iterable[str]) -> list[str]:
    """Load traces are generators (NAME.py) or tables (NAME.csv), in workloads/traces/ and the user's traces/."""
    folders = [*importlib.import_module("workloads.traces").__path__, *(f"{one}/traces" for one in plugin_dirs)]
    tables = {file.stem for folder in folders for file in Path(folder).glob("*.csv")}
    return sorted(tables | set(registry.names("workloads.traces", plugin_dirs)))


def _plugins(package: str, spec: CampaignSpec) -> list[str]:
    return registry.names(package, spec.plugin_dirs)


def _known(what: str, wanted: Iterable[str], allowed: Iterable[str], where: str) -> None:
    allowed = set(allowed)
    for name in wanted:
        if name not in allowed:
            raise ConfigError.unknown(what, name, allowed, where)
