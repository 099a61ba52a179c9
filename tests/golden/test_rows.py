"""Recorded journals -> exact rows of every table. A changed row is a change that users see: look at it, then accept.

hand.jsonl was written by hand and its rows were checked by hand; host.jsonl was recorded by the agent on a real clock
(onnxruntime, real sensors and load; the host's identity was replaced); simulated.jsonl on a virtual clock. After an
intended change, `python tests/golden/test_rows.py` writes the expected rows again, for the reviewer's diff.
"""
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from db.derive import derive_trial
from db.ingest import ingest_journal
from db.store import Store
from tests.fakes import sample_bundle, sample_trial

HERE = Path(__file__).parent
TABLES = ("attempt", "inference", "decision", "measurement", "event", "summary")
#: journal -> provenance with which its trial was planned
JOURNALS = {"hand": "measured", "host": "measured", "simulated": "simulated"}


def rows_of(name: str, folder: Path) -> dict[str, Any]:
    """What the journal leaves in each table; `found` is what ingest said. The trial's own column is left out."""
    trial = sample_trial(id="t1", device="golden", label="golden")
    with Store.open(folder / f"{name}.sqlite") as store:
        store.save_campaign(trial.campaign, {}, {}, now_s=0.0)
        store.save_device("golden", "local", None, 1.0, JOURNALS[name], {}, now_s=0.0)
        store.save_bundle(sample_bundle())
        store.add_trials([trial], {"golden": JOURNALS[name]})
        found = ingest_journal(store, HERE / f"{name}.jsonl", "t1", 1)
        derive_trial(store, "t1")
        tables = {table: [{key: value for key, value in row.items() if key != "trial"} for row in store.read(table)]
                  for table in TABLES}
    return {"found": found._asdict(), **tables}


def as_text(content: dict[str, Any]) -> str:
    """JSON, one row a line."""
    parts = []
    for name, value in content.items():
        if isinstance(value, dict):
            parts.append(f'"{name}": {json.dumps(value)}')
        else:
            parts.append(f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in value) + "\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


@pytest.mark.parametrize("name", JOURNALS)
def test_rows_are_exactly_these(name: str, tmp_path: Path) -> None:
    expected = json.loads((HERE / f"{name}.rows.json").read_text(encoding="utf-8"))
    made = json.loads(as_text(rows_of(name, tmp_path)))
    for table in made:
        assert made[table] == expected[table], f"{table}: see this file's docstring"
    assert list(made) == list(expected)


def main() -> None:
    import tempfile

    for name in JOURNALS:
        with tempfile.TemporaryDirectory() as folder:
            (HERE / f"{name}.rows.json").write_text(as_text(rows_of(name, Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main()
