"""Task digits: 1,797 real handwritten digits (8x8, 0..16), shipped with scikit-learn, upscaled to 1x32x32.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (the test part, which
scikit-learn holds). Splits are stratified by class with a fixed seed: 1,077 train, 360 validation, 360 test.
Needs no download. Used by build.py; refuses a data file that is not the known one.
"""
import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from device_agents.seams import UserError
from workloads.seams import Dataset, Floats, Labels, Split, Task
from workloads.splits import stratified

SPLIT_SEED = 20_261_121
SIDE = 32
#: sha256 of the pixels and labels as int64, so that another version of scikit-learn cannot change the task unseen.
CONTENT = "267f86e03ae0481efa68bbcf4dcd04133dbc88a3145b0551cb2221500a4881e0"


class Digits(Task):
    classes = 10
    shape = (1, SIDE, SIDE)
    augment: dict[str, int] = {}  # noqa: RUF012

    def checksum(self) -> str:
        return hashlib.sha256(_source().read_bytes()).hexdigest()

    def load(self) -> Dataset:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        pixels, labels = pixels.astype(np.int64), labels.astype(np.int64)
        found = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
        if found != CONTENT:
            raise UserError(f"scikit-learn's digits are not the known ones (sha256 {found[:12]}, expected "
                            f"{CONTENT[:12]}); install the scikit-learn of constraints.txt")
        return _splits(_upscaled(pixels), labels)


def _source() -> Path:
    spec = importlib.util.find_spec("sklearn")      # finds the package without the second that an import takes
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    raise UserError("task digits needs scikit-learn with its data files; run: make setup")


def _upscaled(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> Floats:
    """(n, 64) of 0..16 to (n, 1, 32, 32), bilinear with aligned corners, zero mean and unit variance overall."""
    small = pixels.reshape(-1, 8, 8).astype(np.float64) / 16.0
    at = np.linspace(0.0, 7.0, SIDE)
    low = np.minimum(at.astype(int), 6)
    part = at - low
    rows = small[:, low] * (1 - part)[:, None] + small[:, low + 1] * part[:, None]
    full = rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part
    return ((full - 0.3388) / 0.3228).astype(np.float32)[:, None]


def _splits(x: Floats, y: Labels) -> Dataset:
    test, rest = stratified(y, 360, SPLIT_SEED)
    val_at, train_at = stratified(y[rest], 360, SPLIT_SEED + 1)
    val, train = rest[val_at], rest[train_at]
    return Dataset(Split(x[train], y[train]), Split(x[val], y[val]), Split(x[test], y[test]))
