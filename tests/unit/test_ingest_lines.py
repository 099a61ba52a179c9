"""Lines that are garbage, hostile, odd or out of place cost themselves and nothing else."""
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.derive import derive_trial
from db.journal_file import LINE_LIMIT_B, JournalFile, clean, cleaned
from tests.journal_kit import TRIAL, dump, lines_of, take, text_of, waiting_store


@pytest.fixture
def store(tmp_path: Path):
    with waiting_store(tmp_path) as opened:
        yield opened


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
    {"kind": "sample", "values": {}, "emulated": 3},
    {"kind": "sample", "values": {}, "modelled": "x"}, {"kind": "decision", "index": 3},
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
    ({"queue_ms": 10**400}, False), ({"queue_ms": 10**30}, False), ({"latency_ms": 1.7e308}, False),
    ({"latency_ms": -1e16}, False),
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
    assert derive_trial(store, TRIAL.id)
    for row in store.read("inference"):
        assert all(value.isprintable() for value in row.values() if isinstance(value, str))
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))


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
