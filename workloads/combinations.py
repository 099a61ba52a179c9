"""Every network that a bundle's trained weights hold: its branches, and those between them that nobody trained.

A combination is a path (branches.py): an exit and a width that some branch has, and at full width an operator or none
in each slot, out of those that the SuperNet has weights for. One that is no branch has no head of its own and borrows
that of the branch most like it. Space hands them out as a sequence of small choices, for a search. Used by offline
halves.
"""
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from workloads.branches import BranchSpec
from workloads.size import measure
from workloads.supernet import SuperNet

Choice = tuple[int, ...]
#: ("stem", width) | (stage, variant, width) | ("head", stages, width)
PartKey = tuple[object, ...]
Parts = Mapping[PartKey, int]                   # multiply-accumulates by part


class Space:
    """Choice 0 is exit and width, then an operator for each slot, then one of each of `extras`, as option numbers.

    An extra is an action of the caller's own, with the values that it may take.
    """

    def __init__(self, net: SuperNet, extras: Mapping[str, Sequence[float]] | None = None) -> None:
        self.specs = net.specs
        self.shapes = tuple(dict.fromkeys((spec.stages, spec.width) for spec in net.specs))
        self.slots = tuple((number, ("", *sorted(stage.operators))) for number, stage in enumerate(net.stages, 1)
                           if len(stage.operators))
        self.extras = dict(extras or {})
        self.sizes = (len(self.shapes), *(len(names) for _, names in self.slots),
                      *(len(values) for values in self.extras.values()))

    def allowed(self, prefix: Choice) -> range:
        """Option numbers of the next choice; the first alone where an operator cannot be."""
        if 1 <= len(prefix) <= len(self.slots):
            stages, width = self.shapes[prefix[0]]
            if width != 1 or self.slots[len(prefix) - 1][0] > stages:
                return range(1)
        return range(self.sizes[len(prefix)])

    def every(self, prefix: Choice = ()) -> Iterator[Choice]:
        """All choices that begin with `prefix`."""
        if len(prefix) == len(self.sizes):
            yield prefix
            return
        for option in self.allowed(prefix):
            yield from self.every((*prefix, option))

    def spec(self, choice: Choice) -> BranchSpec:
        """The path, by the name of the branch that it is, or a new one; extras are no part of a path."""
        stages, width = self.shapes[choice[0]]
        chosen = tuple((number, names[option]) for (number, names), option in zip(self.slots, choice[1:], strict=False)
                       if option)
        names_of = [f"exit{stages}"] if stages < self.specs[0].stages else []
        name = "-".join([*names_of, *(f"{operator}-s{number}" for number, operator in chosen)])
        spec = BranchSpec(name, "operator", stages, width, chosen)
        return next((one for one in self.specs if _path(one) == _path(spec)), spec)

    def extra(self, choice: Choice) -> dict[str, float]:
        values = choice[1 + len(self.slots):]
        return {name: options[option] for (name, options), option in zip(self.extras.items(), values, strict=True)}


def inherit(net: SuperNet, spec: BranchSpec) -> nn.Sequential:
    """A plain copy of a combination with the weights that training left. Its BatchNorm needs recalibration."""
    return net.extract(spec._replace(id=head_of(net.specs, spec).id))


def head_of(specs: Sequence[BranchSpec], spec: BranchSpec) -> BranchSpec:
    """The branch of the same exit and width that agrees in most stages, counted from the head; the first of equals."""
    same = [one for one in specs if (one.stages, one.width) == (spec.stages, spec.width)]
    return max(same, key=lambda one: [one.variant(stage) == spec.variant(stage) for stage in range(spec.stages, 0, -1)])


def parts_of(plain: nn.Sequential, spec: BranchSpec, shape: tuple[int, ...]) -> Parts:
    """Multiply-accumulates of a plain network's stem, stages and head."""
    x, parts = torch.zeros(1, *shape), {}  # type: torch.Tensor, dict[PartKey, int]
    for number, module in enumerate(plain.eval()):
        key: PartKey = ("head", spec.stages, spec.width)
        if number == 0:
            key = ("stem", spec.width)
        elif number <= spec.stages:
            key = (number, spec.variant(number), spec.width)
        parts[key] = parts.get(key, 0) + measure(module, tuple(x.shape[1:])).macs
        with torch.no_grad():
            x = module(x)
    return parts


def _path(spec: BranchSpec) -> tuple[object, ...]:
    return spec.stages, spec.width, spec.operators, spec.precision
