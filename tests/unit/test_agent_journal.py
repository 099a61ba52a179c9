"""The journal: numbers without holes, the format of wire.py, a last line whatever happens, a cut that can be seen."""
import errno
import json
import os
import threading
from typing import Any

import pytest

from device_agents.clock import VirtualClock
from device_agents.journal import Journal, JournalBroken, last_event

INFERENCE = {
    "index": 3, "due_ns": 10, "branch_json": '"full"', "sample": 4, "label": 7, "correct": True, "queue_ms": 0.5,
    "decide_us": 12.3, "switch_ms": 0.01, "latency_ms": 2.5, "response_ms": 3.0, "met": False, "queue_len": 2,
    "deadline_ms": 2.9, "feasible": 5}


def lines_of(path: str) -> Any:
    with open(path) as file:
        return [json.loads(line) for line in file]


def test_lines_are_numbered_and_stamped(tmp_path: Any) -> None:
    clock, path = VirtualClock(), str(tmp_path / "trial.jsonl")
    journal = Journal(path, clock)
    journal.write("start", protocol=1)
    clock.sleep_until(50)
    journal.enter("window")
    journal.inference(40, **INFERENCE)
    journal.write("note", 45, text="late")
    journal.write("empty")
    journal.close("done", inferences=1)
    lines = lines_of(path)
    assert [line["seq"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["phase"] for line in lines] == ["setup", "window", "window", "window", "window"]
    assert [line["t_ns"] for line in lines] == [0, 40, 45, 50, 50]
    assert lines[-1]["kind"] == "done" and last_event(path) == lines[-1]
    assert not os.path.exists(path + ".reserve")


def test_inference_line_has_the_fields_of_the_waist(tmp_path: Any) -> None:
    path = str(tmp_path / "trial.jsonl")
    journal = Journal(path, VirtualClock())
    journal.inference(40, **INFERENCE)
    journal.inference(40, **dict(INFERENCE, label=None, correct=None, met=None, decide_us=None, deadline_ms=None))
    journal.inference(40, **dict(INFERENCE, label=[1, 2]))
    journal.close("done")
    full, empty, odd, _ = lines_of(path)
    assert full == {
        "seq": 0, "kind": "inference", "t_ns": 40, "phase": "setup", "index": 3, "status": "ok", "due_ns": 10,
        "branch": "full", "sample": 4, "label": 7, "correct": True, "queue_ms": 0.5, "decide_us": 12.3,
        "switch_ms": 0.01, "latency_ms": 2.5, "response_ms": 3.0, "met": False, "queue_len": 2, "deadline_ms": 2.9,
        "feasible": 5}
    assert [empty[name] for name in ("label", "correct", "met", "decide_us", "deadline_ms")] == [None] * 5
    assert odd["label"] == [1, 2]


def test_what_ends_a_watched_thread_is_raised_by_every_other_line_but_the_last(tmp_path: Any) -> None:
    journal = Journal(str(tmp_path / "trial.jsonl"), VirtualClock())
    for work in (lambda: None, lambda: int("first"), lambda: int("second")):
        thread = threading.Thread(target=journal.watch, args=(work,))
        thread.start()
        thread.join()
    for write in (lambda: journal.inference(40, **INFERENCE), lambda: journal.write("note", text="x"), journal.check):
        with pytest.raises(ValueError, match="first"):
            write()
    journal.close("failed", error="agent")
    assert [line["kind"] for line in lines_of(journal.path)] == ["inference", "note", "failed"]


def test_values_that_json_cannot_hold_become_null(tmp_path: Any) -> None:
    path = str(tmp_path / "trial.jsonl")
    journal = Journal(path, VirtualClock())
    journal.write("sample", values={"a": float("nan"), "b": [float("inf"), 1.5]})
    journal.close("done")
    assert lines_of(path)[0]["values"] == {"a": None, "b": [None, 1.5]}


def test_threads_share_one_sequence(tmp_path: Any) -> None:
    path = str(tmp_path / "trial.jsonl")
    journal = Journal(path, VirtualClock())

    def work() -> None:
        for _ in range(500):
            journal.write("note", text="x")
            journal.flush()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close("done")
    assert [line["seq"] for line in lines_of(path)] == list(range(2001))


def test_it_never_overwrites(tmp_path: Any) -> None:
    path = str(tmp_path / "trial.jsonl")
    Journal(path, VirtualClock()).close("done")
    with pytest.raises(FileExistsError):
        Journal(path, VirtualClock())


def test_a_full_disk_stops_the_trial_and_is_explained(tmp_path: Any, monkeypatch: Any) -> None:
    path = str(tmp_path / "trial.jsonl")
    journal = Journal(path, VirtualClock())
    journal.write("start")
    journal.flush()
    really, room = os.write, [70]

    def full(file: int, data: Any) -> int:
        if room[0] <= 0 and os.path.exists(path + ".reserve"):
            raise OSError(errno.ENOSPC, "No space left on device")
        count = really(file, bytes(data)[:room[0]] if os.path.exists(path + ".reserve") else data)
        room[0] -= count
        return count

    monkeypatch.setattr(os, "write", full)
    journal.write("note", text="x" * 100)
    journal.flush()                                         # half a line is on the disk now
    with pytest.raises(JournalBroken, match="No space left"):
        journal.write("note", text="y")
    journal.close("failed", error="agent", message="disk full", traceback="")
    lines = lines_of(path)
    assert [line["kind"] for line in lines] == ["start", "failed"]
    assert [line["seq"] for line in lines] == [0, 1]


def test_room_for_done_is_kept(tmp_path: Any, monkeypatch: Any) -> None:
    path = str(tmp_path / "trial.jsonl")
    journal = Journal(path, VirtualClock())
    really = os.write

    def full(file: int, data: Any) -> int:
        if os.path.exists(path + ".reserve"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(file, data)

    journal.write("start")
    journal.flush()
    monkeypatch.setattr(os, "write", full)
    journal.close("done", inferences=3)
    assert [line["kind"] for line in lines_of(path)] == ["start", "done"]


@pytest.mark.parametrize("content, kind", [
    (b"", None), (b'{"kind":"done"}', None), (b'{"kind":"start"}\n{"kind":"done"}\n', "done"),
    (b'{"kind":"done"}\n{"kind":"inf', None), (b"\xff\xfe\n", None), (b"[1]\n", None)])
def test_the_end_of_a_journal_is_told(tmp_path: Any, content: bytes, kind: Any) -> None:
    path = tmp_path / "trial.jsonl"
    path.write_bytes(content)
    assert last_event(str(path)).get("kind") == kind
    assert last_event(str(tmp_path / "absent")) == {}
