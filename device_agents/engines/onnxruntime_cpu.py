"""onnxruntime on the CPU: one ONNX file a branch, batch 1. Works with onnxruntime 1.10 (Python 3.6) to 1.31.

Knobs: `threads` (default 1; intra-op, no spinning, sequential execution), so that what is measured is the branch and
not a thread pool that burns idle cores; `processor`, which can only be "cpu". numpy and onnxruntime are imported when
first needed; a device without them is Unsupported, not an error. Samples stay on disk and are mapped; the engine copies
none. It refuses unknown knobs.
"""
import mmap
import os
from typing import Any, Callable, Dict

from device_agents.seams import Engine, Unsupported, UserError
from device_agents.wire import BranchBundle

_KNOBS = ("threads", "processor")


class OnnxruntimeCpu(Engine):
    """Sessions by branch id. infer() answers with the largest output's number: the predicted class."""

    @classmethod
    def runtime(cls) -> str:
        return "onnxruntime %s" % _import_runtime().__version__

    def open(self, bundle: BranchBundle, store: str, settings: Dict[str, Any]) -> None:  # noqa: ARG002
        self._onnxruntime = _import_runtime()
        import numpy
        dtype = numpy.dtype(bundle.dtype).newbyteorder("<")
        self._store = store
        self._files = {branch.id: branch.artifact for branch in bundle.branches}
        self._sessions: Dict[str, Any] = {}
        path = os.path.join(store, bundle.samples)
        shape = (bundle.count, 1) + tuple(bundle.shape)
        size_b = int(numpy.prod(shape)) * dtype.itemsize
        if os.path.getsize(path) != size_b:
            raise UserError("samples of bundle %s: %d bytes, expected %d for %d x %s %s" % (
                bundle.id[:12], os.path.getsize(path), size_b, bundle.count, tuple(bundle.shape), bundle.dtype))
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._samples = numpy.frombuffer(data, dtype).reshape(shape)
        self._array: Callable[[bytes], Any] = lambda data: numpy.frombuffer(data, dtype).reshape(shape[1:])

    def load(self, branch: str, knobs: Dict[str, Any]) -> None:
        unknown = sorted(set(knobs) - set(_KNOBS))
        if unknown:
            raise UserError("engine onnxruntime_cpu has no knob %s; there is: %s" % (unknown[0], ", ".join(_KNOBS)))
        if knobs.get("processor", self.processor) != self.processor:
            raise UserError("engine onnxruntime_cpu runs on %s, not on %r" % (self.processor, knobs["processor"]))
        threads = knobs.get("threads", 1)
        if not isinstance(threads, int) or threads < 1:
            raise UserError("knob threads must be a whole number >= 1, is %r" % (threads,))
        runtime = self._onnxruntime
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = runtime.InferenceSession(os.path.join(self._store, self._files[branch]), options,
                                           providers=["CPUExecutionProvider"])
        self._sessions[branch] = (session.run, [session.get_outputs()[0].name], session.get_inputs()[0].name)

    def infer(self, branch: str, sample: int) -> int:
        run, outputs, name = self._sessions[branch]
        return int(run(outputs, {name: self._samples[sample]})[0].argmax())

    def answer(self, branch: str, data: bytes) -> int:
        run, outputs, name = self._sessions[branch]
        return int(run(outputs, {name: self._array(data)})[0].argmax())

    def unload(self, branch: str) -> None:
        del self._sessions[branch]


def _import_runtime() -> Any:
    # numpy's BLAS is never used here; its idle threads would cost memory and start-up time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        import numpy  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise Unsupported("no onnxruntime for this Python (%s): python3 -m pip install onnxruntime numpy" % error)
    return onnxruntime
