"""Fixed stratified splits: which samples belong where, decided by a seed written into the task's file.

Used by tasks and, for evaluation samples, by bundle.py. Pure numpy, and independent of the order of any dictionary.
"""
import numpy as np

from workloads.seams import Labels


def stratified(labels: Labels, count: int, seed: int) -> tuple[Labels, Labels]:
    """Positions of `count` samples with the class proportions of `labels`, and of the rest; both ascending.

    Fractions are rounded down, and what is then missing goes to the classes with the largest remainders (the lower
    class first), so that the sizes are exact. Raises ValueError when `count` is not within 0..len(labels).
    """
    if not 0 <= count <= len(labels):
        raise ValueError(f"cannot take {count} of {len(labels)} samples")
    rng = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / max(1, len(labels)))
    take = np.floor(exact).astype(int)
    for index in np.argsort(take - exact, kind="stable")[:count - int(take.sum())]:
        take[index] += 1
    chosen = np.zeros(len(labels), dtype=bool)
    for value, size in zip(classes, take, strict=True):
        chosen[rng.permutation(np.flatnonzero(labels == value))[:size]] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)
