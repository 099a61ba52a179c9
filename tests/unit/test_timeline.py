"""The timeline: decisions and events line by line, inferences counted between them, times relative to the window."""
from typing import Any

from harness.timeline import timeline

MS = 1_000_000


def inference(number: int, t_ms: float, **more: Any) -> dict[str, Any]:
    return {"number": number, "phase": "window", "status": "ok", "due_ns": int(t_ms * MS), "t_ns": int(t_ms * MS),
            "branch": "full", "latency_ms": 4.0, "met": 1, **more}


def decision(t_ms: float, branch: str, reason: str = "", knobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"t_ns": int(t_ms * MS), "phase": "window", "branch": branch, "reason": reason, "knobs": knobs or {}}


def event(t_ms: float | None, kind: str, **body: Any) -> dict[str, Any]:
    return {"t_ns": None if t_ms is None else int(t_ms * MS), "phase": "setup", "kind": kind, "body": body}


def test_lines_come_in_order_with_inferences_counted_between() -> None:
    lines = timeline(
        [event(500, "load", branch="full", load_ms=12.34), event(None, "retry", why="link"),
         event(1300, "note", text="sampler late 312 ms")],
        [decision(999, "full", "fits"), decision(1200, "half", "deadline", {"threads": 1})],
        [inference(0, 900, phase="warmup"), inference(1, 1000), inference(2, 1100, met=0, latency_ms=6.0),
         inference(3, 1250, branch="half"), inference(4, 1400, status="expired", t_ns=None, latency_ms=None, met=None)])
    assert [(line.t_s, line.text) for line in lines] == [
        (None, "retry: why link"),
        (-0.5, "load full in 12.3 ms"),
        (-0.1, "1 inference, median 4.00 ms"),
        (-0.001, "use full: fits"),
        (0.0, "2 inferences, median 5.00 ms, 1 late"),
        (0.2, "use half (threads=1): deadline"),
        (0.25, "1 inference, median 4.00 ms"),
        (0.3, "note: sampler late 312 ms"),
        (0.4, "0 inferences, 1 expired"),
    ]


def test_a_trial_that_failed_before_its_window_still_has_a_timeline() -> None:
    lines = timeline([event(10, "start", attempt=1, sensors={"a": "b"}),
                      event(20, "failed", error="unsupported", message="no numpy", traceback="")], [], [])
    assert [(line.t_s, line.text) for line in lines] == [
        (None, "start: attempt 1"), (None, "failed (unsupported): no numpy")]


def test_load_is_told_when_it_changes() -> None:
    loads = [{"seq": seq, "t_ns": seq * MS, "phase": "window", "metric": metric, "value": value}
             for seq, metric, value in (
        (1, "asked_cpu_pct", 0.0), (2, "asked_cpu_pct", 40.0), (3, "asked_cpu_pct", 40.0), (3, "asked_mem_mb", 16.0),
        (4, "asked_cpu_pct", None), (5, "asked_cpu_pct", 0.0))]
    lines = timeline([], [], [inference(0, 0)], loads)
    assert [(line.t_s, line.text) for line in lines[1:]] == [
        (0.002, "load: asked_cpu_pct 40"), (0.003, "load: asked_mem_mb 16"), (0.005, "load: asked_cpu_pct 0")]


def test_nothing_gives_nothing() -> None:
    assert timeline([], [], []) == []
