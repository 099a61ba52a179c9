"""The multi-branch network: an extracted branch is the branch, shares nothing, and slices what it should."""
import pytest
import torch

from device_agents.seams import UserError
from workloads.branches import BranchSpec, check, early_exit, full, narrow, operators
from workloads.models.resnet_digits import ResnetDigits
from workloads.size import measure
from workloads.supernet import SuperNet

torch.set_num_threads(1)                        # tiny networks: a second thread only waits
SHAPE = (1, 16, 16)


@pytest.fixture(scope="module")
def net() -> SuperNet:
    torch.manual_seed(0)
    net = ResnetDigits().build(SHAPE, 10, ResnetDigits().branches())
    with torch.no_grad():
        for norm in net.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):      # far from their initial values, so that a mix-up shows
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2.0)
                norm.weight.uniform_(0.5, 2.0)
                norm.bias.normal_()
    return net.eval()


def test_an_extracted_branch_computes_what_the_network_computes(net: SuperNet) -> None:
    x = torch.randn(3, *SHAPE)
    together = net(x, net.specs)
    for spec in net.specs:
        assert torch.allclose(net.extract(spec).eval()(x), together[spec.id], atol=1e-5), spec.id


def test_asking_for_one_branch_gives_the_same_as_asking_for_all(net: SuperNet) -> None:
    x = torch.randn(2, *SHAPE)
    together = net(x, net.specs)
    for spec in net.specs:
        assert torch.allclose(net(x, [spec])[spec.id], together[spec.id], atol=1e-6)


def test_an_extracted_branch_shares_no_memory(net: SuperNet) -> None:
    x = torch.randn(1, *SHAPE)
    before = net(x, net.specs[:1])["full"].clone()
    for spec in net.specs:
        with torch.no_grad():
            for tensor in net.extract(spec).state_dict().values():
                tensor.zero_()
    assert torch.equal(net(x, net.specs[:1])["full"], before)


def test_branches_differ_in_size(net: SuperNet) -> None:
    macs = [measure(net.extract(spec), SHAPE).macs for spec in net.specs]
    assert len(set(macs)) == len(macs) >= 6
    assert macs[0] == max(macs) >= 5 * min(macs)


def test_training_a_branch_moves_the_shared_weights_only_where_it_runs(net: SuperNet) -> None:
    narrow_spec = next(spec for spec in net.specs if spec.width == 0.5)
    net.zero_grad()
    net(torch.randn(2, *SHAPE), [narrow_spec])[narrow_spec.id].sum().backward()
    gradient = net.stages[1].blocks[0].first.conv.weight.grad
    half = gradient.shape[0] // 2
    assert gradient[:half, :gradient.shape[1] // 2].abs().sum() > 0
    assert gradient[half:].abs().sum() == 0
    net.zero_grad()


@pytest.mark.parametrize(("specs", "says"), [
    ([early_exit(1)], "exactly one branch of kind 'full'"),
    ([full(2), full(2)], "exactly one"),
    ([full(2), early_exit(1), early_exit(1)], "two branches"),
    ([full(2), early_exit(3)], "stages 1 to 2"),
    ([full(2), narrow(1.5, 2)], "width 1.5"),
    ([full(2), operators(2, stage3="svd")], "does not run"),
    ([full(2), BranchSpec("x", "width", 2, 0.5, ((1, "svd"),))], "full width"),
    ([full(2), BranchSpec("x", "odd", 2)], "unknown kind"),
])
def test_contradictory_branches_are_refused(specs: list[BranchSpec], says: str) -> None:
    with pytest.raises(UserError, match=says):
        check(specs, 2)
