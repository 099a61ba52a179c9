"""Journals become rows, once, whatever a device sends: cut, garbage, hostile or out of order."""
import gzip
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import schema
from db.derive import derive_trial
from db.errors import StoreError
from db.ingest import BAD_LINES_KEPT, ingest_journal
from db.journal_file import LINE_LIMIT_B, JournalFile, clean, cleaned
from db.store import Store
from tests.fakes import sample_bundle, sample_order, sample_trial, write_journal

TRIAL = sample_trial()
RAW = ("inference", "decision", "measurement", "event", "summary", "attempt")


def new_store(path: Path) -> Store:
    store = Store.open(path)
    store.save_campaign("quickstart", {}, {}, now_s=0.0)
    store.save_device("host", "local", None, 1.0, "measured", {}, now_s=0.0)
    store.save_bundle(sample_bundle())
    store.add_trials([TRIAL], {"host": "measured"})
    return store


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "results.sqlite"
    new_store(path).close()
    return path


@pytest.fixture
def store(prepared: Path, tmp_path: Path):
    with Store.open(Path(shutil.copy(prepared, tmp_path))) as opened:
        yield opened


def lines_of(count: int = 30, **options: Any) -> list[dict[str, Any]]:
    return write_journal(None, sample_order(TRIAL, **options.pop("order", {})), inferences=count, **options)


def text_of(lines: list[dict[str, Any]]) -> bytes:
    """Infinities become numbers that are too big, which JSON allows."""
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    return text.replace("Infinity", "1e999").encode()


def take(store: Store, data: bytes, attempt: int = 1):
    path = store.path.parent / f"{TRIAL.id}.{attempt}.jsonl"
    path.write_bytes(data)
    return ingest_journal(store, path, TRIAL.id, attempt)


def dump(store: Store) -> dict[str, list[dict[str, Any]]]:
    return {table: store.read(table) for table in RAW}


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


# --- damage ---------------------------------------------------------------------------------------------------------

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


