"""onnxruntime on the CPU: one ONNX file a branch, batch 1; see onnx_engine.py for what it does and refuses."""
from typing import Any, Dict

from device_agents.onnx_engine import OnnxEngine
from device_agents.seams import UserError
from device_agents.wire import BranchBundle


class OnnxruntimeCpu(OnnxEngine):
    def open(self, bundle: BranchBundle, store: str, settings: Dict[str, Any]) -> None:
        if bundle.training.get("form") == "evolve":
            raise UserError("bundle %s holds recipes, not ONNX files: state engine = \"onnxruntime_evolve\" for this "
                            "method" % bundle.id[:12])
        super().open(bundle, store, settings)

    def load(self, branch: str, knobs: Dict[str, Any]) -> None:
        self.start_session(branch, self.path(branch), self.options(knobs))
