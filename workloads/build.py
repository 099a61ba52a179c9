"""build_bundle: from a recipe to a bundle with policies; train, recalibrate, export, check, write. Cached by content.

Called by `edgefleet build` and `run`. What exists is reused without importing torch; a killed training goes on from
its checkpoint. Only validation data reach the manifest and the policies; the test split goes in as samples, unread.
"""
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from device_agents.wire import Branch, BranchBundle, canonical_json
from workloads.bundle import BundleFolder, find_bundle, recipe_path, write_bundle, write_file, write_policy
from workloads.recipe import Recipe, load_plugin, load_task
from workloads.seams import Dataset, Method, Model, Progress, Report, Split, Task
from workloads.settings import TrainSettings, resolve
from workloads.splits import stratified

EVALUATION_MAX = 1000                           # samples in a bundle; a device need not hold a whole test set
EVALUATION_SEED = 20_241_202
CHECK_SAMPLES = 8


class BuildResult(NamedTuple):
    """`log` is for people: one line a finding."""

    folder: BundleFolder
    reused: bool
    seconds: float
    log: tuple[str, ...]


def build_bundle(home: Path, recipe: Recipe, methods: Iterable[str], progress: Report,
                 plugin_dirs: Sequence[str] = ()) -> BuildResult:
    """The recipe's bundle with a policy for each named method, built or reused.

    Raises UserError: unknown names or settings, missing data, a diverging training, an export that differs.
    """
    began = time.monotonic()
    log: list[str] = []
    folder = find_bundle(home, recipe, plugin_dirs)
    reused = folder is not None
    if folder is None:
        folder = _build(home, recipe, progress, plugin_dirs, log)
        write_file(recipe_path(home, recipe, plugin_dirs),
                   (canonical_json({"bundle": folder.bundle.id}) + "\n").encode("ascii"))
    else:
        log.append(f"reused bundle {folder.bundle.id[:12]}")
    for name in methods:
        policy = load_plugin("methods", name, Method, plugin_dirs)().policy(folder.bundle)
        if folder.policies.get(name) != policy:
            folder = write_policy(folder, name, policy)
            log.append(f"policy for {name}: {canonical_json(policy)}")
    return BuildResult(folder, reused, time.monotonic() - began, tuple(log))


def _build(home: Path, recipe: Recipe, progress: Report, plugin_dirs: Sequence[str], log: list[str]) -> BundleFolder:
    # torch's threads spin while they wait for each other; on a machine that is busy otherwise that costs a factor of 5.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from workloads import train

    task = load_task(recipe.task, plugin_dirs)
    model: Model = load_plugin("models", recipe.model, Model, plugin_dirs)()
    settings = resolve(model.training, recipe.training)
    data = task.load()
    torch.manual_seed(recipe.seed)
    net = model.build(task.shape, task.classes, model.branches())
    checkpoint = home / "cache" / f"train-{recipe.digest(plugin_dirs)}.pt"
    trained = train.fit(net, train.joint_loss(net, task.shape, settings), data.train, settings, recipe.seed, progress,
                        checkpoint, task.augment)
    if trained.resumed_epoch:
        log.append(f"training went on from epoch {trained.resumed_epoch + 1}")
    branches, artifacts, worst = _export(net, task, data, progress)
    log.append(f"exported {len(branches)} branches; largest difference from torch {worst:.1e}")
    bundle = BranchBundle(
        id="", task=recipe.task, model=recipe.model, seed=recipe.seed, classes=task.classes, shape=task.shape,
        dtype="float32", samples="", labels="", count=0, branches=branches,
        training=_facts(settings, trained.passes, trained.steps, data))
    folder = write_bundle(home, bundle, artifacts, _evaluation(data.test), {
        **trained._asdict(), "torch": torch.__version__, "threads": torch.get_num_threads(), "export_worst": worst})
    checkpoint.unlink(missing_ok=True)
    return folder


def _export(net: Any, task: Task, data: Dataset,
            progress: Report) -> tuple[tuple[Branch, ...], dict[str, bytes], float]:
    """Every branch recalibrated, judged on validation data, exported and checked."""
    from workloads import export, size, train

    branches, artifacts, worst, began = [], {}, 0.0, time.monotonic()
    for number, spec in enumerate(net.specs, 1):
        plain = net.extract(spec)
        train.recalibrate(plain, data.train)
        cost = size.measure(plain, task.shape)
        artifacts[spec.id] = export.to_onnx(plain, task.shape)
        worst = max(worst, export.check_same(artifacts[spec.id], plain, data.val.x[:CHECK_SAMPLES], spec.id))
        branches.append(Branch(spec.id, "", train.accuracy(plain, data.val), cost.macs, cost.params, 0,
                               spec.precision, spec.kind))
        per_s = number / max(1e-9, time.monotonic() - began)
        progress(Progress("export", number, len(net.specs), per_s, (len(net.specs) - number) / per_s, spec.id))
    return tuple(branches), artifacts, worst


def _evaluation(test: Split) -> Split:
    if len(test.y) <= EVALUATION_MAX:
        return test
    rows, _ = stratified(test.y, EVALUATION_MAX, EVALUATION_SEED)
    return Split(test.x[rows], test.y[rows])


def _facts(settings: TrainSettings, passes: int, steps: int, data: Dataset) -> dict[str, Any]:
    """What the manifest says of the training: only what the recipe decides, so that the id is stable."""
    return {"settings": settings._asdict(), "passes": passes, "steps": steps,
            "samples": {"train": len(data.train.y), "val": len(data.val.y), "test": len(data.test.y)}}
