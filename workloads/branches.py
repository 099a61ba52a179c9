"""The multi-branch vocabulary: what makes one branch of a network differ from another.

A branch is a path through the shared network: how many stages it runs (its exit), the slice of channels it uses
(its width), and which compression operator replaces which stage. Models list them, supernet.py runs and extracts
them, bundles carry their names. Refuses contradictory sets early. No torch.
"""
from collections.abc import Sequence
from typing import NamedTuple

from device_agents.seams import UserError

KINDS = ("full", "exit", "width", "width+exit", "operator", "precision", "imported")


class BranchSpec(NamedTuple):
    """One path. `stages` run before the head; `operators` = ((stage number from 1, operator name), ...)."""

    id: str
    kind: str
    stages: int
    width: float = 1.0
    operators: tuple[tuple[int, str], ...] = ()
    precision: str = "float32"

    def variant(self, stage: int) -> str:
        """Name of the operator in `stage` (from 1), "" for the stage's own residual blocks."""
        return dict(self.operators).get(stage, "")


def full(stages: int) -> BranchSpec:
    """The whole network, teacher of all others."""
    return BranchSpec("full", "full", stages)


def early_exit(stage: int) -> BranchSpec:
    """Leave after `stage`: depth scaling."""
    return BranchSpec(f"exit{stage}", "exit", stage)


def narrow(width: float, stages: int, depth: int | None = None) -> BranchSpec:
    """The leading `width` of all channels; with `depth`, leaving after that stage as well."""
    name = f"width{round(100 * width):02d}"
    if depth is None or depth == stages:
        return BranchSpec(name, "width", stages, width)
    return BranchSpec(f"{name}-exit{depth}", "width+exit", depth, width)


def operators(stages: int, **by_stage: str) -> BranchSpec:
    """Operators in named stages: `operators(4, stage3="dpconv", stage4="inception2")`."""
    chosen = tuple(sorted((int(stage.removeprefix("stage")), name) for stage, name in by_stage.items()))
    return BranchSpec("-".join(f"{name}-s{stage}" for stage, name in chosen), "operator", stages, 1.0, chosen)


def eight_bit(stages: int) -> BranchSpec:
    """The full network in 8-bit integers, quantised after training."""
    return BranchSpec("int8", "precision", stages, precision="int8")


def trained(specs: Sequence[BranchSpec]) -> tuple[BranchSpec, ...]:
    """The branches that training knows; the others are made from them."""
    return tuple(spec for spec in specs if spec.precision == "float32")


def uniform(stages: int, name: str, slots: Sequence[int]) -> BranchSpec:
    """The same operator in every slot of the network; called by the operator's name."""
    return BranchSpec(name, "operator", stages, 1.0, tuple((slot, name) for slot in sorted(slots)))


def check(specs: Sequence[BranchSpec], stages: int) -> tuple[BranchSpec, ...]:
    """The specs, when they make sense together. Raises UserError naming the first that does not."""
    if not specs or specs[0].kind != "full" or sum(spec.kind == "full" for spec in specs) != 1:
        raise UserError("a network needs exactly one branch of kind 'full', and it comes first")
    seen: set[str] = set()
    for spec in specs:
        if spec.id in seen:
            raise UserError(f"two branches are called {spec.id!r}")
        seen.add(spec.id)
        if spec.kind not in KINDS:
            raise UserError(f"branch {spec.id!r} is of unknown kind {spec.kind!r}; there is: {', '.join(KINDS)}")
        if not 1 <= spec.stages <= stages:
            raise UserError(f"branch {spec.id!r} leaves after stage {spec.stages}, but there are stages 1 to {stages}")
        if not 0 < spec.width <= 1:
            raise UserError(f"branch {spec.id!r} has width {spec.width}; it must lie in (0, 1]")
        for stage, name in spec.operators:
            if not 1 <= stage <= spec.stages:
                raise UserError(f"branch {spec.id!r} puts {name} in stage {stage}, which it does not run")
        if spec.precision != "float32" and not any(_path(spec) == _path(other) for other in trained(specs)):
            raise UserError(f"branch {spec.id!r} is a form of a float32 branch that is not in the set")
        if spec.operators and spec.width != 1:
            raise UserError(f"branch {spec.id!r} combines operators with a width; operators run at full width")
    return tuple(specs)


def parent(spec: BranchSpec, specs: Sequence[BranchSpec]) -> BranchSpec:
    """The float32 branch with the same path."""
    return next(other for other in trained(specs) if _path(other) == _path(spec))


def _path(spec: BranchSpec) -> tuple[object, ...]:
    return spec.stages, spec.width, spec.operators
