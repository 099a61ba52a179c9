"""What the tables say: honest titles, nothing pooled across provenances, failures as rows, modelled joules apart."""
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db import schema
from db.store import Store
from device_agents.wire import trial_from_json
from reports.provenance import titled
from reports.query import Query, opened
from reports.stats import Estimate
from reports.table import Cell, Missing, Table
from reports.tables import branches, conditions, costs, devices, overall, relative, tails, trials
from tests.report_database import write_database


@pytest.fixture(scope="module")
def query(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Query]:
    with opened(write_database(tmp_path_factory.mktemp("database"))) as found:
        yield found


def records(table: Table) -> list[dict[str, Cell]]:
    return [dict(zip(table.keys(), row)) for row in table.rows]


def one(table: Table, **names: str) -> dict[str, Cell]:
    found = [row for row in records(table) if all(row[key] == value for key, value in names.items())]
    assert len(found) == 1, (names, len(found))
    return found[0]


@pytest.mark.parametrize(("provenances", "title"), [
    (["measured"], "T, processor cpu (measured)"),
    (["emulated"], "T, processor cpu (emulated: no evidence of who wins)"),
    (["simulated", "measured"],
     "T, processor cpu (measured and simulated: simulated numbers are no evidence of who wins)"),
])
def test_titles_say_what_the_numbers_are_worth(provenances: list[str], title: str) -> None:
    assert titled("T", provenances, ["cpu"]) == title


def test_overall_has_a_row_a_cell_with_provenance_and_interval(query: Query) -> None:
    table = overall.make(query)
    assert "emulated numbers are no evidence of who wins" in table.title and "processor cpu" in table.title
    assert len(table.rows) == 12
    row = one(table, device="slow-class", trace="idle", method="fixed-full")
    assert row["provenance"] == "emulated"
    latency, accuracy = row["latency_median_ms"], row["accuracy_pct"]
    assert isinstance(latency, Estimate) and isinstance(accuracy, Estimate)
    assert latency.n == row["runs"] == 3
    assert latency.low is not None and latency.low <= latency.value == pytest.approx(12.0, rel=0.1)
    assert 90 <= accuracy.value <= 100


def test_overall_is_the_median_of_the_runs_summaries(query: Query) -> None:
    cell = ("board", "ramp", "adascale")
    runs = [trial for trial in query.trials if (trial.device, trial.trace, trial.label) == cell]
    values = sorted(query.reading(trial, "latency_median_ms").value or 0.0 for trial in runs)
    latency = one(overall.make(query), device="board", trace="ramp", method="adascale")["latency_median_ms"]
    assert isinstance(latency, Estimate)
    assert latency.value == values[1]


def test_failed_and_skipped_runs_do_not_count_and_are_rows_of_their_own(query: Query) -> None:
    row = one(overall.make(query), device="board", trace="idle", method="adascale")
    latency = row["latency_median_ms"]
    assert (row["runs"], row["planned"]) == (2, 3)
    assert isinstance(latency, Estimate)
    assert latency.low is None and "n too small" in latency.reason
    bad = records(trials.make(query))
    assert [(row["state"], row["error"], row["blame"]) for row in bad] == [
        ("failed", "AgentFailed", "harness"), ("skipped", "DeviceUnsupported", "device")]
    assert "ZeroDivisionError" in str(bad[0]["reason"]) and "pip install" in str(bad[1]["reason"])
    assert "34 done, 1 failed, 1 skipped" in trials.make(query).notes[0]


def test_what_an_emulated_device_burns_is_not_called_measured(query: Query) -> None:
    table = overall.make(query)
    for device, provenance in (("board", "measured"), ("slow-class", "emulated")):
        row = one(table, device=device, trace="idle", method="fixed-full")
        assert str(row["energy_source"]).startswith(provenance)


def test_a_tail_of_too_few_samples_is_no_number(query: Query) -> None:
    decide = one(overall.make(query), device="board", trace="idle", method="fixed-full")["decide_p99_us"]
    assert decide == Missing("n too small: decision p99 needs 299 samples a run")
    rows = records(tails.make(query))
    assert len(rows) == 34
    assert isinstance(rows[0]["response_p95_ms"], Estimate)
    assert rows[0]["response_p99_ms"] == Missing("n too small: 299 needed for p99")


