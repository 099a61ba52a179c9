"""The seams of the device side: what a plug-in file in adapters/, engines/, sensors/ or energy/ must offer.

A plug-in file holds exactly one class that derives from its seam, and a docstring. Both ends of the cable import
this file (contract tests, the simulated transport), so it is standard library only, Python >= 3.6, and holds no logic.
"""
from typing import Any, Dict, List, Optional, Tuple

from device_agents.wire import AdapterView, BranchBundle, Context, Decision, Measurement, Outcome, Trial


class Unsupported(Exception):
    """This device cannot do it (no runtime, no sensor, no such precision). The controller skips, with this reason."""


class UserError(Exception):
    """The campaign or a plug-in asks for something that makes no sense. Never retried."""


class Clock:
    """Device time: CLOCK_BOOTTIME in ns on a device, a virtual clock in a simulation."""

    def now_ns(self) -> int:
        raise NotImplementedError

    def sleep_until(self, t_ns: int) -> None:
        """Return at `t_ns` or, when that has passed, at once."""
        raise NotImplementedError


class Adapter:
    """ONLINE half of a method. Pure Python, deterministic given (view, contexts, outcomes); one object a trial."""

    @staticmethod
    def checked(settings: Dict[str, Any]) -> Dict[str, Any]:
        """What a campaign states, with a value for each setting. Raises UserError for one that makes no sense.

        Called for a campaign file, before hours are spent on it, and by start()."""
        return dict(settings)

    def start(self, view: AdapterView, learned: Optional[bytes]) -> Decision:
        """First decision. `learned` is the trial's learned input, if it names one."""
        raise NotImplementedError

    def decide(self, context: Context, last: Optional[Outcome]) -> Decision:
        """Called before every inference; <= 1 ms p99. `last` is None before the first outcome."""
        raise NotImplementedError

    def learned(self) -> Optional[bytes]:
        """What it learned, to leave the trial as an artifact; None when it does not learn."""
        return None


class Engine:
    """An inference runtime. One object a trial; the loop times the calls. Must not assume ONNX, numpy or labels.

    One file for each processor: infer() returns when the answer is in the host's memory, so that its time holds the
    copies and the waiting, and load() returns when what is compiled for the processor is compiled."""

    processor = "cpu"                           # cpu | gpu | npu; "": stated costs, of what knobs["processor"] says

    #: Knobs that belong to no load: they may change from one inference to the next, and adjust() is told them.
    per_call: Tuple[str, ...] = ()
    #: Of an engine that also sends work elsewhere: the engine that runs what runs here. A slowed device slows it alone.
    local: Any = None

    @classmethod
    def runtime(cls) -> str:
        """Name and version, e.g. "onnxruntime 1.31.1". Raises Unsupported, saying what to install, when absent."""
        raise NotImplementedError

    @classmethod
    def check_knobs(cls, knobs: Dict[str, Any]) -> None:
        """Raises UserError for what makes no sense on any device. For a campaign file, before hours are spent on it."""

    def open(self, bundle: BranchBundle, store: str, settings: Dict[str, Any]) -> None:
        """Once, before any load. `store` is the folder in which files are named by their sha256. `settings` holds
        "seed", "clock", "costs" ({branch: Cost}) and what Order.extra has for the engine; in a trial also
        "deadline_ms", "link" (Trial.link), "scripted" (column of the trace -> its value now, None outside the window)
        and "journal" (kind, **fields -> one line)."""
        raise NotImplementedError

    def senses(self, trial: Trial) -> Dict[str, "Sensor"]:  # noqa: ARG002
        """Sensors of what the engine alone can know, by name; asked once, before open()."""
        return {}

    def load(self, branch: str, knobs: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """Make a branch ready. May return what its time was made of, e.g. {"derive_ms": 2.1}, for the journal."""
        raise NotImplementedError

    def adjust(self, knobs: Dict[str, Any]) -> None:
        """Those of `per_call` that hold from now on. Never called for an engine without any."""

    def infer(self, branch: str, sample: int) -> Any:
        """Run sample number `sample` of the bundle through a loaded branch; the predicted class, or None."""
        raise NotImplementedError

    def answer(self, branch: str, data: bytes) -> Any:  # noqa: ARG002
        """The same for a sample from elsewhere, as it would lie in the bundle's file: for `serve`."""
        raise Unsupported("this engine serves no samples of other devices")

    def unload(self, branch: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Once, after the last call, also when open() or a later call has failed."""


class Sensor:
    """Reads one family of files. `root` is '' on a device and a fixture tree in tests: root + "/proc/stat"."""

    metrics: Tuple[str, ...] = ()               # what read() always returns; names carry units (see wire.UNITS)
    source = ""                                 # what is read, for people; may be refined by the first reading
    period_s = 0.0                              # read no more often than this; 0 = every tick
    reason = ""                                 # why values are missing, or what to know of them; noted when it changes

    def read(self, root: str) -> Dict[str, Optional[float]]:
        """Every metric in `metrics`; None = not measurable here. Never raises. May keep the last reading for rates."""
        raise NotImplementedError


class EnergySource:
    """A source of joules or watts."""

    scope = ""                                  # rail | soc | board | battery | wall | modelled
    provenance = "measured"
    period_s = 0.0                              # read no more often than this; 0 = every tick
    reason = ""                                 # why it is not available, or gives no joules now

    def available(self, root: str) -> bool:
        raise NotImplementedError

    def read(self, root: str, t_ns: int) -> List[Measurement]:
        """`power_w` readings and/or an `energy_j` counter that only grows (wraps already undone): the source's total.
        Parts of it have a prefix (`cpu_power_w`) and are never added to it. Never raises."""
        raise NotImplementedError
