"""`inline` and `ray` are twins: identical rows on simulated devices; same trials, states and attempts on real ones."""
import json
import shutil
import time

import pytest

from harness.scheduler import _end, _start_ray
from tests.e2e.spine import FLEET, SIMULATED_FLEET, dump, edgefleet, write_campaign

ALL = ("device", "bundle", "branch", "cost", "trial", "attempt", "inference", "decision", "measurement", "event",
       "summary")


@pytest.fixture
def homes(tmp_path, tiny_home):
    twin = tmp_path / "twin"
    shutil.copytree(tiny_home, twin)
    return {"inline": tiny_home, "ray": twin}


def run_both(campaign, homes, tables):
    for scheduler, home in homes.items():
        done = edgefleet("run", campaign, "--scheduler", scheduler, home=home)
        assert done.returncode == 0, done.stderr
    return dump(homes["inline"], tables), dump(homes["ray"], tables)


def without_token(rows):
    """Sorted anew: dump() sorted them by text that had the token in it."""
    for row in rows:
        row.pop("journal_sha256", None)
        if row.get("kind") == "start":
            row["body"] = {key: value for key, value in json.loads(row["body"]).items() if key != "token"}
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def test_identical_rows_on_simulated_devices(tmp_path, tiny_model, homes):
    campaign = write_campaign(tmp_path, tiny_model, SIMULATED_FLEET, "replay", duration_s=5.0,
                              traces='"idle", "ramp", "bursty"')
    inline, ray = run_both(campaign, homes, ALL)
    assert len(inline["trial"]) == 36 and len(inline["inference"]) > 1000
    assert {row["provenance"] for row in inline["inference"]} == {"simulated"}
    for table in ALL:
        # The token is the clock's, and stands in each journal's first line; everything else must be equal.
        assert without_token(inline[table]) == without_token(ray[table]), table


def test_same_trials_states_and_attempts_on_real_devices(tmp_path, tiny_model, homes):
    campaign = write_campaign(tmp_path, tiny_model, FLEET, repeats=1)
    inline, ray = run_both(campaign, homes, ("trial", "attempt"))

    def outcome(rows):
        return ({(row["id"], row["state"], row["error"]) for row in rows["trial"]},
                {(row["trial"], row["number"], row["state"], row["error"]) for row in rows["attempt"]})

    assert len(inline["trial"]) == 6
    assert outcome(inline) == outcome(ray)


def test_a_site_that_the_cluster_lacks_is_named_at_once(tmp_path, tiny_home, tiny_model):
    campaign = write_campaign(tmp_path, tiny_model, '[sites.lab2]\n[devices.host]\nsite = "lab2"\n')
    done = edgefleet("run", campaign, "--scheduler", "ray", home=tiny_home)
    assert done.returncode == 2 and "has no site 'lab2'" in done.stderr, done.stderr


def test_a_site_that_died_keeps_no_other_from_being_closed(tmp_path):
    class Room:                                 # in here, so that a worker need not import this file
        def __init__(self, closed):
            self._closed = closed

        def stop(self):
            pass

        def close(self):
            self._closed.touch()

    ray, _ = _start_ray("local")
    try:
        dead, well = (ray.remote(Room).options(num_cpus=0).remote(tmp_path / name) for name in ("dead", "well"))
        ray.get([dead.stop.remote(), well.stop.remote()])
        ray.kill(dead)
        with pytest.raises(ray.exceptions.RayActorError):
            for _ in range(1000):               # it may answer for a moment still
                ray.get(dead.stop.remote(), timeout=10)
                time.sleep(0.01)
        _end(ray, [dead, well])
    finally:
        ray.shutdown()
    assert [path.name for path in tmp_path.iterdir()] == ["well"]
