"""A task's data, looked at before anybody uses them: a user's task may say one thing and give another.

Called by build.py and import_onnx.py. Refuses, with the names of task and split, what is not three Splits of float32
samples of the task's shape and int64 class numbers, all finite and within range. Decides nothing by what it sees.
"""
import numpy as np

from device_agents.seams import UserError
from workloads.seams import Dataset, Split, Task


def load_checked(name: str, task: Task) -> Dataset:
    """task.load(), when it gives what seams.py asks for. Raises UserError, also what load() itself raises as one."""
    data = task.load()
    if not isinstance(data, Dataset):
        raise UserError(f"task {name}: load() gave a {type(data).__name__}; it must give a Dataset(train, val, test)")
    for part, split in data._asdict().items():
        problem = _problem(split, task)
        if problem:
            raise UserError(f"task {name}, split {part}: {problem}")
    return data


def _problem(split: Split, task: Task) -> str:
    """'' when the split is as it must be."""
    if not isinstance(split, Split):
        return f"it is a {type(split).__name__}, not a Split(x, y)"
    for what, values, kind in (("x", split.x, np.float32), ("y", split.y, np.int64)):
        if not isinstance(values, np.ndarray) or values.dtype != kind:
            found = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
            return f"{what} is {found}; it must be a numpy array of {np.dtype(kind).name}"
    count = len(split.y) if split.y.ndim == 1 else 0
    if not count:
        return f"y has shape {split.y.shape}; it must be (n,), one class number a sample, and n at least 1"
    if split.x.shape != (count, *task.shape):
        return f"x has shape {split.x.shape}; {count} labels and the task ask for {(count, *task.shape)}"
    if split.y.min() < 0 or split.y.max() >= task.classes:
        return f"y goes from {split.y.min()} to {split.y.max()}; with {task.classes} classes it must be within 0 and " \
               f"{task.classes - 1}"
    if not np.isfinite(split.x).all():
        return "x holds a number that is not finite"
    return ""
