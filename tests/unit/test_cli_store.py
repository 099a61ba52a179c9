"""status, show and ingest over a store that holds done, failed, skipped and pending trials."""
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from db.derive import derive_trial
from db.ingest import ingest_journal
from db.store import Store
from harness.cli import build_app
from harness.cli._exit import guarded
from tests.fakes import sample_bundle, sample_order, sample_trial, write_journal

DONE, FAILED, SKIPPED, PENDING = (sample_trial(seed=seed, id=f"{seed}" * 16) for seed in (1, 2, 3, 4))


@pytest.fixture
def home(template: Path, edgefleet_home: Path) -> Path:
    """This test's own copy of the home."""
    shutil.copytree(template, edgefleet_home, dirs_exist_ok=True)
    return edgefleet_home


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with four trials of the campaign quickstart; two of them have journals."""
    home = tmp_path_factory.mktemp("template")
    with Store.open(home / "results.sqlite") as store:
        store.save_campaign("quickstart", {}, {})
        store.save_device("host", "local", None, 1.0, "measured", {})
        store.save_bundle(sample_bundle())
        store.add_trials([DONE, FAILED, SKIPPED, PENDING], {"host": "measured"})
        for trial, ending in ((DONE, "done"), (FAILED, "failed")):
            journal = home / "journals" / f"{trial.id}.1.jsonl.gz"
            write_journal(journal, sample_order(trial), inferences=200, ending=ending)
            store.begin_attempt(trial.id, 1, 1, 5.0, 5.2, 1000.0)
            ingest_journal(store, journal, trial.id, 1)
            bad = ending == "failed"
            store.finish_attempt(trial.id, 1, ending, "AgentFailed" if bad else None, "harness" if bad else None,
                                 "ZeroDivisionError \x1b[31mred" if bad else None, journal.name, 1003.0, ending)
            derive_trial(store, trial.id)
        store.skip(SKIPPED.id, "host: no numpy", "DeviceUnsupported", "device")
    return home


def edgefleet(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = guarded(build_app(), list(words))
    out, err = capsys.readouterr()
    return code, out, err


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    code, out, _ = edgefleet(capsys, *words, "--json")
    assert code == 0
    return json.loads(out)


def test_status_counts_states_and_groups_reasons(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "status")
    assert found["home"] == str(home)
    one, = found["campaigns"]
    assert (one["campaign"], one["trials"]) == ("quickstart", 4)
    assert one["states"] == {"done": 1, "failed": 1, "pending": 1, "skipped": 1}
    assert {(why["state"], why["blame"], tuple(why["trials"])) for why in one["reasons"]} == {
        ("failed", "harness", (FAILED.id,)), ("skipped", "device", (SKIPPED.id,))}


def test_status_for_people_is_free_of_escapes_and_tells_the_home(
        home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = edgefleet(capsys, "status", "quickstart")
    assert code == 0
    assert "quickstart: 4 trials: 1 done, 1 failed, 1 pending, 1 skipped" in out
    assert "host: no numpy" in out
    assert "\x1b" not in out
    assert f"home: {home}" in err


def test_status_of_an_unknown_campaign_names_the_near_miss(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = edgefleet(capsys, "status", "quikstart")
    assert (code, out) == (2, "")
    assert "unknown campaign 'quikstart'" in err
    assert "Did you mean 'quickstart'?" in err


def test_show_tells_the_trial_from_a_prefix(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "show", DONE.id[:3])
    assert found["trial"]["id"] == DONE.id
    assert found["attempts"][0]["state"] == "done"
    texts = [line["text"] for line in found["timeline"]]
    assert any(text.startswith("use full: predicted") for text in texts)
    assert any(text.startswith("load: asked_cpu_pct") for text in texts)
    starts = [line["t_s"] for line in found["timeline"] if line["t_s"] is not None]
    assert starts[0] < 0 < starts[-1]
    assert {row["metric"] for row in found["summary"]}


def test_show_for_people(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = edgefleet(capsys, "show", FAILED.id)
    assert code == 0
    assert "failed (agent): ZeroDivisionError: division by zero" in out
    assert "\x1b" not in out


def test_show_of_an_ambiguous_or_unknown_id_says_what_to_do(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = edgefleet(capsys, "show", "")
    assert code == 2
    assert "4 trials have ids that begin with ''" in err
    code, _, err = edgefleet(capsys, "show", "ffff")
    assert code == 2
    assert "no trial in" in err
    assert "edgefleet plan CAMPAIGN" in err


def rows_of(home: Path) -> dict[str, Any]:
    with Store.read_only(home / "results.sqlite") as store:
        return {table: store.read(table) for table in ("inference", "decision", "measurement", "event", "summary",
                                                       "trial", "attempt")}


def test_ingest_again_changes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows_of(home)
    found = as_json(capsys, "ingest")
    assert [(one["trial"], one["state"]) for one in found["journals"]] == [(DONE.id, "done"), (FAILED.id, "failed")]
    assert rows_of(home) == before


def test_ingest_derives_anew_of_trials_whose_journals_are_gone(
        home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows_of(home)["summary"]
    (home / "journals" / f"{DONE.id}.1.jsonl.gz").unlink()
    kept = str(home / "journals" / f"{FAILED.id}.1.jsonl.gz")
    with Store.open(home / "results.sqlite") as store, store.transaction() as connection:
        connection.exec_driver_sql("UPDATE summary SET value = -1.0")
    assert as_json(capsys, "ingest", kept)["derived"] == 1
    assert {row["value"] for row in rows_of(home)["summary"] if row["trial"] == DONE.id} == {-1.0}
    assert as_json(capsys, "ingest")["derived"] == 2
    assert rows_of(home)["summary"] == before


def test_ingest_loads_what_it_can_and_says_what_it_cannot(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / "journals" / f"{DONE.id}.1.jsonl.gz"
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole[: len(whole) // 2]))
    stranger = home / "journals" / "notes.jsonl"
    stranger.write_text("{}")
    code, out, err = edgefleet(capsys, "ingest")
    assert code == 2
    assert "crashed" in out
    assert "notes.jsonl: journals are named TRIAL.ATTEMPT.jsonl.gz" in err
    assert "2 journals loaded, 1 refused" in err


@pytest.mark.parametrize("words", [["status"], ["show", "1"], ["ingest"], ["report"]])
def test_without_a_home_a_verb_says_how_to_get_one(
        words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("EDGEFLEET_HOME")
    monkeypatch.chdir(tmp_path)
    code, out, err = edgefleet(capsys, *words)
    assert (code, out) == (2, "")
    assert "Try: edgefleet run workloads/campaigns/quickstart.toml" in err
    assert not list(tmp_path.iterdir())


def test_a_home_that_is_named_and_not_there_is_told_by_its_name(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And not by the folder that it would be looked for in without EDGEFLEET_HOME."""
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path / "misspelt"))
    assert guarded(build_app(), ["status"]) == 2
    assert f"there is no folder {tmp_path / 'misspelt'}, which EDGEFLEET_HOME names" in capsys.readouterr().err
