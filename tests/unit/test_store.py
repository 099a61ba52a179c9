"""The store keeps what it was told, once, and says in words what is wrong with a database file."""
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from db.connection import in_words
from db.errors import StoreError
from db.store import Store
from device_agents.wire import trial_from_json
from tests.fakes import sample_bundle, sample_costs, sample_trace, sample_trial


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "results.sqlite") as opened:
        opened.save_campaign("quickstart", {"name": "quickstart"}, {"devices": ["host"]}, now_s=1.0)
        opened.save_device("host", "local", None, 1.0, "measured", {"cores": 4}, now_s=1.0)
        opened.save_bundle(sample_bundle())
        yield opened


def test_settings_of_a_writer(store):
    with store.transaction() as connection:
        read = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")}
    assert read == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 30_000}


def test_a_campaign_saved_again_keeps_its_first_run(store):
    store.save_campaign("quickstart", {"name": "quickstart", "seed": 8}, {}, now_s=9.0)
    [row] = store.read("campaign")
    assert (row["spec"], row["first_run_s"], row["last_run_s"]) == ({"name": "quickstart", "seed": 8}, 1.0, 9.0)


def test_a_device_that_is_not_probed_keeps_its_facts(store):
    store.save_device("host", "local", "laptop", 2.0, "emulated", None, now_s=5.0)
    row = store.device("host")
    assert (row["device_class"], row["provenance"], row["probed_s"]) == ("laptop", "emulated", 1.0)
    assert row["facts"] == {"cores": 4}
    assert store.device("nobody") is None
    assert [device["name"] for device in store.devices()] == ["host"]


def test_bundle_and_costs_come_back_as_they_went(store):
    bundle = sample_bundle()
    store.save_bundle(bundle)                               # again: no duplicate, no error
    assert set(store.branches(bundle.id)) == set(bundle.branches)
    key = ("host", bundle.id, "onnxruntime_cpu", "onnxruntime 1.31.1", "{}")
    assert store.costs(*key) == ()
    store.save_costs(*key, sample_costs())
    slower = sample_costs(slowdown=2.0)
    store.save_costs(*key, slower)
    assert set(store.costs(*key)) == set(slower)
    threaded = (*key[:4], '{"threads":2}')
    assert store.costs(*threaded) == ()                     # what other knobs cost is not known yet, and is kept apart
    store.save_costs(*threaded, sample_costs())
    assert set(store.costs(*threaded)) == set(sample_costs()) and set(store.costs(*key)) == set(slower)


def test_add_trials_is_idempotent_and_leaves_states_alone(store):
    trials = [sample_trial(repeat=number, block=number) for number in range(3)]
    assert store.add_trials(trials[:2], {"host": "measured"}) == 2
    store.set_trial_state(trials[0].id, "done")
    assert store.add_trials(trials, {"host": "measured"}) == 1
    assert store.states([trial.id for trial in trials] + ["unknown"]) == {
        trials[0].id: "done", trials[1].id: "pending", trials[2].id: "pending"}
    assert [row["id"] for row in store.trials()] == [trial.id for trial in trials]
    assert [row["id"] for row in store.trials(ids=[trials[1].id])] == [trials[1].id]
    assert store.add_trials([], {}) == 0


def test_the_definition_restores_the_trial(store):
    trial = sample_trial(trace=sample_trace("ramp"), settings={"a": [1, None, "b"]})
    store.add_trials([trial], {"host": "measured"})
    [row] = store.trials()
    assert trial_from_json(row["definition"]) == trial
    assert (row["trace"], row["trace_digest"], row["state"]) == ("ramp", trial.trace.digest(), "pending")


def test_a_trial_says_on_which_processor_it_ran(store):
    trials = [sample_trial(), sample_trial(id="f" * 16, engine="tensorrt", knobs={"processor": "gpu"})]
    store.add_trials(trials, {"host": "measured"})
    assert {row["id"]: row["processor"] for row in store.trials()} == {trials[0].id: "cpu", "f" * 16: "gpu"}


