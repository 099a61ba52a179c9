"""The report as files: same database, same bytes; the old report or the new one, never half of one; clear refusals."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db.errors import StoreError
from db.store import Store
from device_agents.seams import UserError
from reports.build import build, overall
from reports.query import opened
from tests.report_database import write_database

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_database(tmp_path_factory.mktemp("database"))


@pytest.fixture(scope="module")
def report(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "reports"
    build(database, out)
    return out


def _one(folder: Path, **changes: Any) -> Path:
    """A small database: one device, one trace, one repeat."""
    few = {"devices": [("board", 1.0)], "traces": ["idle"], "repeats": 1, "inferences": 20, "spoil": False}
    return write_database(folder, **{**few, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_promised_format_is_there(report: Path) -> None:
    names = set(contents(report))
    assert {"index.html", "report.json"} <= names
    assert {f"tables/overall.{ending}" for ending in ("md", "csv", "tex", "txt")} <= names
    for figure in ("pareto", "timeline"):
        assert {f"figures/{figure}.{ending}" for ending in ("png", "svg", "pdf", "csv", "json")} <= names


def test_same_database_same_bytes_in_another_folder_process_and_world(
        database: Path, report: Path, tmp_path: Path) -> None:
    moved, out = tmp_path / "copy of the database.sqlite", tmp_path / "deep" / "other"
    shutil.copy(database, moved)
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nfont.family: serif\nsavefig.dpi: 30\nsvg.hashsalt: other\n")
    code = "import sys; from pathlib import Path; from reports.build import build; build(*map(Path, sys.argv[1:]))"
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    world = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "4711", "SOURCE_DATE_EPOCH": "1", "LC_ALL": "C",
             "TZ": "Pacific/Auckland"}
    done = subprocess.run([sys.executable, "-c", code, str(moved), str(out)], cwd=tmp_path, env=world, check=False,
                          capture_output=True, text=True)       # the user's matplotlibrc lies in the working folder
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(report)


def test_no_file_carries_a_date_a_path_or_a_version(report: Path, database: Path) -> None:
    for name, content in contents(report).items():
        for trace in (str(database.parent), str(report), "CreationDate", "ModDate", "Matplotlib v", "dc:date"):
            assert trace.encode() not in content, (name, trace)
        if name.endswith(".png"):
            assert not {b"tEXt", b"tIME", b"iTXt"} & {content[at + 4:at + 8] for at in _png_chunks(content)}, name


def _png_chunks(content: bytes) -> list[int]:
    places, at = [], 8
    while at < len(content):
        places.append(at)
        at += 12 + int.from_bytes(content[at:at + 4], "big")
    return places


def test_manifest_sums_every_file(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    files = contents(report)
    del files["report.json"]
    assert found["sha256"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def test_an_older_report_is_replaced_whole(report: Path, tmp_path: Path) -> None:
    out = tmp_path / "there" / "reports"
    shutil.copytree(report, out)
    (out / "tables" / "stale.csv").write_text("old")
    (out.parent / ".reports.new-interrupted").mkdir()
    written = build(_one(tmp_path), out)
    assert sorted(path for path in out.rglob("*") if path.is_file()) == written
    assert (out / "tables" / "overall.csv").read_bytes() != (report / "tables" / "overall.csv").read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["reports"]


def test_a_folder_that_is_no_report_is_left_alone(database: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="no report of edgefleet's"):
        build(database, tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not a folder"):
        build(database, tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "thesis.tex"]


def test_a_disk_that_refuses_leaves_the_old_report(
        report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, database = tmp_path / "there" / "reports", _one(tmp_path)
    shutil.copytree(report, out)

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", full)  # the operating system's refusal, not our code
    with pytest.raises(UserError, match="No space left on device"):
        build(database, out)
    monkeypatch.undo()
    assert contents(out) == contents(report)
    assert [path.name for path in out.parent.iterdir()] == ["reports"]


def test_overall_table_for_a_terminal(database: Path) -> None:
    assert len(overall(database).rows) == 12


def _empty(folder: Path) -> Path:
    Store.open(folder / "results.sqlite").close()
    return folder / "results.sqlite"


def _none_done(folder: Path) -> Path:
    path = _one(folder)
    with Store.open(path) as store:
        for number, trial in enumerate(store.trials()):
            state = "failed" if number else "pending"
            store.set_trial_state(trial["id"], state, "AgentCrashed", "device", "it fell over")
    return path


def test_a_device_that_was_never_even_profiled_keeps_no_other_from_its_report(tmp_path: Path) -> None:
    """Its panels stay, and say that nothing was done."""
    path = write_database(tmp_path, repeats=1, spoil=False, knobs={"threads": 7})   # nothing was profiled with these
    with Store.open(path) as store:
        for trial in store.trials():
            if trial["device"] == "slow-class":
                store.set_trial_state(trial["id"], "failed", "DeviceUnreachable", "link", "no answer")
    build(path, tmp_path / "out")
    figure = (tmp_path / "out/figures/pareto.svg").read_text()
    assert "slow-class" in figure and figure.count("nothing done") == 2


@pytest.mark.parametrize(("make", "campaign", "words"), [
    (_empty, None, r"no campaign yet.*edgefleet run"),
    (_none_done, None, r"'quickstart' has nothing to report.*2 failed, 1 pending.*it fell over\. See `edgefleet st"),
    (_one, "quikstart", r"no campaign 'quikstart'.*Did you mean 'quickstart'\?.*There is: quickstart"),
])
def test_nothing_to_report_says_what_to_do_and_writes_nothing(
        make: Callable[[Path], Path], campaign: str | None, words: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(UserError) as error:
        build(path, tmp_path / "out", campaign)
    assert re.search(words, str(error.value))
    assert not (tmp_path / "out").exists()


def test_no_database_and_no_database_of_ours(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no database yet"):
        build(tmp_path / "results.sqlite", tmp_path / "out")
    (tmp_path / "text.sqlite").write_text("not a database at all, only some text that is long enough to be read" * 20)
    with pytest.raises(StoreError, match="not an SQLite database"):
        build(tmp_path / "text.sqlite", tmp_path / "out")


def test_the_campaign_that_ran_last_is_the_default(tmp_path: Path) -> None:
    _one(tmp_path, campaign="newer", now_s=300.0, duration_s=3.0)
    path = _one(tmp_path, campaign="older", now_s=50.0)
    with opened(path) as query:
        assert (query.campaign.name, query.other_campaigns) == ("newer", ["older"])
    assert overall(path, "older").rows
