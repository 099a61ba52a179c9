"""One branch alone: trained once, kept, judged again without training; two steps of the network that needs a GPU."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from device_agents.seams import UserError
from workloads.alone import is_kept, train_each
from workloads.recipe import Recipe
from workloads.seams import Dataset, Progress, Split

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe("digits", "resnet_digits", 3, {"epochs": 1})


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(*(Split(rng.standard_normal((count, 1, 32, 32)).astype(np.float32), np.arange(count) % 10)
                     for count in (64, 32, 8)))


def test_a_branch_is_trained_once_and_only_judged_again(tmp_path: Path, data: Dataset) -> None:
    torch.set_num_threads(1)
    told: list[Progress] = []
    assert not is_kept(tmp_path, RECIPE, "exit2")
    first = list(train_each(tmp_path, RECIPE, ["full", "exit2"], data, told.append))
    assert [one.branch for one in first] == ["full", "exit2"]
    assert first[0].passes == 64                # one epoch, one pass a sample: nothing distils
    assert told
    told.clear()
    assert list(train_each(tmp_path, RECIPE, ["full", "exit2"], data, told.append)) == first
    assert not told
    assert is_kept(tmp_path, RECIPE, "exit2") and not is_kept(tmp_path, RECIPE, "width50")
    assert not list((tmp_path / "cache").glob("train-*"))


def test_a_branch_that_is_not_trained_is_refused_before_anything_is(tmp_path: Path, data: Dataset) -> None:
    with pytest.raises(UserError, match="it trains: full, exit2"):
        next(train_each(tmp_path, RECIPE, ["full", "int8"], data, lambda _: None))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("data_dir")
def test_two_steps_of_the_operator_table(edgefleet_home: Path) -> None:
    """resnet18 on cifar100 needs an accelerator; that its command works does not."""
    script = ROOT / "tests" / "benchmarks" / "bench_operators.py"
    done = subprocess.run([sys.executable, script, "--batches", "2", "--only", "fire"], cwd=ROOT, capture_output=True,
                          text=True, timeout=300, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["unit"] for row in rows] == ["M", "M", "M", "%"]
    assert rows[1]["value"] == 413.94           # as the authors' database prints it
    assert rows[3]["value"] is not None and "only 2 steps, 256 passes: no result" in rows[3]["note"]
    assert "73.22" in rows[3]["note"]
    assert not list((edgefleet_home / "cache").rglob("*.pt"))
