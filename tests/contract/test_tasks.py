"""Every task that ships: fixed splits that do not overlap, of the stated shape, found again by checksum."""
import numpy as np
import pytest

from device_agents import registry
from device_agents.seams import UserError
from workloads.recipe import load_task
from workloads.seams import Dataset, Task

NAMES = registry.names("workloads.tasks")


@pytest.fixture(scope="module", params=NAMES)
def task(request: pytest.FixtureRequest) -> Task:
    task = load_task(request.param)
    try:
        task.checksum()
    except UserError as error:
        pytest.skip(f"no data: {error}")
    return task


@pytest.fixture(scope="module")
def data(task: Task) -> Dataset:
    return task.load()


def test_splits_have_the_stated_shape(task: Task, data: Dataset) -> None:
    for split in data:
        assert split.x.shape == (len(split.y), *task.shape)
        assert (split.x.dtype, split.y.dtype) == (np.float32, np.int64)
        assert np.isfinite(split.x).all()


def test_every_split_has_every_class_and_no_other(task: Task, data: Dataset) -> None:
    for split in data:
        assert sorted(set(split.y.tolist())) == list(range(task.classes))


def test_samples_are_normalised(data: Dataset) -> None:
    assert abs(float(data.train.x.mean())) < 0.2
    assert 0.5 < float(data.train.x.std()) < 2.0


def test_no_sample_is_in_two_splits(data: Dataset) -> None:
    train, val, test = ({row.tobytes() for row in split.x} for split in data)
    assert not val & test
    assert not train & test
    assert not train & val


def test_loading_again_gives_the_same(task: Task, data: Dataset) -> None:
    again = task.load()
    for one, other in zip(data, again, strict=True):
        assert np.array_equal(one.x, other.x)
        assert np.array_equal(one.y, other.y)
    assert len(task.checksum()) == 64
    assert task.checksum() == task.checksum()
