"""What a network, or one branch of it, costs on paper: parameters, MACs, storage, activation memory. No training.

Called by `edgefleet describe`. Refuses operators, exits and widths that the network does not have, and inputs that it
cannot take.
"""
import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from device_agents.seams import UserError
from workloads.branches import BranchSpec, uniform
from workloads.models.operators import OPERATORS
from workloads.recipe import load_plugin
from workloads.seams import Model
from workloads.size import CONVENTIONS, Size, measure


class Description(NamedTuple):
    """`replaced` = stages that an operator replaces. Sizes are for one sample, in float32, before export."""

    model: str
    branch: str
    replaced: tuple[int, ...]
    classes: int
    shape: tuple[int, ...]
    convention: str
    size: Size

    def to_json(self) -> dict[str, Any]:
        """Flat, with units in the names."""
        return {"model": self.model, "branch": self.branch, "replaced_stages": list(self.replaced),
                "classes": self.classes, "input": "x".join(map(str, self.shape)), "macs_convention": self.convention,
                "params": self.size.params, "macs": self.size.macs, "storage_b": self.size.storage_b,
                "activations_b": self.size.activations_b}


def describe(model: str, branch: str = "full", classes: int = 10, shape: tuple[int, ...] = (3, 32, 32),
             convention: str = "ours", plugin_dirs: Sequence[str] = ()) -> Description:
    """Describe one branch of a model. `branch` is a branch's id, or an operator, which then fills every slot.

    Raises UserError: no such model, branch or convention, or an input of the wrong shape.
    """
    if convention not in CONVENTIONS:
        raise UserError(f"no convention {convention!r}; there is: {', '.join(CONVENTIONS)}")
    if classes < 1:
        raise UserError(f"classes must be at least 1, is {classes}")
    found: Model = load_plugin("models", model, Model, plugin_dirs)()
    spec = _spec(found, model, branch)
    full = found.branches()[0]
    try:
        with torch.random.fork_rng():
            net = found.build(shape, classes, (full,) if spec == full else (full, spec))
            size = measure(net.extract(spec), shape, convention)
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(f"{model} cannot take an input of {'x'.join(map(str, shape))}: {error}") from None
    return Description(model, spec.id, tuple(stage for stage, _ in spec.operators), classes, shape, convention, size)


def parse_shape(text: str) -> tuple[int, ...]:
    """'3x32x32' to (3, 32, 32). Raises UserError."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"input {text!r}: write channels x height x width, for example 3x32x32")
    return tuple(int(part) for part in parts)


def _spec(model: Model, name: str, branch: str) -> BranchSpec:
    specs = {spec.id: spec for spec in model.branches()}
    if branch in specs:
        return specs[branch]
    if branch in OPERATORS:
        return uniform(model.branches()[0].stages, branch, model.slots)
    allowed = [*specs, *(operator for operator in OPERATORS if operator not in specs)]
    near = difflib.get_close_matches(branch, allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{name} has no branch or operator {branch!r}.{hint} There is: {', '.join(allowed)}")
