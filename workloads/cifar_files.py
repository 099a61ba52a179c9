"""The published CIFAR files: pickles of 3,072-byte rows, read without trusting them.

Called by the tasks cifar10 and cifar100. The unpickler admits numpy arrays and plain containers and nothing else, so
that a file cannot run code; a file whose md5 is not the published one is refused before it is opened.
"""
import io
import pickle
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np

from device_agents.seams import UserError
from workloads.data_folder import present
from workloads.seams import Bytes, Labels

#: The only names that the published files refer to.
ADMITTED = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"refers to {module}.{name}, which no CIFAR file does")
        if name == "_reconstruct":
            from numpy._core.multiarray import _reconstruct
            return _reconstruct
        return getattr(np, name)


def read_pickle(data: bytes, where: str) -> dict[bytes, Any]:
    """One file's dict, with bytes as keys. Raises UserError for anything but arrays and plain containers."""
    try:
        value = _Restricted(io.BytesIO(data), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise UserError(f"{where} is no CIFAR file: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{where} is no CIFAR file: it holds a {type(value).__name__}")
    return value


def read_images(task: str, folder: Path, digests: Mapping[str, str], names: list[str],
                key: bytes) -> tuple[Bytes, Labels]:
    """Images (n, 3, 32, 32) and labels of the named files, joined. `digests` maps file name to its published md5.

    Raises UserError: a file is missing, is not the published one, or does not hold what it should.
    """
    images, labels = [], []
    for path in present(task, folder, names):
        data = path.read_bytes()
        if md5(data, usedforsecurity=False).hexdigest() != digests[path.name]:
            raise UserError(f"task {task}: {path} is not the published file (its md5 differs); fetch it again")
        value = read_pickle(data, str(path))
        images.append(np.asarray(value[b"data"], np.uint8).reshape(-1, 3, 32, 32))
        labels.append(np.asarray(value[key], np.int64))
    return np.concatenate(images), np.concatenate(labels)
