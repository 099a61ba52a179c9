"""A user's own engine, from a campaign's plug-in folder into trials: planned, profiled and run where it was pushed."""
import json
import shutil

from tests.e2e.spine import PLUGINS, edgefleet, query, write_campaign

ENGINE = '''"""Answers with a byte of the sample, as any network would without training. Standard library only."""
import os

from device_agents.seams import Engine


class Plain(Engine):
    processor = "npu"

    @classmethod
    def runtime(cls):
        return "plain 2.1"

    def open(self, bundle, store, settings):
        with open(os.path.join(store, bundle.samples), "rb") as file:
            self._data = file.read()
        self._bundle, self._store, self._loaded = bundle, store, {}

    def load(self, branch, knobs):
        assert knobs == {"processor": "npu"}
        artifact = next(one.artifact for one in self._bundle.branches if one.id == branch)
        with open(os.path.join(self._store, artifact), "rb") as file:
            self._loaded[branch] = len(file.read())

    def infer(self, branch, sample):
        size_b = len(self._data) // self._bundle.count
        return sum(self._data[sample * size_b:(sample + 1) * size_b], self._loaded[branch]) % self._bundle.classes

    def unload(self, branch):
        del self._loaded[branch]
'''


FLEET = """
[devices.host]
[devices.sim]
transport = "simulated"
simulate = { full_ms = 20.0 }
"""
RUNTIMES = {("host", "plain 2.1"), ("sim", "none")}


def test_a_campaign_runs_on_an_engine_of_its_plugin_folder(tmp_path, tiny_home, tiny_model):
    shutil.copytree(PLUGINS, tmp_path / "plugins")
    (tmp_path / "plugins" / "engines").mkdir()
    (tmp_path / "plugins" / "engines" / "plain.py").write_text(ENGINE)
    campaign = write_campaign(tmp_path, tiny_model, FLEET, engine="plain", repeats=1, duration_s=0.3)
    campaign.write_text(campaign.read_text().replace(str(PLUGINS), "plugins"))
    plan = edgefleet("plan", campaign, "--json", home=tiny_home)
    assert plan.returncode == 0, plan.stderr
    assert {(one["device"], one["runtime"]) for one in json.loads(plan.stdout)["trials"]} == RUNTIMES
    done = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert set(query(tiny_home, "select distinct device, runtime from trial")) == RUNTIMES
    assert query(tiny_home, "select distinct engine, state from trial where device = 'host'") == [("plain", "done")]
    skipped = query(tiny_home, "select distinct state, reason from trial where device = 'sim'")
    assert len(skipped) == 1 and skipped[0][0] == "skipped" and "a simulated device runs no network" in skipped[0][1]
    assert query(tiny_home, "select distinct engine, source from cost") == [("plain", "profile")]
    assert query(tiny_home, "select count(*) from inference where status = 'ok'")[0][0] > 0


def test_a_method_brings_its_engine_to_a_campaign_of_another_processor(tmp_path, tiny_home, tiny_model):
    """Its rates refer to the campaign's engine, which is profiled with that one's own knobs, once for all rows."""
    shutil.copytree(PLUGINS, tmp_path / "plugins")
    (tmp_path / "plugins" / "engines").mkdir()
    (tmp_path / "plugins" / "engines" / "plain.py").write_text(ENGINE)
    campaign = write_campaign(tmp_path, tiny_model, "[devices.host]\n", repeats=1, duration_s=0.3)
    own = 'branch = "smallest"\n'
    campaign.write_text(campaign.read_text().replace(str(PLUGINS), "plugins").replace(own, own + 'engine = "plain"\n'))
    done = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert query(tiny_home, "select distinct engine, processor, state from trial order by 1") == [
        ("onnxruntime_cpu", "cpu", "done"), ("plain", "npu", "done")]
    assert query(tiny_home, "select distinct engine, knobs from cost order by 1") == [
        ("onnxruntime_cpu", "{}"), ("plain", '{"processor":"npu"}')]
    assert query(tiny_home, "select count(distinct period_ms), count(distinct deadline_ms) from trial") == [(1, 1)]
