"""A task and small networks as a user's plug-ins, for tests that build, derive and export: seconds of training."""
from collections.abc import Mapping
from pathlib import Path

HALVES = '''"""Two classes, a bright top or bottom. Its test split can be sealed: whoever looks at it then, fails."""
import os
import numpy as np
from workloads.seams import Dataset, Split, Task

class Sealed:
    def __getattribute__(self, name):
        raise AssertionError("the test split was read: " + name)

    __getitem__ = __iter__ = __len__ = __getattribute__

class Halves(Task):
    classes = 2
    shape = (1, 8, 8)

    def checksum(self):
        return "0" * 64

    def load(self):
        test = Sealed() if os.environ.get("TEST_SPLIT_SEALED") else made(2, 24)
        return Dataset(made(0, 96), made(1, 32), test)

def made(seed, count):
    x = np.random.default_rng(seed).standard_normal((count, 1, 8, 8)).astype(np.float32)
    y = (np.arange(count) % 2).astype(np.int64)
    x[y == 0, :, :4] += 3
    x[y == 1, :, 4:] += 3
    return Split(x, y)
'''
_TWO_STAGES = '''"""Two stages."""
from workloads.branches import early_exit, eight_bit, full, narrow, operators, uniform
from workloads.models.operators import OPERATORS, chain
from workloads.seams import Model
from workloads.supernet import Shape, residual

class TwoStages(Model):
    training = %(training)r
    slots = %(slots)r

    def branches(self):
        return (%(branches)s)

    def build(self, shape, classes, specs):
        look = Shape(4, (4, 8), blocks=(1, 1), strides=((1, 1), (2, 2)), kernel=(3, 3),
                     operator=lambda name, stage: chain(name, (4, 4 * stage), (stage, stage)))
        return residual(look, specs, shape[0], classes)
'''
EVERY_KIND = 'full(2), eight_bit(2), early_exit(1), narrow(0.5, 2), operators(2, stage2="fire"),'


def two_stages(branches: str = EVERY_KIND, slots: tuple[int, ...] = (2,), epochs: int = 6) -> str:
    """The text of a model with these branches, by default one of every kind."""
    training = {"epochs": epochs, "batch": 16, "lr": 0.1, "sampled": 1}
    return _TWO_STAGES % {"training": training, "slots": slots, "branches": branches}


def write_plugins(folder: Path, texts: Mapping[str, str]) -> str:
    """A folder of plug-ins, from texts by path; the folder as a campaign names it."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)
