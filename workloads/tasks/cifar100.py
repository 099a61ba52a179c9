"""Task cifar100: 60,000 colour images of 32x32 in 100 classes, from the published `cifar-100-python` folder.

Cite A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Fine labels. The published test file
is the test split; 5,000 of the 50,000 training images, stratified with a fixed seed, are the validation split.
"""
from typing import Any

from device_agents.wire import sha256_of
from workloads.cifar_files import read_images
from workloads.data_folder import present, published_folder
from workloads.seams import Dataset, Task
from workloads.splits import held_out

FOLDER = "cifar-100-python"
#: md5 of each file, as published with the data set's loaders
DIGESTS = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
VALIDATION, SPLIT_SEED = 5000, 20_241_130


class Cifar100(Task):
    classes = 100
    shape = (3, 32, 32)
    augment: dict[str, Any] = {"shift": 4, "flip": True}  # noqa: RUF012
    archive = ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", FOLDER)

    def checksum(self) -> str:
        """Of the published digests: load() accepts no other files."""
        present("cifar100", _folder(), DIGESTS)
        return sha256_of(DIGESTS)

    def load(self) -> Dataset:
        folder = _folder()
        x, y = read_images("cifar100", folder, DIGESTS, ["train"], b"fine_labels")
        test_x, test_y = read_images("cifar100", folder, DIGESTS, ["test"], b"fine_labels")
        return held_out(x, y, test_x, test_y, VALIDATION, SPLIT_SEED, MEAN, STD)


def _folder() -> Any:
    return published_folder("cifar100", FOLDER, "fetch it with: edgefleet data fetch cifar100")
