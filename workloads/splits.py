"""Fixed stratified splits: which samples belong where, decided by a seed written into the task's file.

Used by tasks and, for evaluation samples, by bundle.py. Pure numpy, and independent of the order of any dictionary.
"""
from collections.abc import Sequence

import numpy as np

from workloads.seams import Bytes, Dataset, Floats, Labels, Split


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


def held_out(x: Bytes, y: Labels, test_x: Bytes, test_y: Labels, validation: int, seed: int,
             mean: Sequence[float], std: Sequence[float]) -> Dataset:
    """A published training and test set of images, with `validation` stratified samples taken from the former.

    Training images that are byte for byte in the test set, or twice in the training set, are dropped first: CIFAR holds
    a few (Barz, Denzler, "Do We Train on Test Data?", J. Imaging 2020). Images become float32, `normalised`.
    """
    seen = {image.tobytes() for image in test_x}
    fresh = []
    for row, image in enumerate(x):
        data = image.tobytes()
        if data not in seen:
            seen.add(data)
            fresh.append(row)
    x, y = x[fresh], y[fresh]
    val, train = stratified(y, validation, seed)
    return Dataset(Split(normalised(x[train], mean, std), y[train]), Split(normalised(x[val], mean, std), y[val]),
                   Split(normalised(test_x, mean, std), test_y))


def normalised(images: Bytes, mean: Sequence[float], std: Sequence[float]) -> Floats:
    """(n, c, h, w) of 0..255 to float32 with the given mean and deviation a channel, on the scale 0..1."""
    shape = (1, len(mean), 1, 1)
    scale = np.float32(255.0) * np.asarray(std, np.float32).reshape(shape)
    offset = (np.asarray(mean, np.float32) / np.asarray(std, np.float32)).reshape(shape)
    return np.asarray(images.astype(np.float32) / scale - offset, np.float32)
