"""The pieces of an offline search: the Q-network, the space of combinations, predicted costs, pruning and factoring."""
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from workloads import dqn
from workloads.branches import BranchSpec, early_exit, full, narrow, operators
from workloads.combinations import Space, head_of, inherit, parts_of
from workloads.compress import factored, finetune, pruned, ranks
from workloads.cost_model import fitted, left_out_errors
from workloads.export import check_same, to_onnx
from workloads.judge import recalibrated
from workloads.models.operators import chain
from workloads.seams import Split
from workloads.settings import TrainSettings
from workloads.size import measure
from workloads.supernet import Shape, SuperNet, residual
from workloads.train import recalibrate

torch.set_num_threads(1)

SHAPE = (1, 8, 8)
SPECS = (full(2), early_exit(1), narrow(0.5, 2), operators(2, stage2="fire"),
         operators(2, stage1="dpconv", stage2="svd"))


@pytest.fixture(scope="module")
def net() -> SuperNet:
    torch.manual_seed(1)
    look = Shape(4, (4, 8), blocks=(1, 1), strides=((1, 1), (2, 2)), kernel=(3, 3),
                 operator=lambda name, stage: chain(name, (4, 4 * stage), (stage, stage)))
    return residual(look, SPECS, 1, 10).eval()


#: rewards by (choice, choice, choice); the first choice that looks best leads away from the optimum
TABLE = {choice: round(0.3 * (choice[0] == 0) - 0.1 * choice[1] * (choice[0] == 0) + 0.02 * choice[2], 3)
         for choice in product(range(3), range(4), range(4))}
TABLE[2, 3, 1] = 0.9


def test_the_q_network_finds_the_optimum_and_its_policy_leads_there() -> None:
    sizes = (3, 4, 4)
    found = dqn.learn(sizes, lambda prefix: range(sizes[len(prefix)]), TABLE.__getitem__, 400, 3)
    assert (found.best, found.reward) == ((2, 3, 1), 0.9)
    assert found.greedy == found.best
    assert [row[0] for row in found.curve] == list(range(1, 401))
    assert all(row[2] == max(one[1] for one in found.curve[:row[0]]) for row in found.curve)
    late, early = (np.mean([row[1] for row in rows]) for rows in (found.curve[-50:], found.curve[:50]))
    assert late > early + 0.3                           # it learned, rather than stumbled on it


def test_a_seed_repeats_the_search_and_leaves_torchs_chance_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, other, third = (dqn.learn((3, 4, 4), lambda prefix: range((3, 4, 4)[len(prefix)]), TABLE.__getitem__, 30, seed)
                         for seed in (1, 1, 2))
    assert one == other != third
    assert torch.rand(1) == expected


def test_only_allowed_options_are_taken_and_no_choice_is_no_trouble() -> None:
    """After 0 the second choice has one option, and it is made without being asked."""
    asked = []

    def reward(choice: tuple[int, ...]) -> float:
        asked.append(choice)
        return float(choice[1])

    found = dqn.learn((2, 3), lambda prefix: range(3 if prefix == (1,) else 2 if not prefix else 1), reward, 60, 1)
    assert set(asked) == {(0, 0), (1, 0), (1, 1), (1, 2)}
    assert found.best == found.greedy == (1, 2)
    assert dqn.learn((1, 1), lambda prefix: range(1), lambda choice: 0.5, 3, 1).best == (0, 0)


def test_the_space_is_every_path_that_has_weights_and_a_head(net: SuperNet) -> None:
    space = Space(net)
    paths = [(spec.stages, spec.width, spec.operators) for spec in map(space.spec, space.every())]
    assert len(paths) == len(set(paths)) == 9                   # full width: 2 x 3 deep, 2 shallow; and width50
    assert {spec.id for spec in SPECS} <= {space.spec(choice).id for choice in space.every()}
    assert "exit1-dpconv-s1" in {space.spec(choice).id for choice in space.every()}
    for choice in space.every():
        spec = space.spec(choice)
        plain = inherit(net, spec)
        assert plain(torch.zeros(1, *SHAPE)).shape == (1, 10)
        assert sum(parts_of(plain, spec, SHAPE).values()) == measure(plain, SHAPE).macs
    more = Space(net, {"prune": (0.0, 0.5)})
    assert len(list(more.every())) == 18
    assert {more.extra(choice)["prune"] for choice in more.every()} == {0.0, 0.5}


def test_a_combination_borrows_the_head_of_the_branch_most_like_it() -> None:
    assert head_of(SPECS, operators(2, stage2="svd")).id == "dpconv-s1-svd-s2"      # agrees next to the head
    assert head_of(SPECS, operators(2, stage1="dpconv")).id == "full"
    assert head_of(SPECS, BranchSpec("", "", 1, 1.0, ((1, "dpconv"),))).id == "exit1"


