"""Training overhead: costs add up as stated, shared parts count once, and early stopping stops."""
import numpy as np
import pytest
import torch

from workloads.branches import BranchSpec, early_exit, full, operators
from workloads.models.operators import chain
from workloads.overhead import FLOPS_A_MAC, Point, curve
from workloads.seams import Dataset, Model, Split, Task
from workloads.settings import TrainSettings
from workloads.size import measure
from workloads.supernet import Shape, SuperNet, residual

torch.set_num_threads(1)                        # tiny networks: a second thread only waits

SETTINGS = TrainSettings(epochs=4, batch=16, lr=0.1, sampled=2)


class Halves(Task):
    """A bright top, or a bright bottom."""

    classes, shape = 2, (1, 8, 8)

    def load(self) -> Dataset:
        splits = []
        for seed, count in enumerate((96, 32, 8)):
            x = np.random.default_rng(seed).standard_normal((count, 1, 8, 8)).astype(np.float32)
            y = (np.arange(count) % 2).astype(np.int64)
            x[y == 0, :, :4] += 3
            x[y == 1, :, 4:] += 3
            splits.append(Split(x, y))
        return Dataset(*splits)


class Small(Model):
    """Branches that share the stem and the first stage."""

    def branches(self) -> tuple[BranchSpec, ...]:
        return full(2), early_exit(1), operators(2, stage2="svd")

    def build(self, shape: tuple[int, ...], classes: int, specs: tuple[BranchSpec, ...]) -> SuperNet:
        look = Shape(4, (4, 8), blocks=(1, 1), strides=((1, 1), (2, 2)), kernel=(3, 3),
                     operator=lambda name, stage: chain(name, (4, 8), (2, 2)))
        return residual(look, specs, shape[0], classes)


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return curve(Halves(), Small(), SETTINGS, 1, (1, 3, 99), lambda _: None, patience=2)


def macs(branch: int) -> int:
    specs = Small().branches()
    net = Small().build(Halves.shape, 2, specs)
    return measure(net.extract(specs[branch]), Halves.shape).macs


def test_counts_beyond_the_branches_are_one_point(points: list[Point]) -> None:
    assert [point.branches for point in points] == [1, 3]


def test_one_branch_costs_the_same_a_pass_on_both_sides(points: list[Point]) -> None:
    for effort in (points[0].joint, points[0].alone):
        assert effort.passes == effort.epochs * 96
        assert effort.flops == FLOPS_A_MAC * macs(0) * effort.passes


def test_shared_parts_count_once(points: list[Point]) -> None:
    joint = points[1].joint
    samples = joint.epochs * 96
    assert joint.passes == 3 * samples
    assert FLOPS_A_MAC * samples * macs(0) < joint.flops < FLOPS_A_MAC * samples * sum(map(macs, range(3)))


def test_alone_stops_at_the_joint_accuracy(points: list[Point]) -> None:
    for point in points:
        assert set(point.alone.accuracy) == set(point.joint.accuracy)
        for branch, reached in point.alone.accuracy.items():
            assert (reached < point.joint.accuracy[branch]) == (branch in point.missed)


def test_saving_is_a_signed_percentage(points: list[Point]) -> None:
    point = points[1]
    assert point.saved_pct("flops") == pytest.approx(100 * (point.joint.flops / point.alone.flops - 1))
