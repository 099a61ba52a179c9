"""Journals become rows, once, with their provenance; a cut, foreign or empty one does no harm."""
import gzip
import random
from pathlib import Path

import pytest

from db import schema
from db.errors import StoreError
from db.ingest import BAD_LINES_KEPT, ingest_journal
from tests.fakes import sample_order, sample_trial, write_journal
from tests.journal_kit import RAW, TRIAL, dump, lines_of, take, text_of, waiting_store


@pytest.fixture
def store(tmp_path: Path):
    with waiting_store(tmp_path) as opened:
        yield opened


# --- the ordinary journal -------------------------------------------------------------------------------------------

def test_every_line_becomes_its_rows(store):
    lines = lines_of(energy="counter")
    found = take(store, text_of(lines))
    assert (found.state, found.problems, found.error, found.preflight) == ("done", (), "", "unknown")
    kinds = [line["kind"] for line in lines]
    assert len(store.read("inference")) == kinds.count("inference") == found.inferences
    assert len(store.read("decision")) == kinds.count("decision")
    samples = [line for line in lines if line["kind"] == "sample"]
    loads = [line for line in lines if line["kind"] == "loadgen"]
    assert len(store.read("measurement")) == sum(len(line["values"]) + 1 for line in samples) + 5 * len(loads)
    others = [line for line in lines if line["kind"] not in ("inference", "decision", "sample", "loadgen")]
    events = store.read("event")
    assert [(row["seq"], row["kind"], row["t_ns"], row["phase"]) for row in events] == [
        (line["seq"], line["kind"], line["t_ns"], line["phase"]) for line in others]
    heads = ("seq", "kind", "t_ns", "phase")
    assert [row["body"] for row in events] == [{key: line[key] for key in line if key not in heads} for line in others]
    assert found.rows == sum(len(store.read(table)) for table in RAW[:4])


def test_an_inference_row_is_the_line(store):
    lines = lines_of()
    take(store, text_of(lines))
    line = [entry for entry in lines if entry["kind"] == "inference"][-1]
    row = store.read("inference")[-1]
    renamed = {"number": "index"}
    for column in [column.name for column in schema.inference.columns]:
        if column not in ("trial", "provenance"):
            value = line[renamed.get(column, column)]
            assert row[column] == (int(value) if isinstance(value, bool) else value), column
    assert (row["trial"], row["provenance"]) == (TRIAL.id, "measured")


def test_the_attempt_learns_what_the_journal_says(store):
    store.begin_attempt(TRIAL.id, 1, 3, 5.0, 5.2, 10.0)
    take(store, text_of(lines_of()))
    [row] = store.read("attempt")
    assert (row["state"], row["token"], row["preflight"]) == ("running", 3, "unknown")
    assert row["boot_id"] == "11111111-2222-3333-4444-555555555555" and row["fingerprint"]["machine"] == "x86_64"
    assert len(row["journal_sha256"]) == 64


def test_packed_or_not_gives_the_same_rows(store, tmp_path):
    data = text_of(lines_of())
    take(store, data)
    plain = dump(store)
    take(store, gzip.compress(data))
    assert dump(store) == plain


def test_twice_gives_identical_tables(store):
    data = text_of(lines_of(energy="power"))[:-50] + b"\n{garbage\n"
    store.add_event(TRIAL.id, 1, "link", {"text": "the controller's own stays"})
    first = take(store, data)
    before = dump(store)
    assert take(store, data) == first
    assert dump(store) == before
    assert [row["kind"] for row in before["event"]][:2] == ["bad_line", "bad_line"]
    assert "link" in [row["kind"] for row in before["event"]]


def test_a_later_attempt_replaces_rows_and_keeps_events(store):
    take(store, text_of(lines_of(20, ending="crashed"))[:-90], attempt=1)
    second = text_of(lines_of(40, order={"attempt": 2}))
    assert take(store, second, attempt=2).replaced
    assert len(store.read("inference", phase="window")) == 40
    assert {row["attempt"] for row in store.read("event")} == {1, 2}
    before = dump(store)
    late = take(store, text_of(lines_of(20)), attempt=1)        # an old journal again
    assert not late.replaced
    assert dump(store)["inference"] == before["inference"] and dump(store)["measurement"] == before["measurement"]