def test_the_cost_model_explains_what_it_saw_and_adds_up_what_it_did_not(net: SuperNet) -> None:
    """A device on which a stage's operator costs four times what its multiply-accumulates say."""
    def true_ms(parts: dict[object, int]) -> float:
        return 0.5 + sum(1e-3 * macs * (4 if key[1] == "dpconv" else 1) for key, macs in parts.items())

    space = Space(net)
    parts = {space.spec(choice).id: parts_of(inherit(net, space.spec(choice)), space.spec(choice), SHAPE)
             for choice in space.every()}
    rows = [(parts[spec.id], true_ms(parts[spec.id])) for spec in SPECS]
    model = fitted(rows)
    for known, cost in rows:
        assert model.predict(known) == pytest.approx(cost, rel=0.02)
    assert model.predict({("head", 9, 1.0): 1000}) == pytest.approx(model.constant + 1000 * model.a_mac)   # never seen
    unseen = parts["dpconv-s1"]
    plain_macs = model.constant + model.a_mac * sum(unseen.values())
    assert abs(model.predict(unseen) - true_ms(unseen)) < abs(plain_macs - true_ms(unseen))
    assert len(left_out_errors(rows)) == len(rows) and left_out_errors(rows[:2]) == []
    exact = [({("stem", 1.0): macs}, 1.0 + 0.01 * macs) for macs in (100, 200, 400)]
    assert max(left_out_errors(exact)) < 1e-9
    assert fitted(exact[:1]).predict({("stem", 1.0): 200}) == pytest.approx(4.0)


def test_pruning_drops_the_weakest_filters_and_survives_export(net: SuperNet) -> None:
    plain = inherit(net, SPECS[0])
    with torch.no_grad():
        plain[2][0].body[0].weight[3] *= 1e-6                   # of stage 2: as good as zero, so its loss is not felt
        plain[2][0].body[1].bias[3] = 0.0
    plain, smaller = plain.eval(), pruned(plain, 1 / 8).eval()
    x = torch.randn(4, *SHAPE)
    assert smaller[2][0].body[0].out_channels == 7 and plain[2][0].body[0].out_channels == 8
    assert measure(smaller, SHAPE).macs < measure(plain, SHAPE).macs
    assert torch.allclose(smaller[2](plain[1](plain[0](x))), plain[2](plain[1](plain[0](x))), atol=1e-4)
    least = pruned(plain, 0.99).eval()
    assert least[1][0].body[0].out_channels == 1
    assert check_same(to_onnx(least, SHAPE), least, x.numpy(), "least") <= 1e-4


def test_a_head_is_factored_where_that_makes_it_smaller(net: SuperNet) -> None:
    assert ranks(10, 128) == [5, 2] and ranks(2, 8) == [1] and ranks(2, 2) == []
    plain = inherit(net, SPECS[0])
    x = torch.randn(3, *SHAPE)
    whole, half = factored(plain, 8), factored(plain, 4)
    assert torch.allclose(whole(x), plain(x), atol=1e-5)        # full rank: nothing is lost
    assert torch.linalg.matrix_rank(half[-1].weight @ half[-2].weight) == 4
    assert measure(half, SHAPE).macs < measure(plain, SHAPE).macs


def test_finetuning_learns_and_leaves_the_layers_as_they_were(net: SuperNet) -> None:
    """Batches of unequal size through strided 1x1 convolutions, as torch must be spared them."""
    y = (np.arange(90) % 2).astype(np.int64)
    x = np.random.default_rng(0).standard_normal((90, *SHAPE)).astype(np.float32)
    x[y == 1] += 1
    plain = pruned(inherit(net, SPECS[0]), 0.5)
    strides = [conv.stride for conv in plain.modules() if isinstance(conv, nn.Conv2d)]
    settings = TrainSettings(epochs=8, batch=32, lr=0.1)
    log = finetune(plain, Split(x, y), settings, 1, lambda _: None, {})
    assert log.passes == 720 and log.last_loss < 0.6
    assert [conv.stride for conv in plain.modules() if isinstance(conv, nn.Conv2d)] == strides
    assert (2, 2) in strides and check_same(to_onnx(plain, SHAPE), plain, x[:4], "tuned") <= 1e-4


@pytest.mark.parametrize("count, limit", [(96, 4096), (300, 4096), (5000, 4096), (700, 512), (128, 512)])
def test_passes_of_a_recalibration_are_those_that_it_makes(count: int, limit: int) -> None:
    seen: list[int] = []
    plain = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    plain.register_forward_pre_hook(lambda _net, inputs: seen.append(len(inputs[0])))
    data = Split(np.zeros((count, 1, 2, 2), np.float32), np.zeros(count, np.int64))
    recalibrate(plain, data, limit=limit)
    assert recalibrated(count, limit) == sum(seen)
    seen.clear()
    recalibrate(plain, data)
    assert recalibrated(count) == sum(seen)
