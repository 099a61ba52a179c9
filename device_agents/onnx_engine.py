"""What the engines on onnxruntime share: sessions on the CPU, batch 1, with mapped samples. onnxruntime 1.10 to 1.31.

Knobs: `threads` (default 1; intra-op, no spinning, sequential execution), so that what is measured is the branch and
not a thread pool that burns idle cores; `cpus`, the cores that loading and inference may use, as [4, 5] for two big
ones (default: all that the process may); `processor`, which can only be "cpu". numpy and onnxruntime are imported when
first needed; a device without them is Unsupported, not an error. Samples stay on disk and are mapped; the engine copies
none. It refuses unknown knobs.
"""
import mmap
import os
from typing import Any, Callable, Dict, FrozenSet, Union

from device_agents.seams import Engine, Unsupported, UserError
from device_agents.wire import BranchBundle

_KNOBS = ("threads", "cpus", "processor")


class OnnxEngine(Engine):
    """Sessions by branch id. infer() answers with the largest output's number: the predicted class."""

    _every_cpu = _cpus = frozenset()            # type: FrozenSet[int]

    @classmethod
    def runtime(cls) -> str:
        return "onnxruntime %s" % _import_runtime().__version__

    @classmethod
    def check_knobs(cls, knobs: Dict[str, Any]) -> None:
        name = cls.__module__.rpartition(".")[2]
        unknown = sorted(set(knobs) - set(_KNOBS))
        if unknown:
            raise UserError("engine %s has no knob %s; there is: %s" % (name, unknown[0], ", ".join(_KNOBS)))
        if knobs.get("processor", cls.processor) != cls.processor:
            raise UserError("engine %s runs on %s, not on %r" % (name, cls.processor, knobs["processor"]))
        threads, cpus = knobs.get("threads", 1), knobs.get("cpus")
        if type(threads) is not int or threads < 1:
            raise UserError("knob threads must be a whole number >= 1, is %r" % (threads,))
        if cpus is not None and not (isinstance(cpus, list) and cpus and all(type(one) is int for one in cpus)):
            raise UserError("knob cpus must be a list of core numbers, as [0, 1], is %r" % (cpus,))

    def open(self, bundle: BranchBundle, store: str, settings: Dict[str, Any]) -> None:  # noqa: ARG002
        self._onnxruntime = _import_runtime()
        import numpy
        dtype = numpy.dtype(bundle.dtype).newbyteorder("<")
        self._store = store
        self._files = {branch.id: branch.artifact for branch in bundle.branches}
        self._sessions: Dict[str, Any] = {}
        self._every_cpu = self._cpus = frozenset(os.sched_getaffinity(0))
        path = os.path.join(store, bundle.samples)
        shape = (bundle.count, 1) + tuple(bundle.shape)
        size_b = int(numpy.prod(shape)) * dtype.itemsize
        if os.path.getsize(path) != size_b:
            raise UserError("samples of bundle %s: %d bytes, expected %d for %d x %s %s" % (
                bundle.id[:12], os.path.getsize(path), size_b, bundle.count, tuple(bundle.shape), bundle.dtype))
        self._samples = numpy.frombuffer(mapped(path), dtype).reshape(shape)
        self._array: Callable[[bytes], Any] = lambda data: numpy.frombuffer(data, dtype).reshape(shape[1:])

    def infer(self, branch: str, sample: int) -> int:
        run, outputs, name, cpus = self._sessions[branch]
        if cpus is not self._cpus:
            self._move(cpus)
        return int(run(outputs, {name: self._samples[sample]})[0].argmax())

    def answer(self, branch: str, data: bytes) -> int:
        run, outputs, name, _ = self._sessions[branch]
        return int(run(outputs, {name: self._array(data)})[0].argmax())

    def unload(self, branch: str) -> None:
        del self._sessions[branch]

    def path(self, branch: str) -> str:
        """Of the branch's artifact."""
        return self.store_path(self._files[branch])

    def store_path(self, digest: str) -> str:
        return os.path.join(self._store, digest)

    def options(self, knobs: Dict[str, Any]) -> Any:
        """SessionOptions; UserError for knobs that make no sense. Puts the calling thread on its `cpus`, which the
        threads that it starts inherit."""
        self.check_knobs(knobs)
        cpus = knobs.get("cpus")
        self._move(self._every_cpu if cpus is None else frozenset(cpus))
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = knobs.get("threads", 1)
        options.inter_op_num_threads = 1
        options.execution_mode = self._onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    def start_session(self, branch: str, model: Union[str, bytes], options: Any) -> None:
        """`model` = a path, or the file's bytes."""
        session = self._onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._sessions[branch] = (session.run, [session.get_outputs()[0].name], session.get_inputs()[0].name,
                                  self._cpus)

    def close(self) -> None:
        if self._cpus != self._every_cpu:
            self._move(self._every_cpu)

    def _move(self, cpus: FrozenSet[int]) -> None:
        """The calling thread to these cores, if all of them are there."""
        missing = sorted(cpus - self._every_cpu)
        if missing:
            raise UserError("knob cpus names core %d; this device gives the agent: %s" % (
                missing[0], ", ".join(map(str, sorted(self._every_cpu)))))
        if cpus != self._cpus:
            os.sched_setaffinity(0, cpus)
            self._cpus = cpus


def mapped(path: str) -> mmap.mmap:
    """The file's bytes, read when touched."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _import_runtime() -> Any:
    # numpy's BLAS is never used here; its idle threads would cost memory and start-up time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        import numpy  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise Unsupported("no onnxruntime for this Python (%s): python3 -m pip install onnxruntime numpy" % error)
    return onnxruntime
