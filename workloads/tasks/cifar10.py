"""Task cifar10: 60,000 colour images of 32x32 in 10 classes, from the published `cifar-10-batches-py` folder.

Cite A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The published test batch is the
test split; 5,000 of the 50,000 training images, stratified with a fixed seed, are the validation split.
"""
from typing import Any

from device_agents.wire import sha256_of
from workloads.cifar_files import read_images
from workloads.data_folder import present, published_folder
from workloads.seams import Dataset, Task
from workloads.splits import held_out

FOLDER = "cifar-10-batches-py"
#: md5 of each file, as published with the data set's loaders
DIGESTS = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f", "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751", "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb", "test_batch": "40351d587109b95175f43aff81a1287e",
}
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
VALIDATION, SPLIT_SEED = 5000, 20_241_130


class Cifar10(Task):
    classes = 10
    shape = (3, 32, 32)
    augment: dict[str, Any] = {"shift": 4, "flip": True}  # noqa: RUF012
    archive = ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", FOLDER)

    def checksum(self) -> str:
        """Of the published digests: load() accepts no other files."""
        present("cifar10", _folder(), DIGESTS)
        return sha256_of(DIGESTS)

    def load(self) -> Dataset:
        folder = _folder()
        x, y = read_images("cifar10", folder, DIGESTS, [f"data_batch_{number}" for number in range(1, 6)], b"labels")
        test_x, test_y = read_images("cifar10", folder, DIGESTS, ["test_batch"], b"labels")
        return held_out(x, y, test_x, test_y, VALIDATION, SPLIT_SEED, MEAN, STD)


def _folder() -> Any:
    return published_folder("cifar10", FOLDER, "fetch it with: edgefleet data fetch cifar10")
