"""A campaign whose method offloads to a second local device: the rows that come of it, and what it leaves behind."""
import json
import socket

from tests.e2e.spine import PLUGINS, edgefleet, query

CAMPAIGN = """
name = "offloading"
fleet = "fleet.toml"
plugins = "%(plugins)s"
[matrix]
device = ["%(device)s"]
task = ["digits"]
model = ["%(model)s"]
method = ["fixed-full", "autoscale-exact", "autoscale-branches"]
trace = ["idle"]
[methods.fixed-full]
adapter = "fixed"
branch = "full"
[methods.autoscale-exact]
adapter = "autoscale"
engine = "remote"
peers = ["edge"]
link = { rate_mbps = 80.0, delay_ms = 0.5 }
threads = [1]
epsilon = 0.5
[methods.autoscale-branches]
adapter = "autoscale"
engine = "remote"
peers = ["edge"]
actions = "branches"
threads = [1]
[trial]
duration_s = 1.5
warmup_s = 0.05
deadline = { ms = 50 }
arrival = { kind = "periodic", rate = { hz = 60 } }
[training]
epochs = 1
[tuning]
configurations = 3
arrivals = 50
training_trials = 2
"""
FLEET = "[devices.host]\n[devices.edge]\n"


def write(folder, model, device="host"):
    (folder / "fleet.toml").write_text(FLEET)
    path = folder / "offloading.toml"
    path.write_text(CAMPAIGN % {"plugins": PLUGINS, "model": model, "device": device})
    return path


def test_rows_show_peers_remote_inferences_and_shared_costs(tmp_path, tiny_home, tiny_model):
    done = edgefleet("run", write(tmp_path, tiny_model), "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    rows = query(tiny_home, "select label, id, state, engine, runtime, definition, deadline_ms, provenance, settings "
                            "from trial where campaign not like '%/learning'")
    trials = {row[0]: row for row in rows}
    assert {row[2] for row in trials.values()} == {"done"} and len(trials) == 3
    exact = trials["autoscale-exact"]
    definition = json.loads(exact[5])
    assert definition["peers"] == ["edge"] and definition["link"] == {"rate_mbps": 80.0, "delay_ms": 0.5}
    assert exact[3] == "remote" and exact[4].startswith("remote 1 over onnxruntime_cpu: onnxruntime ")
    assert exact[7] == "emulated" and trials["fixed-full"][7] == "measured"     # a shaped link is no measured one
    assert trials["autoscale-branches"][7] == "measured"
    assert len({row[6] for row in trials.values()}) == 1
    assert json.loads(exact[8])["peers"] == ["edge"] and "link" not in json.loads(exact[8])
    for label in ("autoscale-exact", "autoscale-branches"):
        asked = query(tiny_home, "select json_extract(body, '$.peer'), json_extract(body, '$.status'), count(*) "
                                 "from event where kind = 'remote' and trial in (select id from trial where label = ?) "
                                 "group by 1, 2", f"{label} (training)")
        assert [row[:2] for row in asked] == [("edge", "ok")] and asked[0][2] >= 5, asked
    for label, drawn, log in query(tiny_home, "select label, tuning, log from preparation"):
        assert len(json.loads(drawn)) == 3 and "tuned on a simulated twin: 3 configurations" in log, label
        assert "the twin's peers (edge) are idle" in log and "not tuned" not in log
    of_chain = "trial in (select id from trial where label = 'autoscale-exact (training)')"
    targets = query(tiny_home, f"select distinct json_extract(knobs, '$.target') from decision where {of_chain}")
    assert {row[0] for row in targets} == {"local", "edge"}
    link = query(tiny_home, "select distinct source, provenance from measurement where metric = 'rtt_ms' "
                 f"and {of_chain}")
    assert link == [("emulated: link to edge", "emulated")]
    assert query(tiny_home, "select distinct device, engine, runtime from cost order by 1") == [
        (name, "onnxruntime_cpu", trials["fixed-full"][4]) for name in ("edge", "host")], (
        "one profile serves all methods of a cell, and one of the peer their tuning")
    assert json.loads(exact[8])["learn"] is False
    learned = json.loads((tiny_home / "learned" / definition["learned"]).read_text())
    assert learned["actions"][0] == "full|1|local" and learned["states"]
    chain = query(tiny_home, "select label, state, count(*) from trial where campaign like '%/learning' group by 1, 2")
    assert chain == [("autoscale-branches (training)", "done", 2), ("autoscale-exact (training)", "done", 2)]
    assert_nothing_listens(tiny_home)


def assert_nothing_listens(home):
    """The peer's lock is free, and its log tells of no stranger."""
    from device_agents.trial_folder import is_locked

    assert not is_locked(str(home / "devices/edge/lock")) and not is_locked(str(home / "devices/edge/serve.lock"))
    assert "refused" not in (home / "devices/edge/serve.log").read_text()
    with socket.socket() as probe:                      # a sanity check of this test: connecting can be refused
        assert probe.connect_ex(("127.0.0.1", 1)) != 0


def test_a_device_is_no_peer_of_itself_and_can_be_left_out(tmp_path, tiny_home, tiny_model):
    both = write(tmp_path, tiny_model, "*")
    done = edgefleet("plan", both, home=tiny_home)
    assert done.returncode == 2 and "edge cannot be its own peer" in done.stderr and "exclude" in done.stderr
    exclude = 'exclude = [{ device = "edge", method = "autoscale" }]'
    both.write_text(both.read_text().replace("[matrix]", exclude + "\n[matrix]"))
    done = edgefleet("plan", both, "--json", home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert {(one["device"], one["method"]) for one in json.loads(done.stdout)["trials"]} == {
        ("host", "fixed-full"), ("host", "autoscale-exact"), ("host", "autoscale-branches"), ("edge", "fixed-full")}
