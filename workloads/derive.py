"""Derived bundles: a parent's full branch and samples as they are, with further branches made of the parent's weights.

Called by offline halves that make something for one device. The full branch and the samples keep their bytes, so that
the parent's rates and deadlines hold and both bundles are judged on the same samples; costs go by bundle, so that each
derived one is profiled itself. The manifest names the parent under `training`. The test split is never loaded: its
samples are copied from the parent.
"""
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from device_agents.seams import UserError
from device_agents.wire import Branch
from workloads import export, size, train
from workloads.bundle import BundleFolder, write_bundle
from workloads.seams import Dataset, Split

KIND = "derived"                                # of a branch that exists in no parent, whatever its path
CHECK_SAMPLES = 8


def exported(plain: nn.Module, name: str, shape: tuple[int, ...], data: Dataset) -> tuple[Branch, bytes]:
    """A plain network as a branch: measured, judged on validation data, exported, checked. Raises UserError."""
    artifact = export.to_onnx(plain, shape)
    export.check_same(artifact, plain, data.val.x[:CHECK_SAMPLES], name)
    cost = size.measure(plain, shape)
    return Branch(name, "", train.accuracy(plain, data.val), cost.macs, cost.params, 0, "float32", KIND), artifact


def derive(home: Path, parent: BundleFolder, branches: Sequence[Branch], artifacts: Mapping[str, bytes],
           facts: Mapping[str, Any], beside: Mapping[str, Any]) -> BundleFolder:
    """The parent's full branch and `branches`, whose files are `artifacts` by id, as a bundle of their own.

    `facts` go into the manifest and so into the id: only what the parent and the case decide. `beside` goes into
    training.json, which the id does not cover: seconds, curves. Raises UserError: a disk that is full, a name twice.
    """
    full = full_branch(parent)
    if full.id in artifacts:
        raise UserError(f"a derived branch may not be called {full.id!r}, as the parent's full branch is")
    bundle = parent.bundle._replace(id="", branches=(full, *branches), training={"parent": parent.bundle.id, **facts})
    files = {full.id: parent.files[full.artifact].read_bytes(), **artifacts}
    return write_bundle(home, bundle, files, evaluation(parent), {"parent": parent.bundle.id, **beside})


def full_branch(parent: BundleFolder) -> Branch:
    """Raises UserError for a bundle without one (imported files need not have any)."""
    found = [branch for branch in parent.bundle.branches if branch.kind == "full"]
    if not found:
        raise UserError(f"bundle {parent.bundle.id[:12]} has no branch of kind 'full'; nothing can be derived from it")
    return found[0]


def evaluation(parent: BundleFolder) -> Split:
    """The parent's evaluation samples, in its order, to be written again."""
    bundle = parent.bundle
    samples = np.frombuffer(parent.files[bundle.samples].read_bytes(), np.dtype(bundle.dtype).newbyteorder("<"))
    labels = json.loads(parent.files[bundle.labels].read_text(encoding="ascii"))
    return Split(samples.reshape(bundle.count, *bundle.shape), np.asarray(labels, np.int64))