def test_a_trial_shared_by_two_campaigns_runs_once_and_shows_in_both(store):
    store.save_campaign("second", {}, {}, now_s=2.0)
    first = sample_trial()
    assert store.add_trials([first], {"host": "measured"}) == 1
    assert store.add_trials([first._replace(campaign="second", label="ours", block=4)], {"host": "measured"}) == 0
    [one], [two] = store.trials(campaign="quickstart"), store.trials(campaign="second")
    assert (one["id"], one["label"], one["block"], one["campaign"]) == (first.id, "adascale", 0, "quickstart")
    assert (two["id"], two["label"], two["block"], two["campaign"]) == (first.id, "ours", 4, "second")
    assert store.trials(campaign="other") == []


def test_an_attempt_from_begin_to_end(store):
    trial = sample_trial()
    store.add_trials([trial], {"host": "measured"})
    assert store.next_attempt_number(trial.id) == 1
    store.begin_attempt(trial.id, 1, token=7, period_ms=5.0, deadline_ms=5.2, started_s=10.0)
    [left] = store.read("attempt", trial=trial.id)
    assert (left["number"], left["token"], left["started_s"], left["state"], left["journal"]) == (
        1, 7, 10.0, "running", None)
    store.begin_attempt(trial.id, 1, token=8, period_ms=5.0, deadline_ms=5.2, started_s=11.0)       # re-attached
    store.finish_attempt(trial.id, 1, "failed", "AgentCrashed", "device", "no last line", "a.jsonl.gz", 12.0)
    assert store.read("attempt", trial=trial.id)[0]["state"] == "failed"
    assert store.trials()[0]["state"] == "running"                  # died before it said what becomes of the trial
    store.begin_attempt(trial.id, store.next_attempt_number(trial.id), 9, 5.0, 5.2, 13.0)
    store.finish_attempt(trial.id, 2, "done", "", "", "", "b.jsonl.gz", 14.0, trial_state="done")
    [row] = store.trials()
    assert (row["state"], row["error"], row["period_ms"], row["deadline_ms"]) == ("done", None, 5.0, 5.2)
    with pytest.raises(StoreError, match="already ended"):
        store.begin_attempt(trial.id, 1, 9, None, None, 15.0)


def test_an_attempt_that_was_given_up_begins_again_when_its_device_holds_it(store):
    trial = sample_trial()
    store.add_trials([trial], {"host": "measured"})
    store.begin_attempt(trial.id, 1, 7, 5.0, 5.2, 10.0)
    store.finish_attempt(trial.id, 1, "failed", "DeviceUnreachable", "link", "gone", None, 12.0, trial_state="pending")
    store.begin_attempt(trial.id, 1, 8, 5.0, 5.2, 13.0)
    [row] = store.read("attempt", trial=trial.id)
    assert (row["state"], row["error"], row["blame"], row["message"], row["ended_s"]) == ("running", *[None] * 4)
    store.finish_attempt(trial.id, 1, "failed", "AgentCrashed", "device", "it died", "a.gz", 14.0)
    with pytest.raises(StoreError, match="already ended"):
        store.begin_attempt(trial.id, 1, 9, None, None, 15.0)


def test_skipping_keeps_the_reason(store):
    trial = sample_trial()
    store.add_trials([trial], {"host": "measured"})
    store.skip(trial.id, "nothing to offload to")
    [row] = store.trials()
    assert (row["state"], row["reason"]) == ("skipped", "nothing to offload to")


def test_a_trial_of_an_unknown_device_is_refused_in_words(store):
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        store.add_trials([sample_trial(device="ghost")], {"ghost": "measured"})
    assert store.trials() == []


def test_a_failed_transaction_leaves_nothing(store):
    with pytest.raises(RuntimeError), store.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM device")
        raise RuntimeError
    assert len(store.devices()) == 1


# --- database files that are not as they should be ------------------------------------------------------------------

def test_read_only_reads_and_cannot_write(store):
    with Store.read_only(store.path) as reader:
        assert reader.device("host") is not None
        with pytest.raises(StoreError, match="cannot be written"):
            reader.save_device("x", "local", None, 1.0, "measured", {})


