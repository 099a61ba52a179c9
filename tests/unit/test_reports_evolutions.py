"""Evolutions: each load that tells its parts, with the decision and the first inference that belong to it."""
import json
from pathlib import Path
from typing import Any

from db.store import Store
from reports.query import Row, opened
from reports.tables import evolutions
from tests.report_database import write_database

LOAD = ("INSERT INTO event (trial, attempt, seq, kind, t_ns, phase, body, provenance) "
        "VALUES (?, 1, ?, 'load', ?, ?, ?, ?)")


def told(path: Path, *loads: tuple[int, str, Any]) -> tuple[list[dict[str, Any]], list[Row]]:
    """The table's rows, and the inferences of the trial that got these loads: just before which one, phase, parts."""
    with opened(path) as query:
        trial = next(trial for trial in query.trials if trial.label == "fixed-full" and trial.state == "done")
        served = [line for line in query.inferences(trial) if line.latency_ms is not None]
    with Store.open(path) as store, store.transaction() as connection:
        for number, (at, phase, parts) in enumerate(loads):
            body = {"branch": served[at].branch, "load_ms": 9.0, **({"parts": parts} if parts else {})}
            connection.exec_driver_sql(LOAD, (trial.id, 900 + number, served[at].t_ns - 1, phase, json.dumps(body),
                                              trial.provenance))
    with opened(path) as query:
        table = evolutions.make(query)
        return [dict(zip(table.keys(), row)) for row in table.rows], served


def parts(derive_ms: float, cold: bool = True) -> dict[str, Any]:
    return {"derive_ms": derive_ms, "session_ms": 20.0, "cold": cold}


def test_an_evolution_is_decision_parts_and_first_inference(tmp_path: Path) -> None:
    path = write_database(tmp_path, devices=[("board", 1.0)], traces=["idle"], repeats=1, spoil=False)
    rows, served = told(path, (3, "window", parts(4.0)), (7, "window", parts(2.0, cold=False)))
    assert [(row["state"], row["evolutions"], row["method"]) for row in rows] == [("cold", 1, "fixed-full"),
                                                                                ("warm", 1, "fixed-full")]
    for row, line, derive_ms in zip(rows, (served[3], served[7]), (4.0, 2.0)):
        assert (row["derive_ms"], row["session_ms"]) == (derive_ms, 20.0)
        assert (row["decide_ms"], row["first_ms"]) == (line.decide_us / 1e3, line.latency_ms)
        assert row["evolution_ms"] == line.decide_us / 1e3 + derive_ms + 20.0 + line.latency_ms


def test_what_is_no_evolution_of_a_window_is_not_counted(tmp_path: Path) -> None:
    path = write_database(tmp_path, devices=[("board", 1.0)], traces=["idle"], repeats=1, spoil=False)
    rows, _ = told(path, (1, "setup", parts(4.0)), (2, "window", None), (3, "window", {"read_ms": 1.0}),
                   (4, "window", ["derive_ms"]), (5, "window", {"derive_ms": 1.0, "cold": True}))
    assert rows == []
