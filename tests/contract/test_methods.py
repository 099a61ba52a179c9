"""Every offline half: JSON settings from validation data, deterministic, and an adapter of the same name."""
import json

import pytest

from device_agents import registry
from device_agents.wire import Branch, BranchBundle
from workloads.recipe import load_plugin
from workloads.seams import Method

NAMES = registry.names("workloads.methods")


def bundle() -> BranchBundle:
    branches = (Branch("full", "a" * 64, 0.95, 1000, 100, 400, "float32", "full"),
                Branch("exit1", "b" * 64, 0.90, 500, 50, 200, "float32", "exit"),
                Branch("svd-s2", "c" * 64, 0.85, 600, 60, 240, "float32", "operator"),
                Branch("width25", "d" * 64, 0.60, 100, 10, 40, "float32", "width"))
    return BranchBundle("0" * 64, "digits", "resnet_digits", 1, 10, (1, 32, 32), "float32", "e" * 64, "f" * 64, 8,
                        branches)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_policy_is_json_and_the_same_twice(name: str) -> None:
    method: Method = load_plugin("methods", name, Method)()
    policy = method.policy(bundle())
    assert json.loads(json.dumps(policy)) == policy == method.policy(bundle())


def test_has_an_online_half(name: str) -> None:
    assert name in registry.names("device_agents.adapters")


def test_adascale_keeps_the_branches_that_no_other_beats() -> None:
    """svd-s2 is dearer and worse than exit1; of two equal branches the first stays."""
    twin = bundle()
    twin = twin._replace(branches=(*twin.branches, twin.branches[3]._replace(id="again")))
    method: Method = load_plugin("methods", "adascale", Method)()
    assert method.policy(twin)["pareto"] == ["full", "exit1", "width25"]