def test_a_failed_trial_tells_class_and_blame(store):
    found = take(store, text_of(lines_of(ending="failed")))
    assert (found.state, found.error, found.blame) == ("failed", "AgentFailed", "harness")
    assert "ZeroDivisionError" in found.message and found.traceback.startswith("Traceback")
    for said, error, blame in (
            ("unsupported", "DeviceUnsupported", "device"), ("not_ready", "DeviceNotReady", "device"),
            ("user", "AgentFailed", "user"), ("nonsense", "AgentFailed", "harness")):
        lines = lines_of(ending="failed")
        lines[-1]["error"] = said
        found = take(store, text_of(lines))
        assert (found.error, found.blame) == (error, blame)


# --- provenance -----------------------------------------------------------------------------------------------------

def test_provenance_follows_the_source(store):
    lines = lines_of(energy="modelled")
    sample = next(line for line in lines if line["kind"] == "sample")
    sample["values"]["battery_pct"], sample["emulated"] = 50.0, ["battery_pct"]
    take(store, text_of(lines))
    found = {row["metric"]: (row["source"], row["unit"], row["provenance"]) for row in store.read("measurement")}
    assert found["co_cpu_pct"] == ("proc_stat", "%", "measured")
    assert found["power_w"] == ("modelled", "W", "modelled")
    assert found["battery_pct"] == ("trace", "%", "emulated")
    assert found["achieved_cpu_pct"] == ("loadgen", "%", "emulated")
    assert found["sampler_cost_us"] == ("sampler", "us", "measured")


def test_a_part_of_another_provenance_than_its_source_is_stored_as_that(store):
    lines = lines_of(energy="power")
    sample = next(line for line in lines if line["kind"] == "sample")
    sample["values"]["jetson_rail.estimate_power_w"], sample["modelled"] = 9.0, ["jetson_rail.estimate_power_w", 3]
    assert take(store, text_of(lines)).problems == ()
    [row] = store.read("measurement", metric="estimate_power_w")
    assert (row["source"], row["unit"], row["provenance"]) == ("jetson_rail", "W", "modelled")
    assert {row["provenance"] for row in store.read("measurement", metric="power_w")} == {"measured"}


def test_traffic_is_recorded_asked_and_achieved(store):
    lines = lines_of()
    for line in lines:
        if line["kind"] == "loadgen":
            line.update(asked_traffic_mbps=8.0, achieved_traffic_mbps=7.5)
    take(store, text_of(lines))
    rows = [row for row in store.read("measurement") if row["metric"].endswith("traffic_mbps")]
    assert {(row["metric"], row["value"], row["unit"], row["source"], row["provenance"]) for row in rows} == {
        ("asked_traffic_mbps", 8.0, "Mbit/s", "loadgen", "emulated"),
        ("achieved_traffic_mbps", 7.5, "Mbit/s", "loadgen", "emulated")}


@pytest.mark.parametrize(("said", "timed", "sensed", "energy"), [
    ("emulated", "emulated", "measured", "measured"), ("simulated", "simulated", "simulated", "simulated"),
    ("synthetic", "synthetic", "synthetic", "synthetic"), ("perfect", "measured", "measured", "measured")])
def test_the_journals_provenance_reaches_every_row(store, said, timed, sensed, energy):
    found = take(store, text_of(lines_of(energy="counter", order={"provenance": said})))
    assert len(found.problems) == 1 and ("provenance" in found.problems[0] or said in found.problems[0])
    assert {row["provenance"] for row in store.read("inference")} == {timed}
    assert {row["provenance"] for row in store.read("decision")} == {timed}
    assert {row["provenance"] for row in store.read("measurement", metric="co_cpu_pct")} == {sensed}
    assert {row["provenance"] for row in store.read("measurement", metric="energy_j")} == {energy}


# --- journals that are not whole -----------------------------------------------------------------------------------

