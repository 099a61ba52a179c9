"""A recipe: what a bundle is made from. Its digest finds the bundle again without training, and without torch.

The digest covers the source text of all that shapes the weights, the task's data, the settings, the seed and the
versions of the libraries that compute. Used by `plan`, `build` and `run`. Refuses unknown tasks and models.
"""
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from device_agents import registry
from device_agents.seams import UserError
from device_agents.wire import sha256_of
from workloads.seams import Task

#: Files that shape the weights, whatever the model; and those that shape the artifacts made of them. Two lists, because
#: a better exporter must not cost anybody an hour of training.
WEIGHT_SOURCES = ("branches.py", "checkpoint.py", "cifar_files.py", "settings.py", "size.py", "splits.py",
                  "supernet.py", "train.py", "models/operators.py")
ARTIFACT_SOURCES = ("build.py", "evaluation.py", "export.py", "joint_cost.py", "quantise.py")
WEIGHT_LIBRARIES, ARTIFACT_LIBRARIES = ("torch", "numpy"), ("onnx", "onnxruntime")


class Recipe(NamedTuple):
    """`training` overrides the model's training settings; `seed` is the training seed."""

    task: str
    model: str
    seed: int
    training: dict[str, Any] = {}               # noqa: RUF012

    def digest(self, plugin_dirs: Sequence[str] = ()) -> str:
        """sha256 of all that shapes the bundle. Raises UserError for an unknown task or model, or missing data."""
        return sha256_of({"weights": self.weights_digest(plugin_dirs),
                          "sources": source_digests(ARTIFACT_SOURCES),
                          "libraries": {name: _version(name) for name in ARTIFACT_LIBRARIES}})

    def weights_digest(self, plugin_dirs: Sequence[str] = ()) -> str:
        """sha256 of all that shapes the trained weights. Raises UserError likewise."""
        sources = source_digests(WEIGHT_SOURCES)
        for package, name in (("tasks", self.task), ("models", self.model)):
            sources[f"{package}/{name}"] = _text_digest(plugin_path(package, name, plugin_dirs))
        return sha256_of({"task": self.task, "model": self.model, "seed": self.seed, "training": self.training,
                          "sources": sources, "data": load_task(self.task, plugin_dirs).checksum(),
                          "libraries": {name: _version(name) for name in WEIGHT_LIBRARIES}})


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
    try:
        return Path(registry.file_of(f"workloads.{folder}", name, plugin_dirs))
    except registry.UnknownPlugin as error:
        raise UserError(f"workloads: {error}") from None


def source_digests(names: Iterable[str]) -> dict[str, str]:
    """sha256 of the text of files in workloads/, by name: what is kept under it is made anew when they change."""
    return {name: _text_digest(Path(__file__).parent / name) for name in names}


def _text_digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
