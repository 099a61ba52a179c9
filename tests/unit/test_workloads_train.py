"""Training: deterministic, resumable, honest about divergence. Tiny data, so that each test takes a second."""
from functools import partial
from operator import eq
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from device_agents.seams import UserError
from workloads.branches import early_exit, full, narrow
from workloads.seams import Progress, Split
from workloads.settings import TrainSettings, resolve
from workloads.supernet import Block, Stage, Stem, SuperNet
from workloads.train import _set_lr, accuracy, augmented, fit, joint_loss, recalibrate

torch.set_num_threads(1)                        # tiny networks: a second thread only waits
SHAPE = (1, 8, 8)
SETTINGS = TrainSettings(epochs=4, batch=16, lr=0.05, sampled=1)


class Killed(Exception):
    """Stands for a SIGKILL."""


def tiny_data() -> Split:
    """Two classes: a bright top, or a bright bottom."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((96, *SHAPE)).astype(np.float32), np.arange(96) % 2
    x[y == 0, :, :4] += 3
    x[y == 1, :, 4:] += 3
    return Split(x, y.astype(np.int64))


def tiny_net() -> SuperNet:
    torch.manual_seed(5)
    widths, kernel = (0.5, 1.0), (3, 3)
    stages = [Stage([Block(4, 4, kernel, (1, 1), widths)], {}, 4),
              Stage([Block(4, 8, kernel, (2, 2), widths)], {}, 8)]
    specs = (full(2), early_exit(1), narrow(0.5, 2), narrow(0.5, 2, depth=1))
    return SuperNet(Stem(1, 4, kernel, (1, 1), widths), stages, specs, 2)


def trained(checkpoint: Path | None = None, stop_after: int | None = None) -> SuperNet:
    net = tiny_net()

    def stop(epoch: int) -> bool:
        if epoch == stop_after:
            raise Killed
        return False

    fit(net, joint_loss(net, SHAPE, SETTINGS), tiny_data(), SETTINGS, 1, lambda _: None, checkpoint, stop=stop)
    return net


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_same_seed_same_weights() -> None:
    assert same(trained(), trained())


def test_a_killed_training_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.checkpoint.CHECKPOINT_EVERY_S", 0.0)
    checkpoint = tmp_path / "cache" / "train.pt"
    with pytest.raises(Killed):
        trained(checkpoint, stop_after=2)
    assert checkpoint.exists()
    net = tiny_net()
    log = fit(net, joint_loss(net, SHAPE, SETTINGS), tiny_data(), SETTINGS, 1, lambda _: None, checkpoint)
    assert log.resumed_epoch == 2
    assert log.steps == 4 * 6
    assert same(net, trained())


def test_a_broken_checkpoint_is_dropped(tmp_path: Path) -> None:
    checkpoint = tmp_path / "train.pt"
    checkpoint.write_bytes(b"half a file")
    assert same(trained(checkpoint), trained())


def test_all_branches_learn() -> None:
    net, data = trained(), tiny_data()
    for spec in net.specs:
        plain = net.extract(spec)
        recalibrate(plain, data, batch=32)
        assert accuracy(plain, data) >= 0.9, spec.id


def test_the_full_branch_may_come_first() -> None:
    """Its weights learn, the others' stay; a pass is counted for what was trained."""
    net, before = tiny_net(), tiny_net()
    settings = SETTINGS._replace(full_share=0.5)
    log = fit(net, joint_loss(net, SHAPE, settings), tiny_data(), settings, 1, lambda _: None,
              stop=lambda epoch: epoch == SETTINGS.epochs // 2)
    assert log.passes == SETTINGS.epochs // 2 * 96
    changed = {spec.id: not same(net.heads[spec.id], before.heads[spec.id]) for spec in net.specs}
    assert changed == {spec.id: spec.id == "full" for spec in net.specs}


def test_branches_follow_the_full_one() -> None:
    net, before = tiny_net(), tiny_net()
    settings = SETTINGS._replace(full_share=0.5)
    fit(net, joint_loss(net, SHAPE, settings), tiny_data(), settings, 1, lambda _: None)
    assert not any(same(net.heads[spec.id], before.heads[spec.id]) for spec in net.specs)


def test_in_the_tail_every_exit_and_width_learns_in_each_step() -> None:
    """Four branches a step instead of three; its rate rises and falls anew, without the momentum of before."""
    net, rates = tiny_net(), []
    settings = SETTINGS._replace(tail_epochs=2, tail_lr=0.01)
    loss_of = joint_loss(net, SHAPE, settings)
    log = fit(net, loss_of, tiny_data(), settings, 1, lambda _: None)
    assert log.passes == 2 * 96 * 3 + 2 * 96 * 4
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    for step in range(4 * 6):
        _set_lr(optimizer, settings, step, 6)
        rates.append(optimizer.param_groups[0]["lr"])
    assert max(rates[:12]) == pytest.approx(0.05, rel=0.1) and max(rates[12:]) == pytest.approx(0.01, rel=0.1)
    assert rates[11] < 0.005 < rates[13] and rates[-1] < 0.001
    whole = SETTINGS._replace(tail_epochs=9)    # longer than the run
    assert fit(tiny_net(), loss_of, tiny_data(), whole, 1, lambda _: None).epochs == 4


def test_a_tail_that_was_killed_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.checkpoint.CHECKPOINT_EVERY_S", 0.0)
    settings, nets = SETTINGS._replace(tail_epochs=2), []
    for stops in ((), (2,), (3,)):
        for last in (*stops, 99):
            net = tiny_net()
            fit(net, joint_loss(net, SHAPE, settings), tiny_data(), settings, 1, lambda _: None,
                tmp_path / f"{stops}.pt", stop=partial(eq, last))
        nets.append(net)
    assert same(nets[0], nets[1]) and same(nets[0], nets[2])


def test_a_checkpoint_that_cannot_be_kept_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.checkpoint.CHECKPOINT_EVERY_S", 0.0)
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"checkpoint in .*cache/train\.pt.*Free some space"):
        trained(tmp_path / "cache" / "train.pt")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "train.part").symlink_to("/dev/full")  # a disk without room
    with pytest.raises(UserError, match=r"there/train\.pt"):
        trained(tmp_path / "there" / "train.pt")
    assert not list((tmp_path / "there").iterdir())


