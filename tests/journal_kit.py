"""A store that waits for one trial's journal, and journals as bytes: for the tests of ingest."""
import functools
import json
import tempfile
from pathlib import Path
from typing import Any

from db.ingest import Ingested, ingest_journal
from db.store import Store
from tests.fakes import sample_bundle, sample_order, sample_trial, write_journal

TRIAL = sample_trial()
RAW = ("inference", "decision", "measurement", "event", "summary", "attempt")


def waiting_store(folder: Path) -> Store:
    """A new database in `folder` that knows TRIAL; made once, then copied."""
    path = folder / "results.sqlite"
    path.write_bytes(_template())
    return Store.open(path)


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "results.sqlite"
        with Store.open(path) as store:
            store.save_campaign("quickstart", {}, {}, now_s=0.0)
            store.save_device("host", "local", None, 1.0, "measured", {}, now_s=0.0)
            store.save_bundle(sample_bundle())
            store.add_trials([TRIAL], {"host": "measured"})
        return path.read_bytes()


def lines_of(count: int = 30, **options: Any) -> list[dict[str, Any]]:
    """Lines of a journal of TRIAL with `count` arrivals; `order` overrides fields of its order."""
    return write_journal(None, sample_order(TRIAL, **options.pop("order", {})), inferences=count, **options)


def text_of(lines: list[dict[str, Any]]) -> bytes:
    """Infinities become numbers that are too big, which JSON allows."""
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    return text.replace("Infinity", "1e999").encode()


def take(store: Store, data: bytes, attempt: int = 1) -> Ingested:
    path = store.path.parent / f"{TRIAL.id}.{attempt}.jsonl"
    path.write_bytes(data)
    return ingest_journal(store, path, TRIAL.id, attempt)


def dump(store: Store) -> dict[str, list[dict[str, Any]]]:
    return {table: store.read(table) for table in RAW}
