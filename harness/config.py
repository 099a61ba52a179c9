"""A campaign file -> checked settings. The file is the experiment; the resolved form is stored with its results.

Called by resolve.py. `load_campaign` checks every key, type and plug-in name before anything is built or run, and
tells all mistakes with file, dotted key, what is allowed and the nearest miss. Devices are checked against the fleet
by campaign.py. Refuses to guess: an unknown key is an error.
"""
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from harness.config_names import check_knobs, check_names, check_processors, processor_of
from harness.errors import ConfigError
from harness.spec_file import Name, Spec, read_toml, validated

Patterns = Annotated[tuple[str, ...], Field(strict=False)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]


def _known_residency(value: str) -> str:
    if not re.fullmatch(r"all|one|cache:[1-9][0-9]{0,3}", value):
        raise ValueError(f"{value!r} is none of: all, one, cache:K with K >= 1 (cache:3 keeps three loaded)")
    return value


Residency = Annotated[str, AfterValidator(_known_residency)]


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


class WorkloadSpec(Spec):
    """A network trained on a task, once a seed."""

    task: Name
    model: Name
    training_seed: Annotated[tuple[Seed, ...], Field(strict=False)] = (0,)


class MatrixSpec(Spec):
    """What is crossed with what. `method` holds labels of [methods.*] or plug-in names; `device` names, globs, tags.

    Either task x model x training_seed, or a list of `workload`, where networks fit some tasks only.
    """

    device: Patterns
    task: Names = ()
    model: Names = ()
    method: Names
    trace: Names
    training_seed: Annotated[tuple[Seed, ...], Field(strict=False)] = (0,)
    workload: Annotated[tuple[WorkloadSpec, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _one_way(self) -> "MatrixSpec":
        crossed = self.model_fields_set & {"task", "model", "training_seed"}
        if self.workload and crossed:
            raise ValueError(f"state either 'workload' or {', '.join(sorted(crossed))}, not both")
        if not self.workload and not {"task", "model"} <= self.model_fields_set:
            raise ValueError("state 'task' and 'model', or a list of workload = [{ task = ..., model = ... }]")
        return self

    @property
    def workloads(self) -> list[tuple[str, str, int]]:
        """(task, model, training seed) of every bundle, each once."""
        if self.workload:
            every = [(one.task, one.model, seed) for one in self.workload for seed in one.training_seed]
        else:
            every = [(task, model, seed) for task in self.task for model in self.model
                     for seed in self.training_seed]
        return list(dict.fromkeys(every))


class RateSpec(Spec):
    """Arrivals: a share of what this device's full branch can serve when idle, or absolute in Hz. One of both."""

    utilisation: Positive | None = None
    hz: Positive | None = None

    @model_validator(mode="after")
    def _one(self) -> "RateSpec":
        if (self.utilisation is None) == (self.hz is None):
            raise ValueError("state one of { utilisation = 0.8 } and { hz = 10 }")
        return self


class TuningSpec(Spec):
    """The equal tuning budget: so many configurations for every method, on simulated twins, on traces of their own."""

    configurations: Annotated[int, Field(ge=2, le=10_000)] = 20
    arrivals: Annotated[int, Field(ge=50, le=1_000_000)] = 600      # that a configuration is scored on, a trace
    training_trials: Annotated[int, Field(ge=1, le=1000)] | None = None     # of methods that learn; None: as they ask


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
    residency: Residency = "all"
    arrival: ArrivalSpec = ArrivalSpec(kind="periodic", rate=RateSpec(utilisation=0.8))
    deadline: DeadlineSpec = DeadlineSpec(x_full=1.3)
    late: Literal["drop", "serve"] = "drop"
    duration_s: Positive = 60.0
    warmup_s: NotNegative = 2.0
    sample_hz: Annotated[float, Field(gt=0.0, le=1000.0)] = 10.0
    accuracy_floor: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    knobs: dict[str, Any] = Field(default_factory=dict)


class LinkSpec(Spec):
    """What is made of the link to the peers, on the device, in user space. A key that is not stated changes nothing."""

    rate_mbps: Positive | None = None
    delay_ms: NotNegative | None = None
    jitter_ms: NotNegative | None = None
    loss_pct: Percent | None = None


class MethodSpec(Spec):
    """A method under a label: `adapter` is a plug-in name, every key but these one of its settings.

    `engine` and `residency` take the place of the trial's; `peers` are devices of the fleet that serve its trials, over
    a `link`.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    adapter: Name
    engine: Name | None = None
    residency: Residency | None = None
    peers: Names = ()
    link: LinkSpec = LinkSpec()

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
    tuning: TuningSpec | None = None            # None: methods run with their defaults
    plugins: Annotated[Path | None, Field(strict=False)] = None
    fleet: Annotated[Path | None, Field(strict=False)] = None

    @property
    def plugin_dirs(self) -> tuple[str, ...]:
        return (str(self.plugins),) if self.plugins else ()

    def method(self, label: str) -> MethodSpec:
        """The method behind a label of the matrix: a table of the file, or the plug-in of that name as it is."""
        return self.methods.get(label) or MethodSpec(adapter=label)

    def engine(self, label: str) -> str:
        """The engine of that label's trials."""
        return self.method(label).engine or self.trial.engine

    def knobs(self, engine: str) -> dict[str, Any]:
        """Of the trials on that engine. Its processor is one where it is not the CPU: results carry it."""
        knobs, own = dict(self.trial.knobs), processor_of(engine, self.plugin_dirs)
        if own == knobs.get("processor", "cpu") or not own:
            return knobs
        others = {name: value for name, value in knobs.items() if name != "processor"}
        return others if own == "cpu" else {**others, "processor": own}

    @property
    def engines(self) -> list[str]:
        """All that are needed: the campaign's own, which rates and deadlines refer to, and those of its methods."""
        return sorted({self.trial.engine, *(self.engine(label) for label in self.matrix.method)})


def load_campaign(path: Path, imported: Iterable[str] = ()) -> CampaignSpec:
    """Raises ConfigError: no such file, broken TOML, a wrong key or type, an unknown plug-in name.

    `imported`: names of models that were brought as bundles.
    """
    path = path.absolute()
    spec = validated(CampaignSpec, read_toml(path, "campaign"), path)
    updates = {key: path.parent / folder for key in ("plugins", "fleet") if (folder := getattr(spec, key))}
    spec = spec.model_copy(update=updates)
    if spec.plugins and not spec.plugins.is_dir():
        raise ConfigError(f"{path}: plugins = {str(spec.plugins)!r} is no folder "
                          "(it is relative to the campaign file).")
    check_names(spec, path, imported)
    check_processors(spec, path)
    check_knobs(spec, path)
    return spec
