"""Every network that ships: builds, has one full branch, and each branch runs, exports and sheds work."""
import numpy as np
import pytest
import torch

from device_agents import registry
from workloads.branches import check, trained
from workloads.export import check_same, to_onnx
from workloads.recipe import load_plugin
from workloads.seams import Model
from workloads.settings import resolve
from workloads.size import measure

torch.set_num_threads(1)
NAMES = [name for name in registry.names("workloads.models") if name != "operators"]
#: a small sample of the kind that each network takes; others take images
SHAPES = {"har_conv1d": (9, 1, 128), "audio_net": (1, 32, 32), "resnet_digits": (1, 32, 32)}
IMAGE = (3, 32, 32)


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> Model:
    return load_plugin("models", name, Model)()  # type: ignore[no-any-return]


def test_branches_make_sense_and_differ(name: str, model: Model) -> None:
    specs = check(model.branches(), 10)
    assert len(specs) >= 6
    assert {"exit", "width", "operator"} <= {spec.kind for spec in specs}


def test_training_settings_are_known(model: Model) -> None:
    resolve(model.training)


def test_every_branch_runs_alone_and_costs_less_than_the_full_one(name: str, model: Model) -> None:
    shape = SHAPES.get(name, IMAGE)
    net = model.build(shape, 7, trained(model.branches()))
    sizes = {spec.id: measure(net.extract(spec), shape) for spec in net.specs}
    assert max(sizes, key=lambda branch: sizes[branch].macs) == "full"
    logits = net.eval()(torch.zeros(2, *shape), net.specs)
    assert all(value.shape == (2, 7) for value in logits.values())


def test_the_cheapest_branch_survives_export(name: str, model: Model) -> None:
    shape = SHAPES.get(name, IMAGE)
    torch.manual_seed(0)
    net = model.build(shape, 7, trained(model.branches()))
    spec = min(net.specs, key=lambda one: measure(net.extract(one), shape).macs)
    plain = net.extract(spec).eval()
    samples = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    assert check_same(to_onnx(plain, shape), plain, samples, spec.id) <= 1e-4
