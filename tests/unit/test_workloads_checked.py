"""What a user's task gives is looked at before a network is trained on it, and refused by name where it cannot be."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agents.seams import UserError
from tests.network_kit import HALVES, two_stages, write_plugins
from workloads.build import build_bundle
from workloads.checked import load_checked
from workloads.recipe import Recipe
from workloads.seams import Dataset, Split, Task

GOOD = Split(np.zeros((4, 1, 8, 8), np.float32), np.array([0, 1, 0, 1]))


class Given(Task):
    classes, shape = 2, (1, 8, 8)

    def __init__(self, data: Any) -> None:
        self.data = data

    def load(self) -> Dataset:
        return self.data  # type: ignore[no-any-return]


def test_good_data_come_through_as_they_are() -> None:
    data = Dataset(GOOD, GOOD, GOOD)
    assert load_checked("doors", Given(data)) is data


@pytest.mark.parametrize(("bad", "says"), [
    (GOOD._replace(x=GOOD.x.astype(np.float64)), "x is float64; it must be a numpy array of float32"),
    (GOOD._replace(x=GOOD.x.tolist()), "x is list"),
    (GOOD._replace(y=GOOD.y.astype(np.uint8)), "y is uint8; it must be a numpy array of int64"),
    (GOOD._replace(x=GOOD.x[:, 0]), r"x has shape \(4, 8, 8\); 4 labels and the task ask for \(4, 1, 8, 8\)"),
    (GOOD._replace(x=GOOD.x[:3]), r"x has shape \(3, 1, 8, 8\)"),
    (GOOD._replace(y=np.eye(2, dtype=np.int64)), r"y has shape \(2, 2\)"),
    (Split(GOOD.x[:0], GOOD.y[:0]), "n at least 1"),
    (GOOD._replace(y=GOOD.y + 1), "y goes from 1 to 2; with 2 classes it must be within 0 and 1"),
    (GOOD._replace(y=GOOD.y - 1), "y goes from -1 to 0"),
    (GOOD._replace(x=np.full_like(GOOD.x, np.nan)), "not finite"),
    ((GOOD.x, GOOD.y), "it is a tuple, not a Split"),
])
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_what_cannot_be_is_refused_by_name(bad: Any, says: str, part: str) -> None:
    with pytest.raises(UserError, match=f"task doors, split {part}: .*{says}"):
        load_checked("doors", Given(Dataset(GOOD, GOOD, GOOD)._replace(**{part: bad})))


def test_three_splits_in_a_plain_tuple_are_no_dataset() -> None:
    with pytest.raises(UserError, match=r"task doors: load\(\) gave a tuple; it must give a Dataset"):
        load_checked("doors", Given((GOOD, GOOD, GOOD)))


@pytest.mark.parametrize("harm", [lambda text: text.replace(".astype(np.float32)", ""),
                                  lambda text: text.replace("classes = 2", "classes = 1")])
def test_a_build_refuses_them_before_it_trains(tmp_path: Path, harm: Callable[[str], str]) -> None:
    texts = {"tasks/halves.py": harm(HALVES), "models/small.py": two_stages()}
    plugins = [write_plugins(tmp_path / "my_plugins", texts)]
    with pytest.raises(UserError, match="task halves, split train: "):
        build_bundle(tmp_path / "home", Recipe("halves", "small", 3), [], lambda _: None, plugins)
    assert not (tmp_path / "home").exists()
