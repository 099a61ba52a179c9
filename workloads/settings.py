"""Training settings: the defaults, what a model overrides, what a campaign overrides, checked. No torch.

Called by recipe.py and build.py. Refuses unknown keys (with the nearest miss) and values that cannot work.
"""
import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from device_agents.seams import UserError


class TrainSettings(NamedTuple):
    """All that steers a training run."""

    epochs: int = 30
    batch: int = 64
    lr: float = 0.1                     # at its peak
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.1                 # share of the run during which lr rises
    label_smoothing: float = 0.0
    clip: float = 5.0                   # largest gradient norm
    sampled: int = 2                    # random branches a step, beside the full and the smallest one
    distill: float = 0.5                # share of the full network's outputs in a branch's loss; the rest is labels
    branch_weight: float = 1.0          # of a branch's loss against the full one's
    half_epochs: int = 0                # first epochs at half resolution: four times cheaper for images
    full_share: float = 0.0             # share of a joint run's epochs, the first, that train the full branch alone
    tail_epochs: int = 0                # last epochs: lr rises and falls anew, each step trains every exit and width
    tail_lr: float = 0.05               # at its peak
    tail_weight: float = 0.3            # `branch_weight` in the tail; twice that for operators, which are sampled


RANGES = {
    "epochs": (1, 10_000), "batch": (2, 65_536), "lr": (1e-7, 100.0), "momentum": (0.0, 0.999),
    "weight_decay": (0.0, 1.0), "warmup": (0.0, 0.9), "label_smoothing": (0.0, 0.9), "clip": (1e-3, 1e6),
    "sampled": (0, 64), "distill": (0.0, 1.0), "branch_weight": (0.0, 100.0), "half_epochs": (0, 10_000),
    "full_share": (0.0, 0.9), "tail_epochs": (0, 10_000), "tail_lr": (1e-7, 100.0), "tail_weight": (0.0, 100.0),
}


def resolve(*layers: Mapping[str, Any]) -> TrainSettings:
    """Defaults overridden by each layer in turn (model, then campaign). Raises UserError naming the key."""
    values: dict[str, Any] = TrainSettings()._asdict()
    for layer in layers:
        for key, value in layer.items():
            values[key] = _checked(key, value)
    return TrainSettings(**values)


def _checked(key: str, value: Any) -> int | float:
    if key not in RANGES:
        near = difflib.get_close_matches(key, RANGES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"unknown training setting {key!r}.{hint} There is: {', '.join(sorted(RANGES))}")
    low, high = RANGES[key]
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise UserError(f"training.{key} = {value!r}: it must be {kind} from {low} to {high}")
    return value if whole else float(value)