def test_cut_anywhere_everything_before_is_kept(store):
    lines = lines_of(20)
    data = text_of(lines)
    rng = random.Random(3)
    for cut in [0, 1, *sorted(rng.sample(range(len(data)), 25)), len(data) - 1]:
        whole = data[:cut].count(b"\n")
        complete = cut > 0 and data[cut:cut + 1] == b"\n"           # only the newline is missing: the line counts
        found = take(store, data[:cut])
        kept = lines[:whole + complete]
        assert found.inferences == sum(line["kind"] == "inference" for line in kept)
        assert found.state == ("done" if kept and kept[-1]["kind"] == "done" else "crashed")
        if found.state == "crashed":
            assert (found.error, found.blame) == ("AgentCrashed", "device")
        assert len(store.read("inference")) == found.inferences


def test_a_cut_archive_keeps_what_can_be_unpacked(store):
    packed = gzip.compress(text_of(lines_of(300)))
    found = take(store, packed[:len(packed) // 2])
    assert found.state == "crashed" and found.inferences > 20
    assert any("cut or damaged" in problem for problem in found.problems)
    assert take(store, packed[:4]).inferences == 0
    corrupt = bytearray(packed)
    corrupt[len(packed) // 2] ^= 0xFF
    assert take(store, bytes(corrupt)).state == "crashed"


def test_holes_and_repeats(store):
    lines = lines_of(20)
    found = take(store, text_of([*lines[:30], *lines[33:]]))
    assert f"seq {lines[30]['seq']} to {lines[32]['seq']} are missing" in found.problems and found.state == "done"
    found = take(store, text_of([*lines[:30], lines[29], lines[28], *lines[30:]]))
    assert len(store.read("event", kind="bad_line")) == 2
    assert found.inferences == sum(line["kind"] == "inference" for line in lines)


def test_what_comes_after_the_end_does_not_count(store):
    lines = lines_of(20)
    late = {**lines[-1], "kind": "failed", "seq": lines[-1]["seq"] + 1, "error": "agent", "message": "late"}
    found = take(store, text_of([*lines, late]))
    assert found.state == "done" and any("after the last line" in problem for problem in found.problems)


def test_bad_lines_are_counted_not_hoarded(store):
    found = take(store, text_of(lines_of(5)[:10]) + b"junk\n" * 5000)
    assert len(store.read("event", kind="bad_line")) == BAD_LINES_KEPT
    assert f"{5000 - BAD_LINES_KEPT} more bad lines" in found.problems


def test_another_trials_journal_touches_nothing(store):
    take(store, text_of(lines_of(20)))
    before = dump(store)
    foreign = write_journal(None, sample_order(sample_trial(repeat=9)), inferences=5)
    found = take(store, text_of(foreign))
    assert found.state == "crashed" and "belongs to trial" in found.message
    assert dump(store) == before


def test_a_journal_of_another_attempt_is_told(store):
    found = take(store, text_of(lines_of(5, order={"attempt": 4})))
    assert found.state == "done" and "it is of attempt 4, not 1" in found.problems


def test_without_a_start_line(store):
    found = take(store, b"junk\n" + text_of(lines_of(5)[1:]))
    assert found.state == "done" and "it has no start line" in found.problems
    assert {row["provenance"] for row in store.read("inference")} == {"measured"}


def test_an_empty_file_and_a_missing_one(store):
    found = take(store, b"")
    assert (found.state, found.inferences, found.problems) == ("crashed", 0, ("it is empty",))
    with pytest.raises(StoreError, match=r"gone\.jsonl: cannot be read \(No such file"):
        ingest_journal(store, store.path.parent / "gone.jsonl", TRIAL.id, 1)


def test_an_unknown_trial_is_refused(store, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b"")
    with pytest.raises(StoreError, match="which the database does not have"):
        ingest_journal(store, tmp_path / "x.jsonl", "f" * 24, 1)


def test_a_failure_in_the_middle_leaves_the_earlier_rows(store):
    """Disk full while storing: SQLite's own limit of pages raises the same error."""
    take(store, text_of(lines_of(20)))
    before = dump(store)
    with store.transaction() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="disk is full"):
        take(store, text_of(lines_of(3000)))
    assert dump(store) == before
