"""Task har: 9 inertial signals of 128 steps at 50 Hz, six activities, from the published `UCI HAR Dataset` folder.

Cite D. Anguita et al., "Human Activity Recognition on Smartphones using a Multiclass Hardware-Friendly Support Vector
Machine", IWAAL 2012. Its terms forbid commercial use. Shape (9, 1, 128). The published test part, of other people, is
the test split; of the training part the last 15 % of each class in file order are the validation split, because
windows overlap by half and a random split would put halves of one movement on both sides. Reads a complete folder or
a subset with the same files; which one it was, the checksum tells.
"""
from pathlib import Path

import numpy as np

from device_agents.seams import UserError
from workloads.data_folder import content_digest, present, published_folder
from workloads.seams import Dataset, Floats, Labels, Split, Task

FOLDER = "UCI HAR Dataset"
SIGNALS = tuple(f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
STEPS = 128
VALIDATION = 0.15
AGAIN = "unpack the data set again"


class Har(Task):
    classes = 6
    shape = (len(SIGNALS), 1, STEPS)

    def checksum(self) -> str:
        return content_digest(present("har", _folder(), [*_names("train"), *_names("test")]))

    def load(self) -> Dataset:
        x, y = _read("train")
        test_x, test_y = _read("test")
        mean, std = x.mean(axis=(0, 2, 3), keepdims=True), x.std(axis=(0, 2, 3), keepdims=True)
        x, test_x = (x - mean) / std, (test_x - mean) / std
        late = np.zeros(len(y), dtype=bool)
        for value in range(self.classes):
            rows = np.flatnonzero(y == value)
            late[rows[round(len(rows) * (1 - VALIDATION)):]] = True
        return Dataset(Split(x[~late], y[~late]), Split(x[late], y[late]), Split(test_x, test_y))


def _folder() -> Path:
    return published_folder("har", FOLDER, "download 'Human Activity Recognition Using Smartphones' from the UCI "
                                           "Machine Learning Repository and unpack it there")


def _names(part: str) -> list[str]:
    return [f"{part}/y_{part}.txt", *(f"{part}/Inertial Signals/{name}_{part}.txt" for name in SIGNALS)]


def _read(part: str) -> tuple[Floats, Labels]:
    paths = present("har", _folder(), _names(part))
    tables = []
    for path in paths:
        try:
            tables.append(np.loadtxt(path, dtype=np.float32, ndmin=1))
        except ValueError as error:
            raise UserError(f"task har: {path} is damaged: {error}; {AGAIN}") from None
    labels = tables[0]
    if labels.ndim != 1 or not np.isin(labels, range(1, Har.classes + 1)).all():
        raise UserError(f"task har: {paths[0]} is damaged: each line must be one whole number from 1 to {Har.classes}; "
                        f"{AGAIN}")
    y = labels.astype(np.int64) - 1
    for path, table in zip(paths[1:], tables[1:], strict=True):
        if table.shape != (len(y), STEPS):
            raise UserError(f"task har: {path} has shape {table.shape}, expected {(len(y), STEPS)}; {AGAIN}")
        if not np.isfinite(table).all():
            row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0]) + 1
            raise UserError(f"task har: {path} is damaged: row {row} holds a number that is not finite; {AGAIN}")
    return np.stack(tables[1:], axis=1)[:, :, None], y