def test_divergence_is_the_users_to_solve() -> None:
    net = tiny_net()
    bad = Split(tiny_data().x * np.float32(np.inf), tiny_data().y)
    with pytest.raises(UserError, match=r"diverged.*training\.lr"):
        fit(net, joint_loss(net, SHAPE, SETTINGS), bad, SETTINGS, 1, lambda _: None)


def test_progress_ends_at_its_total() -> None:
    told: list[Progress] = []
    net = tiny_net()
    fit(net, joint_loss(net, SHAPE, SETTINGS), tiny_data(), SETTINGS, 1, told.append)
    assert (told[-1].done, told[-1].total) == (4 * 96, 4 * 96)
    assert told[-1].left_s == 0.0


def test_recalibration_uses_the_branchs_own_activations() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    data = tiny_data()
    recalibrate(net, data, batch=32)
    with torch.no_grad():
        seen = net[0](torch.from_numpy(data.x))
    assert torch.allclose(net[1].running_mean, seen.mean(dim=(0, 2, 3)), atol=1e-5)


def test_augmentation_moves_images_and_keeps_their_values() -> None:
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 1, 16).repeat(50, axis=0)
    moved = augmented(x, {"shift": 2}, np.random.default_rng(0))
    assert {int(row[0, 0, 8]) for row in moved} == {6, 7, 8, 9, 10}
    assert set(np.unique(moved)) <= set(np.unique(x))
    mirrored = augmented(x, {"flip": True}, np.random.default_rng(0))
    assert {int(row[0, 0, 0]) for row in mirrored} == {0, 15}


@pytest.mark.parametrize(("training", "says"), [
    ({"epoch": 3}, "Did you mean 'epochs'"),
    ({"epochs": 0}, "from 1"),
    ({"epochs": 2.5}, "whole number"),
    ({"lr": "fast"}, "a number"),
    ({"batch": True}, "whole number"),
])
def test_wrong_settings_are_refused(training: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        resolve(training)


def test_later_layers_win() -> None:
    assert resolve({"epochs": 3, "lr": 1}, {"epochs": 5}) == TrainSettings(epochs=5, lr=1.0)
