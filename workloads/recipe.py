"""A recipe: what a bundle is made from. Its digest finds the bundle again without training, and without torch.

The digest covers the source text of all that shapes the weights, the task's data, the settings, the seed and the
versions of the libraries that compute. Used by `plan`, `build` and `run`. Refuses unknown tasks and models.
"""
import importlib.util
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from device_agents import registry
from device_agents.seams import UserError
from device_agents.wire import sha256_of
from workloads.seams import Task

#: Files that shape weights or artifacts, whatever the model.
SOURCES = ("branches.py", "build.py", "cifar_files.py", "evaluation.py", "export.py", "quantise.py", "seams.py",
           "settings.py", "size.py", "splits.py", "supernet.py", "train.py", "models/operators.py")
LIBRARIES = ("torch", "onnx", "numpy")


class Recipe(NamedTuple):
    """`training` overrides the model's training settings; `seed` is the training seed."""

    task: str
    model: str
    seed: int
    training: dict[str, Any] = {}               # noqa: RUF012

    def digest(self, plugin_dirs: Sequence[str] = ()) -> str:
        """sha256. Raises UserError for an unknown task or model, or when the task's data are missing."""
        root = Path(__file__).parent
        sources = {name: _text_digest(root / name) for name in SOURCES}
        for package, name in (("tasks", self.task), ("models", self.model)):
            sources[f"{package}/{name}"] = _text_digest(plugin_path(package, name, plugin_dirs))
        return sha256_of({"task": self.task, "model": self.model, "seed": self.seed, "training": self.training,
                          "sources": sources, "data": load_task(self.task, plugin_dirs).checksum(),
                          "libraries": {name: _version(name) for name in LIBRARIES}})


def load_task(name: str, plugin_dirs: Sequence[str] = ()) -> Task:
    """The task of that name. Raises UserError."""
    return load_plugin("tasks", name, Task, plugin_dirs)()


def load_plugin(folder: str, name: str, seam: type, plugin_dirs: Sequence[str] = ()) -> Any:
    """The class that workloads/<folder>/<name>.py, or the user's, holds. Raises UserError."""
    try:
        return registry.load(f"workloads.{folder}", name, seam, plugin_dirs)
    except (registry.UnknownPlugin, registry.BadPlugin) as error:
        raise UserError(f"workloads: {error}") from None


def plugin_path(folder: str, name: str, plugin_dirs: Sequence[str] = ()) -> Path:
    """The file behind a plug-in name, found without importing it. Raises UserError."""
    spec = importlib.util.find_spec(f"workloads.{folder}.{name}")
    if spec is not None and spec.origin:
        return Path(spec.origin)
    for directory in plugin_dirs:
        path = Path(directory) / folder / f"{name}.py"
        if path.is_file():
            return path
    allowed = ", ".join(registry.names(f"workloads.{folder}", plugin_dirs))
    raise UserError(f"no {name!r} in workloads/{folder}/; there is: {allowed}")


def _text_digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