def test_there_is_no_database(tmp_path):
    for open_it in (lambda path: Store.open(path, create=False), Store.read_only):
        with pytest.raises(StoreError, match=r"there is no database.*edgefleet run"):
            open_it(tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_newer_schema_is_refused_and_untouched(store, tmp_path):
    with store.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    for open_it in (Store.open, Store.read_only):
        with pytest.raises(StoreError, match=r"newer edgefleet \(schema 9999.*Update edgefleet"):
            open_it(store.path)
    with sqlite3.connect(store.path) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
        assert raw.execute("SELECT count(*) FROM device").fetchone() == (1,)


@pytest.mark.parametrize("content", [b"hello, I am text " * 99, b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database(tmp_path, content):
    path = tmp_path / "results.sqlite"
    path.write_bytes(content)
    for open_it in (Store.open, Store.read_only):
        with pytest.raises(StoreError, match=r"results\.sqlite: .*(EDGEFLEET_HOME|damaged)"):
            open_it(path)
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "results.sqlite").mkdir()
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(tmp_path / "results.sqlite")


def test_the_database_of_another_program_is_refused_and_untouched(tmp_path):
    path = tmp_path / "results.sqlite"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE notes (text)")
    raw.close()
    with pytest.raises(StoreError, match="another program"):
        Store.open(path)
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]


def test_an_empty_file_becomes_a_database(tmp_path):
    (tmp_path / "results.sqlite").touch()
    with pytest.raises(StoreError, match="holds no results yet"):
        Store.read_only(tmp_path / "results.sqlite")
    with Store.open(tmp_path / "results.sqlite") as store:
        assert store.devices() == []


def test_locked_by_another_process(store):
    with sqlite3.connect(store.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with Store.open(store.path, busy_timeout_s=0.05) as second:
            with pytest.raises(StoreError, match="locked by another"):
                second.save_device("x", "local", None, 1.0, "measured", {})
            assert len(second.devices()) == 1               # reading waits for nobody


def test_a_full_disk_loses_nothing(store):
    """SQLite's own limit of pages stands in for the disk: the error that it raises is the same."""
    bundle = sample_bundle()
    with store.transaction() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match=r"disk is full.*free some space"):
        store.save_campaign("big", {"text": "x" * 200_000}, {})
    assert [row["name"] for row in store.read("campaign")] == ["quickstart"]
    assert len(store.branches(bundle.id)) == len(bundle.branches)


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_to(store, tmp_path):
    """Run as an ordinary user: the reader works, the writer says what to do."""
    store.close()
    folder = tmp_path / "shared"
    folder.mkdir()
    shutil.copy(store.path, folder)
    code = ("import sys; from pathlib import Path; from db.store import Store; from db.errors import StoreError\n"
            "path = Path(sys.argv[1])\n"
            "with Store.read_only(path) as store: print(len(store.devices()))\n"
            "for open_it in (lambda: Store.open(path), lambda: Store.open(path.parent / 'new' / 'x.sqlite')):\n"
            "    try: open_it()\n"
            "    except StoreError as error: print(error)\n")
    for part in [folder, *folder.parents]:
        if part.stat().st_uid == os.geteuid() and part != Path("/") and len(part.parts) > 2:
            part.chmod(0o555 if part == folder else 0o755)
    (folder / "results.sqlite").chmod(0o444)
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run([*drop, sys.executable, "-B", "-c", code, str(folder / "results.sqlite")],
                          capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    if done.returncode != 0 and "ModuleNotFoundError" in done.stderr + done.stdout:
        pytest.skip("an ordinary user cannot read this installation")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "1"
    assert "EDGEFLEET_HOME" in lines[1] and "EDGEFLEET_HOME" in lines[2]


def test_two_processes_may_create_it_at_once(tmp_path):
    path, errors = tmp_path / "new" / "results.sqlite", []

    def work() -> None:
        try:
            Store.open(path).close()
        except StoreError as error:
            errors.append(str(error))
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_what_is_not_sqlites_passes_through(tmp_path):
    with pytest.raises(ValueError, match="ours"), in_words(tmp_path):
        raise ValueError("ours")


def test_rows_are_json_ready(store):
    store.add_trials([sample_trial()], {"host": "measured"})
    assert json.loads(json.dumps(store.trials()))[0]["settings"] == {"hysteresis": 0.1}
