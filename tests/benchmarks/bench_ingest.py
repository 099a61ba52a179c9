"""Figures of the store: parsed rows to commit against the bare driver, and journal file to commit.

Both sides of a ratio alternate in one run on the same machine; the best round of each counts, as on a shared machine
only the best one is free of what others do. Prints one JSON line a figure for record.py. Nothing is asserted.
"""
import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from db import schema
from db.derive import derive_trial
from db.inference_rows import FIELDS, Inferences
from db.ingest import ingest_journal
from db.journal_rows import Context
from db.rows import insert_sql
from db.store import Store
from tests.fakes import sample_bundle, sample_order, sample_trace, sample_trial, write_journal

BATCH = 400                                     # lines: what a block of the file holds
COMMAND = "make bench"


def prepared(folder: Path, trial: Any) -> Path:
    """A database that knows the trial and nothing of its rows."""
    path = folder / "prepared.sqlite"
    with Store.open(path) as store:
        store.save_campaign(trial.campaign, {}, {})
        store.save_device(trial.device, "local", None, 1.0, "measured", {})
        store.save_bundle(sample_bundle())
        store.add_trials([trial], {trial.device: "measured"})
    return path


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def bare(path: Path, rows: list[tuple[Any, ...]]) -> float:
    """executemany of the same rows into the same table (same keys, so the same indices), WAL, one transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    sql = insert_sql(schema.inference)

    def work() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(sql, rows)
        connection.execute("COMMIT")
    spent = seconds(work)
    connection.close()
    return spent


def ours(path: Path, trial: Any, lines: list[dict[str, Any]]) -> float:
    """The same rows as parsed lines: checked and inserted in batches of the size in which a journal is read."""
    with Store.open(path) as store:
        store.states([])                            # the connection is open, as it is for a driver

        def work() -> None:
            with store.transaction() as connection:
                inferences = Inferences(connection, Context(trial.id, 1, "measured"))
                for start in range(0, len(lines), BATCH):
                    inferences.add(lines[start:start + BATCH])
        return seconds(work)


def journal(path: Path, trial: Any, file: Path) -> tuple[float, float]:
    with Store.open(path) as store:
        store.states([])
        return (seconds(lambda: ingest_journal(store, file, trial.id, 1)),
                seconds(lambda: derive_trial(store, trial.id)))


def measure(count: int, rounds: int) -> dict[str, float]:
    """Seconds of the best round for each thing measured, and the number of rows."""
    trial = sample_trial(duration_s=count * 0.005, trace=sample_trace("ramp", count * 0.005))
    found: dict[str, list[float]] = {"bare": [], "ours": [], "journal": [], "packed": [], "derive": [], "parse": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, packed = folder / "j.jsonl", folder / "j.jsonl.gz"
        content = write_journal(plain, sample_order(trial), inferences=count, energy="counter")
        write_journal(packed, sample_order(trial), inferences=count, energy="counter")
        lines = [line for line in content if line["kind"] == "inference"]
        rows = [(trial.id, *(line[field] for field, _ in FIELDS), "measured") for line in lines]
        empty = prepared(folder, trial)
        for _ in range(rounds):
            found["bare"].append(bare(fresh(empty), rows))
            found["ours"].append(ours(fresh(empty), trial, lines))
            spent, derived = journal(fresh(empty), trial, plain)
            found["journal"].append(spent)
            found["derive"].append(derived)
            found["packed"].append(journal(fresh(empty), trial, packed)[0])
            found["parse"].append(seconds(lambda: [json.loads(text) for text in plain.open("rb")]))
    return {"rows": len(rows), **{key: min(values) for key, values in found.items()}}


def fresh(empty: Path) -> Path:
    path = empty.with_name("results.sqlite")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copy(empty, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inferences", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    spent_s = measure(asked.inferences, asked.rounds)
    rate = {key: spent_s["rows"] / value for key, value in spent_s.items() if key != "rows"}
    what = f"{spent_s['rows']:,} rows of {len(schema.inference.columns)} columns, best of {asked.rounds} rounds"
    for figure, value, target, unit, note in (
            ("ingest: parsed rows to commit, of bare sqlite3.executemany", round(rate["ours"] / rate["bare"], 3),
             ">= 0.7", "ratio", f"{what}; bare driver {rate['bare']:,.0f} rows/s"),
            ("ingest: journal file to commit", round(rate["journal"]), ">= 100000", "inference rows/s",
             f"with its sampler lines (one a 20 inferences); json.loads of its lines alone {rate['parse']:,.0f}"),
            ("ingest: packed journal to commit", round(rate["packed"]), "", "inference rows/s", ""),
            ("derive one trial", round(spent_s["derive"], 3), "", "s", f"{spent_s['rows']:,} inferences")):
        print(json.dumps({"figure": figure, "value": value, "target": target, "unit": unit, "command": COMMAND,
                          "note": note}), flush=True)


if __name__ == "__main__":
    main()