BAD_LINES = {
    "garbage": b"\x00\xff\xfe garbage \x1b[31m", "no JSON": b"{\"seq\": ", "a list": b"[1, 2]", "a number": b"17",
    "nothing": b"", "not UTF-8": b'{"seq":5,"kind":"note","text":"\xff"}', "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000, "NaN": b'{"seq":SEQ,"kind":"note","t_ns":1,"phase":"window","value":NaN}',
    "huge seq": b'{"seq":' + b"9" * 400 + b',"kind":"note","t_ns":1,"phase":"window"}',
    "more digits than Python reads": b'{"seq":' + b"9" * 5000 + b',"kind":"note","t_ns":1,"phase":"window"}',
    "huge time": b'{"seq":SEQ,"kind":"note","t_ns":' + b"9" * 40 + b',"phase":"window"}',
    "text as seq": b'{"seq":"SEQ","kind":"note","t_ns":1,"phase":"window"}',
    "true as seq": b'{"seq":true,"kind":"note","t_ns":1,"phase":"window"}',
    "no kind": b'{"seq":SEQ,"t_ns":1,"phase":"window"}',
    "two in one": b'{"seq":SEQ,"kind":"note","t_ns":1,"phase":"window"},{"seq":SEQ,"kind":"note","t_ns":1,"phase":"w"}',
    "an old number": b'{"seq":0,"kind":"note","t_ns":1,"phase":"window"}',
    "negative": b'{"seq":-5,"kind":"note","t_ns":1,"phase":"window"}',
    "far ahead": b'{"seq":999999,"kind":"note","t_ns":1,"phase":"window"}',
    "too long": b'{"seq":SEQ,"kind":"note","t_ns":1,"phase":"window","text":"' + b"x" * LINE_LIMIT_B + b'"}',
    "far too long": b'{"seq":SEQ,"kind":"note","t_ns":1,"phase":"window","text":"' + b"x" * 3 * LINE_LIMIT_B + b'"}',
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_an_event_and_the_rest_is_kept(store, name):
    lines = lines_of(20)
    place = next(number for number, line in enumerate(lines) if line["phase"] == "window") + 5
    bad = BAD_LINES[name].replace(b"SEQ", str(lines[place]["seq"]).encode())
    data = text_of(lines[:place]) + bad + b"\n" + text_of(lines[place:])
    found = take(store, data)
    assert found.state == "done" and found.problems and f"line {place + 1}: " in found.problems[0]
    assert not any("counted" in problem for problem in found.problems)
    assert len(store.read("inference", phase="window")) == 20
    [event] = store.read("event", kind="bad_line")
    assert event["body"]["line"] == place + 1 and event["body"]["reason"]
    assert len(event["body"]["text"]) < 300 and event["body"]["text"].isprintable()
    before = dump(store)
    take(store, data)
    assert dump(store) == before


BAD_CONTENT = [
    {"kind": "k" * 5000}, {"kind": ""}, {"kind": "note", "t_ns": 2**64},
    {"kind": "sample", "values": {}, "t_ns": -2**90}, {"kind": "start", "trial": TRIAL.id}, {"kind": "sample"},
    {"kind": "sample", "values": [1]}, {"kind": "sample", "values": {f"m{number}": 1 for number in range(600)}},
    {"kind": "sample", "values": {}, "emulated": 3}, {"kind": "decision", "index": 3},
    {"kind": "decision", "branch": "full", "index": None}]


@pytest.mark.parametrize("fields", BAD_CONTENT)
def test_a_line_that_makes_no_sense_is_an_event_too(store, fields):
    lines = lines_of(20)
    place = next(number for number, line in enumerate(lines) if line["phase"] == "window") + 5
    bad = {"t_ns": 1, "phase": "window", **fields}
    numbered = [{**line, "seq": number} for number, line in enumerate([*lines[:place], bad, *lines[place:]])]
    found = take(store, text_of(numbered))
    assert found.state == "done" and f"line {place + 1}: " in found.problems[0]
    [event] = store.read("event", kind="bad_line")
    assert event["body"]["line"] == place + 1
    assert found.inferences == sum(line["kind"] == "inference" for line in lines)


@pytest.mark.parametrize("fields", [
    {"kind": "sample", "values": {"temp_c": "hot", "power_w": [1], "rss_mb": None, "x\x1b": 1e400}, "cost_us": {}},
    {"kind": "loadgen", "asked_cpu_pct": "much"}, {"kind": "decision", "index": 3, "branch": "b", "candidates": 1e400},
    {"kind": "note", "text": "\x1b]0;title\x07", "depth": [[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]},
    {"kind": "note", "number": 2**80, "other": -1e400, "key\ud800": "\udfff"}, {"kind": "preflight", "validity": {}},
    {"kind": "preflight", "validity": "yes\x07"}, {"kind": "load", "branch": None, "load_ms": "long"},
    {"kind": "new_kind_of_a_newer_agent", "a": {"b": [1]}}])
def test_odd_values_become_null_or_clean_text(store, fields):
    lines = lines_of(5)
    odd = {"t_ns": 1, "phase": "window", **fields}
    numbered = [{**line, "seq": number} for number, line in enumerate([*lines[:-1], odd, lines[-1]])]
    assert take(store, text_of(numbered)).problems == ()
    derive_trial(store, TRIAL.id)
    text = json.dumps(dump(store), ensure_ascii=False, allow_nan=False)
    assert text.encode("utf-8").decode().isprintable()


@pytest.mark.parametrize("fields", [
    {"energy": [1]}, {"energy": {"rapl": 3, "x": {"scope": {}, "provenance": "magic"}}}, {"sensors": "none"},
    {"sensors": {"co_cpu_pct": 5, "temp_c": None}}, {"fingerprint": [], "boot_id": {}}, {"attempt": "1"}])
def test_an_odd_first_line_does_no_harm(store, fields):
    lines = lines_of(5, energy="counter")
    found = take(store, text_of([{**lines[0], **fields}, *lines[1:]]))
    assert found.state == "done" and found.inferences == 17
    assert derive_trial(store, TRIAL.id) == len(store.read("summary"))


@pytest.mark.parametrize("fields", [{"peak_rss_mb": "big"}, {"inferences": []}, {"sampler_cpu_pct": True}])
def test_an_odd_last_line_does_no_harm(store, fields):
    lines = lines_of(5)
    assert take(store, text_of([*lines[:-1], {**lines[-1], **fields}])).state == "done"
    assert derive_trial(store, TRIAL.id)


def change(line: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**line, **fields}


@pytest.mark.parametrize(("fields", "kept"), [
    ({"latency_ms": "fast"}, False), ({"latency_ms": [1]}, False), ({"latency_ms": 1e999}, False),
    ({"t_ns": 2**70}, False), ({"due_ns": 2**63}, False), ({"due_ns": True}, False), ({"sample": 1.5}, False),
    ({"status": "great"}, False), ({"status": None}, False), ({"index": None}, False), ({"index": 0}, False),
    ({"correct": "yes"}, False), ({"feasible": -(2**70)}, False), ({"branch": 7}, False),
    ({"label": "cat"}, True), ({"label": [1]}, True), ({"label": None}, True), ({"latency_ms": 3}, True),
    ({"branch": "\x1b[2Jfull\x07\u202e"}, True), ({"branch": "\ud800"}, True), ({"phase": "cool\x00"}, True)])
def test_a_bad_value_costs_its_own_row_only(store, fields, kept):
    lines = lines_of(20)
    place = next(number for number, line in enumerate(lines) if line["phase"] == "window") + 5
    while lines[place]["kind"] != "inference":
        place += 1
    changed = [change(line, **fields) if number == place else line for number, line in enumerate(lines)]
    found = take(store, text_of(changed))
    total = sum(line["kind"] == "inference" for line in lines)
    assert found.state == "done" and found.inferences == len(store.read("inference")) == total - (not kept)
    assert len(store.read("event", kind="bad_line")) == (not kept)
    for row in store.read("inference"):
        assert all(value.isprintable() for value in row.values() if isinstance(value, str))
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))


