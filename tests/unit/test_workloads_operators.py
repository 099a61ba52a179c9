"""Operators: parameter counts by hand, one BatchNorm and one ReLU at the end, and maps that keep their size."""
import pytest
import torch
from torch import nn

from workloads.models.operators import OPERATORS, chain, dpconv

CIN, COUT, K = 8, 16, 2

#: weights and biases of the convolutions, from the definitions; BatchNorm adds 2 * COUT
BY_HAND = {
    "svd": (CIN * K * 3 + K) + (K * COUT * 3 + COUT),
    "fire": (CIN * K + K) + (K * COUT // 2 + COUT // 2) + (K * COUT // 2 * 9 + COUT // 2),
    "dpconv": (CIN * 9 + CIN) + (CIN * COUT + COUT),
    "inception1": (CIN * K + K) + (K * K * 9 + K) + (K * COUT + COUT),
    "inception2": 2 * (CIN * COUT // 2 * 3 + COUT // 2),
}


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_parameters_as_defined(name: str) -> None:
    layer = OPERATORS[name](CIN, COUT)
    assert sum(parameter.numel() for parameter in layer.parameters()) == BY_HAND[name] + 2 * COUT


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_one_norm_and_one_relu_at_the_end(name: str) -> None:
    kinds = [type(module) for module in OPERATORS[name](CIN, COUT).modules()]
    assert kinds.count(nn.BatchNorm2d) == kinds.count(nn.ReLU) == 1
    assert [type(module) for module in OPERATORS[name](CIN, COUT)][-2:] == [nn.BatchNorm2d, nn.ReLU]


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_maps_keep_their_size(name: str) -> None:
    assert OPERATORS[name](CIN, COUT)(torch.zeros(1, CIN, 9, 9)).shape == (1, COUT, 9, 9)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_one_dimensional_form_mixes_only_along_the_second_axis(name: str) -> None:
    net = OPERATORS[name](CIN, COUT, dims=1).eval()
    x = torch.randn(1, CIN, 3, 12)
    rows = torch.cat([net(x[:, :, index:index + 1]) for index in range(3)], dim=2)
    assert torch.allclose(net(x), rows, atol=1e-6)


def test_kernel_of_two_grows_the_map_as_in_the_author_code() -> None:
    assert dpconv(CIN, COUT, kernel=2)(torch.zeros(1, CIN, 16, 16)).shape == (1, COUT, 17, 17)


def test_chain_pools_at_its_end() -> None:
    net = chain("svd", (8, 16, 16, 16), (2, 2))
    assert len(net) == 4
    assert net(torch.zeros(1, 8, 16, 16)).shape == (1, 16, 8, 8)
