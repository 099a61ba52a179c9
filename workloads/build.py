"""build_bundle: from a recipe to a bundle with policies; train, recalibrate, export, check, write. Cached by content.

Called by `edgefleet build` and `run`. What exists is reused without importing torch; a killed training goes on from
its checkpoint. Only validation data reach the manifest and the policies; the test split goes in as samples, unread.
"""
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from device_agents.seams import UserError
from device_agents.wire import Branch, BranchBundle, canonical_json
from workloads.branches import BranchSpec, check, parent, trained
from workloads.bundle import BundleFolder, find_bundle, recipe_path, write_bundle, write_file, write_policy
from workloads.checked import load_checked
from workloads.evaluation import evaluation_samples
from workloads.recipe import Recipe, load_plugin, load_task
from workloads.seams import Dataset, Method, Model, Progress, Report, Task
from workloads.settings import TrainSettings, resolve

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

    Raises UserError: unknown names or settings, missing or malformed data, a network that cannot take the task's
    samples, a diverging training, an export that differs.
    """
    began = time.monotonic()
    log: list[str] = []
    offline: dict[str, Method] = {name: load_plugin("methods", name, Method, plugin_dirs)() for name in methods}
    folder = find_bundle(home, recipe, plugin_dirs)
    reused = folder is not None
    if folder is None:
        pointer = recipe_path(home, recipe, plugin_dirs)    # before the build: sources may be edited meanwhile
        folder = _build(home, recipe, recipe.weights_digest(plugin_dirs), progress, plugin_dirs, log)
        write_file(pointer, (canonical_json({"bundle": folder.bundle.id}) + "\n").encode("ascii"))
    else:
        log.append(f"reused bundle {folder.bundle.id[:12]}")
    for name, method in offline.items():
        policy = method.policy(folder.bundle)
        if folder.policies.get(name) != policy:
            folder = write_policy(folder, name, policy)
            log += [f"policy for {name}: {canonical_json(policy)}", *method.notes(folder.bundle)]
    return BuildResult(folder, reused, time.monotonic() - began, tuple(log))


def _build(home: Path, recipe: Recipe, weights: str, progress: Report, plugin_dirs: Sequence[str],
           log: list[str]) -> BundleFolder:
    # torch's threads spin while they wait for each other; on a machine that is busy otherwise that costs a factor of 5.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from workloads import train
    from workloads.joint_cost import joint_flops
    from workloads.parent import load_weights, save_weights

    task = load_task(recipe.task, plugin_dirs)
    model: Model = load_plugin("models", recipe.model, Model, plugin_dirs)()
    settings = resolve(model.training, recipe.training)
    data = load_checked(recipe.task, task)
    checkpoint = home / "cache" / f"train-{weights}.pt"
    torch.manual_seed(recipe.seed)
    specs = model.branches()
    net = _network(recipe, task, model, trained(check(specs, specs[0].stages)), settings)
    kept = load_weights(home, weights, net)
    if kept is None:
        run = train.fit(net, train.joint_loss(net, task.shape, settings), data.train, settings, recipe.seed, progress,
                        checkpoint, task.augment)
        save_weights(home, weights, net, run)
        checkpoint.unlink(missing_ok=True)
        if run.resumed_epoch:
            log.append(f"training went on from epoch {run.resumed_epoch + 1}")
    else:
        run = kept
        log.append(f"reused the trained weights {weights[:12]}; exporting them anew")
    branches, artifacts, worst = _export(net, specs, task, data, progress)
    log.append(f"exported {len(branches)} branches; largest difference from torch {worst:.1e}")
    flops = joint_flops(net, task.shape, settings, len(data.train.y))
    bundle = BranchBundle(
        id="", task=recipe.task, model=recipe.model, seed=recipe.seed, classes=task.classes, shape=task.shape,
        dtype="float32", samples="", labels="", count=0, branches=branches,
        training=_facts(settings, run.passes, run.steps, flops, data))
    return write_bundle(home, bundle, artifacts, evaluation_samples(data.test), {
        **run._asdict(), "weights": weights, "torch": torch.__version__, "threads": torch.get_num_threads(),
        "export_worst": worst})


def _network(recipe: Recipe, task: Task, model: Model, specs: Sequence[BranchSpec], settings: TrainSettings) -> Any:
    """The untrained network. Raises UserError when a branch cannot take the samples that it is to be trained on."""
    import torch

    shape, why = task.shape, ""
    try:
        net = model.build(shape, task.classes, specs)
        with torch.no_grad():
            net.eval()(torch.zeros(1, *shape), specs)
            if settings.half_epochs:
                shape = (shape[0], *(max(1, size // 2) for size in shape[1:]))
                why = " at half resolution, which training.half_epochs asks for"
                net(torch.zeros(1, *shape), specs)
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(f"{recipe.model} cannot take samples of {recipe.task} ({'x'.join(map(str, shape))}{why}): "
                        f"{str(error).splitlines()[0]}. Choose another model for this task") from None
    return net


def _export(net: Any, specs: Sequence[BranchSpec], task: Task, data: Dataset,
            progress: Report) -> tuple[tuple[Branch, ...], dict[str, bytes], float]:
    """Every branch recalibrated, judged on validation data, exported and checked; then what is made from those."""
    from workloads import export, quantise, size, train

    branches: dict[str, Branch] = {}
    artifacts: dict[str, bytes] = {}
    worst, began = 0.0, time.monotonic()
    for number, spec in enumerate(sorted(specs, key=lambda one: one.precision != "float32"), 1):
        if spec.precision == "float32":
            plain = net.extract(spec)
            train.recalibrate(plain, data.train)
            cost = size.measure(plain, task.shape)
            artifacts[spec.id] = export.to_onnx(plain, task.shape)
            worst = max(worst, export.check_same(artifacts[spec.id], plain, data.val.x[:CHECK_SAMPLES], spec.id))
            branches[spec.id] = Branch(spec.id, "", train.accuracy(plain, data.val), cost.macs, cost.params, 0,
                                       spec.precision, spec.kind)
        else:
            source = parent(spec, specs).id
            artifacts[spec.id] = quantise.to_int8(artifacts[source], data.train, spec.id)
            branches[spec.id] = branches[source]._replace(
                id=spec.id, accuracy=quantise.accuracy_of(artifacts[spec.id], data.val), precision=spec.precision,
                kind=spec.kind)
        per_s = number / max(1e-9, time.monotonic() - began)
        progress(Progress("export", number, len(specs), per_s, (len(specs) - number) / per_s, spec.id))
    return tuple(branches[spec.id] for spec in specs), artifacts, worst


def _facts(settings: TrainSettings, passes: int, steps: int, flops: float, data: Dataset) -> dict[str, Any]:
    """What the manifest says of the training: only what the recipe decides, so that the id is stable."""
    return {"settings": settings._asdict(), "passes": passes, "steps": steps, "flops": flops,
            "samples": {"train": len(data.train.y), "val": len(data.val.y), "test": len(data.test.y)}}