def test_holes_and_repeats(store):
    lines = lines_of(20)
    found = take(store, text_of([*lines[:30], *lines[33:]]))
    assert f"seq {lines[30]['seq']} to {lines[32]['seq']} are missing" in found.problems and found.state == "done"
    found = take(store, text_of([*lines[:30], lines[29], lines[28], *lines[30:]]))
    assert len(store.read("event", kind="bad_line")) == 2
    assert found.inferences == sum(line["kind"] == "inference" for line in lines)


def test_what_comes_after_the_end_does_not_count(store):
    lines = lines_of(20)
    late = change(lines[-1], kind="failed", seq=lines[-1]["seq"] + 1, error="agent", message="late")
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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=30)), min_size=1, max_size=6))
def test_random_damage_never_crashes_and_is_repeatable(store, noise):
    data = bytearray(text_of(lines_of(15)))
    for place, junk in noise:
        data[place:place + len(junk)] = junk
    first = take(store, bytes(data))
    before = dump(store)
    assert take(store, bytes(data)) == first
    assert dump(store) == before
    json.dumps(before, allow_nan=False).encode("utf-8")


# --- the file reader ------------------------------------------------------------------------------------------------

def test_batches_give_every_line_once_across_blocks(tmp_path):
    lines = [{"seq": number, "text": "ä" * (number % 700)} for number in range(4000)]
    path = tmp_path / "j.jsonl"
    path.write_bytes(b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines))
    file = JournalFile(path)
    batches = list(file.batches())
    assert len(batches) > 3 and not any(batch.bad for batch in batches)
    assert [line for batch in batches for line in batch.lines] == lines
    assert [number for batch in batches for number in batch.numbers] == list(range(1, 4001))
    assert file.size_b == path.stat().st_size and file.damage == ""


def test_cleaning():
    assert clean("a\x1b[31mb\nc\td\x9b\u202e") == "a\ufffd[31mb\nc\td\ufffd\ufffd"
    assert cleaned({"a\x00": [math.inf, 2**70, True, None, 1.5, {"b": "\ud83d"}]}) == {
        "a\ufffd": [None, None, True, None, 1.5, {"b": "\ufffd"}]}