def test_relative_compares_with_the_reference_of_the_same_place(query: Query) -> None:
    table = relative.make(query)
    assert "relative to fixed-full" in table.title
    row = one(table, device="slow-class", trace="ramp", method="fixed-small")
    ratio = row["latency_median_ms_ratio"]
    assert isinstance(ratio, Estimate)
    assert ratio.high is not None and ratio.high < 0.3
    assert row["pairs"] == 3
    assert {found["method"] for found in records(table)} == {"adascale", "fixed-small"}


def test_branches_and_costs_and_devices_and_conditions(query: Query) -> None:
    table = branches.make(query)
    assert table.keys()[-2:] == ["latency_ms board", "latency_ms slow-class"]
    full = one(table, branch="full")
    assert (full["latency_ms board"], full["latency_ms slow-class"]) == (4.0, 12.0)
    assert records(table)[0] == full
    assert len(costs.make(query).rows) == 12
    assert [(row["device"], row["provenance"]) for row in records(devices.make(query))] == [
        ("board", "measured"), ("slow-class", "emulated")]
    assert "secret-host-name" not in str(devices.make(query))
    ready = one(conditions.make(query), device="board", trace="ramp", method="adascale")
    assert ready["ready"] == "3 unknown"


def few(folder: Path, **changes: Any) -> Path:
    return write_database(folder, **{
        "devices": [("board", 1.0)], "traces": ["idle"], "repeats": 3, "inferences": 60, "spoil": False, **changes})


def test_modelled_joules_have_their_own_column_and_are_compared_with_nothing(tmp_path: Path) -> None:
    with opened(few(tmp_path, energy="modelled")) as query:
        table = overall.make(query)
        row = one(table, method="fixed-full")
        assert isinstance(row["energy_modelled_mj"], Estimate)
        assert isinstance(row["energy_mj_per_inference"], Missing)
        assert any("no comparison" in note for note in table.notes)
        compared = one(relative.make(query), method="fixed-small")["energy_mj_per_inference_ratio"]
        assert compared == Missing("modelled readings are in no comparison")


def test_runs_with_two_energy_provenances_are_not_pooled(tmp_path: Path) -> None:
    path = few(tmp_path)
    with Store.open(path) as store:
        table = schema.summary
        first = min(row["id"] for row in store.trials() if row["label"] == "adascale")
        with store.transaction() as connection:
            connection.execute(table.update().where(table.c.trial == first, table.c.metric == "energy_mj_per_inference")
                               .values(provenance="modelled", source="power model"))
    with opened(path) as query:
        row = one(overall.make(query), method="adascale")
    assert row["energy_mj_per_inference"] == Missing("runs of 2 provenances (measured, modelled) are never pooled")
    assert isinstance(row["latency_median_ms"], Estimate)


def test_cells_that_differ_in_anything_but_seed_are_never_pooled(tmp_path: Path) -> None:
    few(tmp_path)
    with opened(few(tmp_path, duration_s=4.0)) as query:
        rows = records(overall.make(query))
    assert len(rows) == 6
    assert {str(row["variant"]) for row in rows} == {"duration_s 2.0", "duration_s 4.0"}
    assert {row["runs"] for row in rows} == {3}


def test_a_trial_that_two_campaigns_share_is_in_both_reports(tmp_path: Path) -> None:
    path = few(tmp_path, campaign="first")
    with Store.open(path) as store:
        shared = [trial_from_json(row["definition"])._replace(campaign="second", label="renamed")
                  for row in store.trials() if row["label"] == "adascale"]
        store.save_campaign("second", {}, {}, now_s=50.0)
        store.add_trials(shared, {"board": "measured"})
    with opened(path, "first") as query:
        assert {row["method"] for row in records(overall.make(query))} == {"adascale", "fixed-full", "fixed-small"}
    with opened(path, "second") as query:
        assert [(row["method"], row["runs"]) for row in records(overall.make(query))] == [("renamed", 3)]
