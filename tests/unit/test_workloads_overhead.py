"""Training overhead: costs add up as stated, shared parts count once, and early stopping stops."""
import time

import numpy as np
import pytest
import torch
from torch import nn

from workloads.branches import BranchSpec, early_exit, full, operators
from workloads.joint_cost import FLOPS_A_MAC, joint_flops, path_macs
from workloads.models.operators import chain
from workloads.overhead import Point, curve, train_alone, train_jointly
from workloads.seams import Dataset, Model, Split, Task
from workloads.settings import TrainSettings
from workloads.size import measure
from workloads.supernet import Shape, SuperNet, residual
from workloads.train import fit, joint_loss

torch.set_num_threads(1)                        # tiny networks: a second thread only waits

SETTINGS = TrainSettings(epochs=4, batch=16, lr=0.1, sampled=2)
VALIDATION_S = 0.8


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


class Pause(nn.Module):
    """Makes validation take its time, and training none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            time.sleep(VALIDATION_S)
        return x


class Small(Model):
    """Branches that share the stem and the first stage."""

    after: type[nn.Module] = nn.Identity            # the operator

    def branches(self) -> tuple[BranchSpec, ...]:
        return full(2), early_exit(1), operators(2, stage2="svd")

    def build(self, shape: tuple[int, ...], classes: int, specs: tuple[BranchSpec, ...]) -> SuperNet:
        look = Shape(4, (4, 8), blocks=(1, 1), strides=((1, 1), (2, 2)), kernel=(3, 3),
                     operator=lambda name, stage: nn.Sequential(chain(name, (4, 8), (2, 2)), self.after()))
        return residual(look, specs, shape[0], classes)


class SlowToJudge(Small):
    after = Pause


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


@pytest.mark.parametrize(("settings", "off_pct"), [
    (SETTINGS._replace(sampled=0), 0), (SETTINGS, 0), (SETTINGS._replace(epochs=6, full_share=0.5, tail_epochs=2), 0),
    (SETTINGS._replace(epochs=40, sampled=1, half_epochs=20), 3), (SETTINGS._replace(tail_epochs=9, sampled=1), 20)])
def test_what_a_joint_training_costs_follows_from_its_settings(settings: TrainSettings, off_pct: float) -> None:
    """Counted beside it, step by step; exactly where every draw is the same."""
    specs = (*Small().branches(), operators(2, stage2="dpconv"))
    net, data, counted = Small().build(Halves.shape, 2, specs), Halves().load(), 0.0

    def count(_net: nn.Module, inputs: tuple[torch.Tensor, list[BranchSpec]]) -> None:
        nonlocal counted
        x, chosen = inputs
        parts = {path: one for spec in chosen for path, one in path_macs(net, spec, tuple(x.shape[1:])).items()}
        counted += FLOPS_A_MAC * len(x) * sum(parts.values())

    net.register_forward_pre_hook(count)
    fit(net, joint_loss(net, Halves.shape, settings), data.train, settings, 1, lambda _: None)
    assert joint_flops(net, Halves.shape, settings, 96) == pytest.approx(counted, rel=off_pct / 100 + 1e-12)


def test_alone_stops_at_the_joint_accuracy(points: list[Point]) -> None:
    for point in points:
        assert set(point.alone.accuracy) == set(point.joint.accuracy)
        for branch, reached in point.alone.accuracy.items():
            assert (reached < point.joint.accuracy[branch]) == (branch in point.missed)


def test_saving_is_a_signed_percentage(points: list[Point]) -> None:
    point = points[1]
    assert point.saved_pct("flops") == pytest.approx(100 * (point.joint.flops / point.alone.flops - 1))


def test_epochs_of_the_full_branch_alone_do_not_wear_out_patience() -> None:
    settings = SETTINGS._replace(epochs=10, full_share=0.7)
    task, specs = Halves(), Small().branches()
    joint = train_jointly(task, Small(), specs, task.load(), settings, 1, lambda _: None, patience=1)
    assert 7 < joint.epochs <= 10
    assert joint.passes == 96 * (7 + 3 * (joint.epochs - 7))
    assert min(joint.accuracy.values()) > 0.7       # of two classes: no branch is left at chance
    single = train_jointly(task, Small(), specs[:1], task.load(), settings, 1, lambda _: None, patience=1)
    assert single.epochs < 7                        # one branch alone: every epoch is a joint one


def test_seconds_include_the_last_validation() -> None:
    settings, data = SETTINGS._replace(epochs=1), Halves().load()
    full_one, _, slow = SlowToJudge().branches()
    joint = train_jointly(Halves(), SlowToJudge(), (full_one, slow), data, settings, 1, lambda _: None, patience=1)
    alone = train_alone(Halves(), SlowToJudge(), slow, data, settings, 1, lambda _: None, target=1.1)
    assert min(joint.seconds, alone.seconds) >= VALIDATION_S
