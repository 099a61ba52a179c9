"""Trained weights, kept by what shaped them: a new export needs no new training, and methods go on from the parent.

Written and read by build.py, read by offline halves (AdaDeep fine-tunes, AdaSpring recombines) and by measurements.
The weights are no part of a bundle, which only names them beside its manifest: devices need the branches alone.
"""
import os
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from device_agents.seams import UserError
from workloads.branches import check, trained
from workloads.bundle import BundleFolder, read_training
from workloads.recipe import load_plugin, load_task
from workloads.seams import Model
from workloads.supernet import SuperNet
from workloads.train import TrainLog


def weights_path(home: Path, digest: str) -> Path:
    return home / "cache" / "weights" / f"{digest}.pt"


def save_weights(home: Path, digest: str, net: nn.Module, log: TrainLog) -> None:
    """Whole or not at all. Raises UserError when the disk is full or the folder may not be written."""
    path = weights_path(home, digest)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"net": net.state_dict(), "log": log._asdict()}, part)
        part.replace(path)
    except (OSError, RuntimeError) as error:    # torch reports a full disk as a RuntimeError
        part.unlink(missing_ok=True)
        raise UserError(f"cannot keep the trained weights in {path}: {str(error).splitlines()[0]}") from None


def load_weights(home: Path, digest: str, net: nn.Module) -> TrainLog | None:
    """Put kept weights into `net` and say what they cost; None when there are none, or a damaged file."""
    path = weights_path(home, digest)
    try:
        value = torch.load(path, weights_only=True)
        net.load_state_dict(value["net"])
        log = TrainLog(**value["log"])
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, UnpicklingError):
        return None
    net.eval()
    return log


def load_parent(home: Path, folder: BundleFolder, plugin_dirs: Sequence[str] = ()) -> SuperNet:
    """The trained network behind a bundle, in eval mode. Raises UserError when its weights are gone or do not fit."""
    bundle = folder.bundle
    task = load_task(bundle.task, plugin_dirs)
    model: Model = load_plugin("models", bundle.model, Model, plugin_dirs)()
    specs = model.branches()
    net: SuperNet = model.build(task.shape, task.classes, trained(check(specs, specs[0].stages)))
    digest = str(read_training(folder).get("weights", ""))
    if not digest or load_weights(home, digest, net) is None:
        raise UserError(f"the trained weights of bundle {bundle.id[:12]} ({weights_path(home, digest or '?')}) are "
                        f"gone or do not fit; delete {folder.path} and build again")
    return net
