"""Sizes: against the authors' database where it has them, by hand elsewhere."""
import json

import pytest
import torch
from torch import nn

from device_agents.seams import UserError
from tests.author_database import RESNET18_CIFAR100
from workloads.describe import describe, parse_shape
from workloads.size import CONVENTIONS, measure


@pytest.mark.parametrize("operator", sorted(set(RESNET18_CIFAR100) - {"full"}))
def test_resnet18_agrees_with_the_author_database(operator: str) -> None:
    """At 100 classes: parameters and thop's MACs to the printed digit, our MACs within 1 %."""
    macs, params, _ = RESNET18_CIFAR100[operator]
    theirs = describe("resnet18", operator, classes=100, convention="thop").size
    assert theirs.macs / 1e6 == pytest.approx(macs, abs=0.005)
    # 0.895 M is printed as 0.89: the database cuts or rounds, so half a digit more is allowed
    assert theirs.params / 1e6 == pytest.approx(params, abs=0.006)
    assert describe("resnet18", operator, classes=100).size.macs / 1e6 == pytest.approx(macs, rel=0.01)


def test_the_base_row_of_the_database_fits_ten_classes_only() -> None:
    """557.88 M and 11.17 M in a table of CIFAR-100. Its MACs leave out the last pooling (8,704), which ours counts."""
    ten, hundred = (describe("resnet18", "full", classes=classes, convention="thop").size for classes in (10, 100))
    assert (ten.macs - 8704) / 1e6 == pytest.approx(557.88, abs=0.005)
    assert ten.params / 1e6 == pytest.approx(11.17, abs=0.005)
    assert hundred.params / 1e6 == pytest.approx(11.22, abs=0.005)


def test_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(4, 3))
    size = measure(net, (2, 5, 5))
    assert size.macs == 4 * 25 * 2 * 9 + 4 * 3
    assert size.params == (4 * 2 * 9 + 4) + 8 + (4 * 3 + 3)
    assert size.storage_b == 4 * (size.params + 8) + 8        # running statistics, and a counter of int64
    assert size.activations_b == 4 * (100 + 100)
    assert measure(net, (2, 5, 5), "thop").macs == size.macs + 4 * 100 + 4 * 26


def test_measuring_leaves_the_network_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    measure(net, (1, 4, 4))
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_an_operator_that_no_branch_has_can_be_described() -> None:
    found = describe("resnet_digits", "inception2", shape=(1, 32, 32))
    assert found.replaced == (2, 3)
    assert json.loads(json.dumps(found.to_json()))["input"] == "1x32x32"


def test_describing_does_not_disturb_a_seed() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    describe("resnet20")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(("arguments", "says"), [
    ({"model": "resnet19"}, "resnet18"),
    ({"model": "resnet18", "branch": "fier"}, "Did you mean 'fire'"),
    ({"model": "resnet18", "convention": "flops"}, "ours, thop"),
    ({"model": "resnet18", "classes": 0}, "at least 1"),
    ({"model": "resnet18", "shape": (3, 0, 8)}, "cannot take an input of 3x0x8"),
])
def test_bad_questions(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        describe(**arguments)


@pytest.mark.parametrize("text", ["32x32", "3x32xlarge", "", "3x-1x2", "3x0x3"])
def test_bad_shapes(text: str) -> None:
    with pytest.raises(UserError, match="3x32x32"):
        parse_shape(text)


def test_shapes() -> None:
    assert parse_shape("3X32x16") == (3, 32, 16)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_layers_count_the_same_in_one_and_in_two_dimensions(convention: str) -> None:
    """A user's network may be one-dimensional throughout; ours have windows of one row."""
    flat = nn.Sequential(nn.Conv1d(6, 8, 5, padding=2, groups=2), nn.BatchNorm1d(8), nn.AdaptiveAvgPool1d(4))
    wide = nn.Sequential(nn.Conv2d(6, 8, (1, 5), padding=(0, 2), groups=2), nn.BatchNorm2d(8),
                         nn.AdaptiveAvgPool2d((1, 4)))
    found = measure(flat, (6, 32), convention)
    assert found == measure(wide, (6, 1, 32), convention)
    assert found.macs >= 8 * 32 * 3 * 5
