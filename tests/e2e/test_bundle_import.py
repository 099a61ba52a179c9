"""A user's own ONNX files, from the command line into trials: imported, profiled, run by a campaign that names them."""
import json

from tests.e2e.spine import edgefleet, query
from tests.unit.test_workloads_import import network, saved

CAMPAIGN = """
name = "own"
[matrix]
device = ["host"]
task = ["digits"]
model = ["mine"]
method = ["fixed", "adascale"]
trace = ["idle"]
[trial]
duration_s = 0.3
warmup_s = 0.05
"""


def test_imported_models_run_in_a_campaign(tmp_path):
    home = tmp_path / "home"
    files = [saved(tmp_path / "small.onnx", network()), saved(tmp_path / "large.onnx", network(hidden=8))]
    made = edgefleet("bundle", "import", *files, "--task", "digits", "--name", "mine", "--json", home=home)
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert [branch["id"] for branch in told["branches"]] == ["large", "small"]
    campaign = tmp_path / "own.toml"
    campaign.write_text(CAMPAIGN)
    done = edgefleet("run", campaign, "--scheduler", "inline", home=home)
    assert done.returncode == 0, done.stderr
    assert query(home, "select distinct bundle, state from trial") == [(told["bundle"], "done")]
    assert query(home, "select distinct branch from cost order by 1") == [("large",), ("small",)]
    report = edgefleet("report", home=home)
    assert report.returncode == 0, report.stderr


def test_what_does_not_fit_is_one_message_and_leaves_nothing(tmp_path):
    home = tmp_path / "home"
    bad = saved(tmp_path / "bad.onnx", network(classes=7))
    done = edgefleet("bundle", "import", bad, "--task", "digits", home=home)
    assert done.returncode == 2
    assert "7" in done.stderr and "10 classes" in done.stderr and "Traceback" not in done.stderr
    assert not list((home / "bundles").glob("*"))
    done = edgefleet("bundle", "import", tmp_path / "gone.onnx", "--task", "digit", home=home)
    assert done.returncode == 2 and "Traceback" not in done.stderr
