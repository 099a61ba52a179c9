"""The seams of the offline side: what a plug-in file in tasks/, models/ or methods/ must offer.

A plug-in file holds exactly one class that derives from its seam, and a docstring; the file's name is its name in a
campaign. Read by the registry and by build.py. Holds no logic and imports no torch, so that plans stay cheap; a
model's file imports torch itself.
"""
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from device_agents.wire import BranchBundle, Cost
from workloads.branches import BranchSpec

if TYPE_CHECKING:
    from workloads.bundle import BundleFolder

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


class Split(NamedTuple):
    """Samples `x` of shape (n, *Task.shape), float32 and normalised, with class numbers `y` of shape (n,)."""

    x: Floats
    y: Labels


class Dataset(NamedTuple):
    """Three disjoint splits. `test` goes into bundles as evaluation samples and is used for nothing else."""

    train: Split
    val: Split
    test: Split


class Progress(NamedTuple):
    """One step of a long piece of work, for people."""

    step: str                        # train | recalibrate | export | ...
    done: int
    total: int
    per_s: float                     # units of `done` a second, 0 when not known
    left_s: float | None             # None when not known yet
    note: str = ""


Report = Callable[[Progress], None]


class Task:
    """A data set with fixed splits."""

    classes: int
    shape: tuple[int, ...]           # of one sample, without the batch axis
    metric = "accuracy"
    #: Training-time augmentation: "shift" = largest shift in pixels along each axis longer than 1, "flip" = mirror.
    augment: dict[str, Any] = {}     # noqa: RUF012
    #: (address, md5, folder that it unpacks to) of an official archive, for `edgefleet data fetch`.
    archive: tuple[str, str, str] | None = None

    def checksum(self) -> str:
        """sha256 that identifies the data; cheap, and without torch. Raises UserError when the data are missing."""
        raise NotImplementedError

    def load(self) -> Dataset:
        """The same splits every time. Raises UserError, saying what to do, when data are missing or corrupt."""
        raise NotImplementedError


class Model:
    """A multi-branch network that is trained jointly."""

    #: Training settings that fit this network; a campaign may override any of them, and no others exist (train.py).
    training: dict[str, Any] = {}    # noqa: RUF012
    #: Stages (from 1) that a compression operator can replace.
    slots: tuple[int, ...] = ()

    def branches(self) -> tuple[BranchSpec, ...]:
        """The branches it trains and exports; exactly one of kind "full", which comes first."""
        raise NotImplementedError

    def build(self, shape: tuple[int, ...], classes: int, specs: Sequence[BranchSpec]) -> Any:
        """The untrained network of these branches, a workloads.supernet.SuperNet, from torch's global random state.

        `specs` are branches(), or fewer or others for measurements; the first is the full one.
        """
        raise NotImplementedError


class DeviceCase(NamedTuple):
    """One bundle on one device, as an offline half may know it: idle costs, budgets, validation data.

    `settings` are the campaign's for this row ([methods.LABEL]); `co_cpu_pct` is the mean co-running load of the tuning
    traces, of all cores. Nothing of the evaluation is in it: no trace, no seed of a trial, no test sample.
    """

    home: Path
    parent: "BundleFolder"
    device: str
    costs: Mapping[str, Cost]                   # by branch id, measured idle on this very device
    deadline_ms: float | None
    co_cpu_pct: float
    settings: Mapping[str, Any]
    seed: int
    plugin_dirs: tuple[str, ...] = ()


class Prepared(NamedTuple):
    """What an offline half made for one device. `budget` says what that cost, in units named by the keys.

    Keys of `budget`, each optional: passes, flops, search_s, finetune_epochs, device_s, bytes.
    """

    settings: dict[str, Any] = {}               # noqa: RUF012  for the adapter; the campaign's own win over them
    bundle: "BundleFolder | None" = None        # to run in place of the parent; it names the parent in `training`
    learned: bytes | None = None                # artifact that the adapter starts from
    budget: dict[str, float] = {}               # noqa: RUF012
    log: tuple[str, ...] = ()


class Range(NamedTuple):
    """Values that the tuning may draw for one setting: log-uniform when `log`, whole when both ends are int."""

    low: float
    high: float
    log: bool = False


class Method:
    """OFFLINE half of a method. No torch at import, so that plans stay cheap."""

    #: prepare() is asked for each device, because what it makes depends on that device's measured costs.
    per_device = False
    #: Trials that the harness runs before any evaluation, each from what the one before has learned, with learn = true
    #: in the adapter's settings; evaluation runs with learn = false, from what the last one learned.
    training_trials = 0
    #: Settings of the adapter that the tuning may draw, for the equal budget of every method; empty: nothing to tune.
    space: dict[str, Range] = {}                # noqa: RUF012

    def policy(self, bundle: BranchBundle) -> dict[str, Any]:
        """JSON settings for the adapter of the same name; a campaign may override each. Validation data only."""
        raise NotImplementedError

    def notes(self, bundle: BranchBundle) -> Sequence[str]:  # noqa: ARG002
        """What people should know of the policy, for the log of the build."""
        return ()

    def prepare(self, case: DeviceCase, report: Report) -> Prepared:  # noqa: ARG002
        """Derive what needs a device's own costs. Called when `per_device`; cached by everything in the case."""
        return Prepared()
