"""`inline` and `ray` are twins: identical rows on simulated devices; same trials, states and attempts on real ones."""
import shutil

import pytest

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


def test_identical_rows_on_simulated_devices(tmp_path, tiny_model, homes):
    campaign = write_campaign(tmp_path, tiny_model, SIMULATED_FLEET, "replay", duration_s=5.0,
                              traces='"idle", "ramp", "bursty"')
    inline, ray = run_both(campaign, homes, ALL)
    assert len(inline["trial"]) == 36 and len(inline["inference"]) > 1000
    assert {row["provenance"] for row in inline["inference"]} == {"simulated"}
    for table in ALL:
        # `fingerprint` of an attempt and `start` events say which process it was; everything else must be equal.
        assert inline[table] == ray[table], table


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
