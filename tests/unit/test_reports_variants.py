"""Older trials of an edited campaign: another version of a method, another runtime. Never pooled, always told apart."""
from pathlib import Path
from typing import Any

import pytest

from db import schema
from db.store import Store
from reports.figures import misses, pareto
from reports.query import opened
from reports.stats import Estimate
from reports.table import Cell, Missing, Table
from reports.tables import conditions, oracles, overall, relative, seeds, tails
from reports.variants import told_apart
from tests.fakes import sample_bundle, sample_trace
from tests.report_database import write_database

FEW: dict[str, Any] = {"devices": [("board", 1.0)], "traces": ["idle"], "repeats": 1, "inferences": 20, "spoil": False}
EDITED: dict[str, Any] = {"method_sha256": "e" * 64}
UPGRADED: dict[str, Any] = {"runtime": "onnxruntime 9.0.0"}
OTHER_SEED = sample_bundle()._replace(id="5" * 64, seed=sample_bundle().seed + 1)


def twice(folder: Path, **changes: Any) -> Path:
    write_database(folder, **FEW)
    return write_database(folder, **FEW, **changes)


def records(table: Table) -> list[dict[str, Cell]]:
    return [dict(zip(table.keys(), row)) for row in table.rows]


def test_only_what_differs_is_told_and_only_of_what_looks_alike() -> None:
    same = {"duration_s": 2.0, "settings": {"margin": 0.1, "order": ["a"]}, "bundle": "b" * 64}
    other = {"duration_s": 2.0, "settings": {"order": ["a"]}, "bundle": "c" * 64}
    assert told_apart([("x", same), ("x", other), ("y", same)]) == [
        "bundle bbbbbbbb, settings margin 0.1", "bundle cccccccc, settings margin none", ""]


@pytest.mark.parametrize("module", [overall, conditions, tails, relative])
def test_rows_of_two_versions_of_a_method_say_which_is_which(module: object, tmp_path: Path) -> None:
    with opened(twice(tmp_path, **EDITED)) as query:
        rows = records(module.make(query))                  # type: ignore[attr-defined]
    assert len({row["variant"] for row in rows if row["method"] == "adascale"}) == 2
    assert "method_sha256 eeeeeeee" in {row["variant"] for row in rows}


@pytest.mark.parametrize("module", [overall, conditions, tails, relative, seeds, oracles])
def test_without_them_there_is_no_such_column(module: object, tmp_path: Path) -> None:
    with opened(write_database(tmp_path, **FEW)) as query:
        keys = module.make(query).keys()                    # type: ignore[attr-defined]
    assert "variant" not in keys


def two_seeds(folder: Path) -> Path:
    write_database(folder, **FEW)
    with Store.open(folder / "results.sqlite") as store:
        store.save_bundle(OTHER_SEED)
    for changes in ({"bundle": OTHER_SEED.id}, EDITED, {**EDITED, "bundle": OTHER_SEED.id}):
        write_database(folder, **FEW, **changes)
    return folder / "results.sqlite"


def test_two_versions_of_a_method_are_not_pooled_over_seeds(tmp_path: Path) -> None:
    path = two_seeds(tmp_path)
    with Store.open(path) as store:
        edited = [row["id"] for row in store.trials() if row["definition"]["method_sha256"] == "e" * 64]
        with store.transaction() as connection:
            connection.execute(schema.summary.update().where(
                schema.summary.c.trial.in_(edited), schema.summary.c.metric == "accuracy").values(value=0.0))
    with opened(path) as query:
        for trial in query.trials:                          # what a method derives for a seed is another one each time
            trial.definition.update(settings={"margin": trial.training_seed}, learned=str(trial.training_seed))
        rows = [row for row in records(seeds.make(query)) if row["method"] == "adascale"]
    assert [row["seeds"] for row in rows] == [2, 2]
    accuracies = [row["accuracy_pct"].value for row in rows if isinstance(row["accuracy_pct"], Estimate)]
    assert min(accuracies) == 0.0 and max(accuracies) > 90.0
    assert len({row["variant"] for row in rows}) == 2
    assert all("method_sha256" in str(row["variant"]) and "margin" not in str(row["variant"]) for row in rows)


def test_a_seed_counts_once_a_run_of_it_is_done(tmp_path: Path) -> None:
    write_database(tmp_path, **FEW)
    with Store.open(tmp_path / "results.sqlite") as store:
        store.save_bundle(OTHER_SEED)
    path = write_database(tmp_path, **FEW, bundle=OTHER_SEED.id)
    with Store.open(path) as store:
        [one] = [row["id"] for row in store.trials() if row["bundle"] == OTHER_SEED.id and row["label"] == "adascale"]
        store.set_trial_state(one, "failed", "AgentDied", "device", "killed")
    with opened(path) as query:
        rows = {row["method"]: row["seeds"] for row in records(seeds.make(query))}
    assert rows == {"adascale": 1, "fixed-full": 2, "fixed-small": 2}


def test_edited_settings_are_not_pooled_within_a_seed(tmp_path: Path) -> None:
    twice_run = {**FEW, "repeats": 2}
    write_database(tmp_path, **twice_run)
    with Store.open(tmp_path / "results.sqlite") as store:
        store.save_bundle(OTHER_SEED)
    with opened(write_database(tmp_path, **twice_run, bundle=OTHER_SEED.id)) as query:
        for trial in query.trials:
            if trial.label == "adascale" and trial.repeat == 1:
                trial.definition["settings"] = {"margin": 0.5}
        rows = {row["method"]: row for row in records(seeds.make(query))}
    assert {row["seeds"] for row in rows.values()} == {2} and len(rows) == 3
    assert isinstance(rows["adascale"]["accuracy_pct"], Missing)
    assert isinstance(rows["fixed-full"]["accuracy_pct"], Estimate)


def test_runs_under_an_edited_trace_are_neither_pooled_nor_paired_with_older_ones(tmp_path: Path) -> None:
    again, idle = {**FEW, "repeats": 3}, sample_trace("idle")
    write_database(tmp_path, **{**again, "traces": ["idle", "ramp"]})
    path = write_database(tmp_path, **again, trace=idle._replace(rows=((0.0, 50.0, 0.0),)))
    with Store.open(path) as store:
        new = [row["id"] for row in store.trials()
               if row["trace"] == "idle" and row["trace_digest"] != idle.digest()]
        with store.transaction() as connection:             # under the new load all are slower, by the same factor
            connection.execute(schema.summary.update().where(
                schema.summary.c.trial.in_(new), schema.summary.c.metric == "latency_median_ms").values(
                    value=100 * schema.summary.c.value))
    with opened(path) as query:
        rows = [row for row in records(overall.make(query)) if row["method"] == "fixed-small"]
        ratios = [row["latency_median_ms_ratio"] for row in records(relative.make(query))
                  if row["method"] == "fixed-small" and row["trace"] == "idle"]
        figure = misses.draw(query)
    assert len(new) == 9 and [row["runs"] for row in rows] == [3, 3, 3]
    told = {str(row["variant"]): row["trace"] for row in rows}
    assert len(told) == 3 and told[""] == "ramp" and told[f"trace {idle.digest()[:8]}"] == "idle"
    values = [ratio.value for ratio in ratios if isinstance(ratio, Estimate) and ratio.n == 3]
    assert len(values) == 2 and max(values) < 2 * min(values)
    assert not isinstance(figure, Missing)
    panels = {(row[1], row[0]) for row in figure.data.rows}
    assert len(panels) == 3 and ("ramp", "board (measured)") in panels


def test_a_method_is_compared_with_the_reference_in_its_own_runtime(tmp_path: Path) -> None:
    path = twice(tmp_path, **UPGRADED)
    with Store.open(path) as store:
        full = [row["id"] for row in store.trials()
                if row["runtime"] == UPGRADED["runtime"] and row["label"] == "fixed-full"]
        with store.transaction() as connection:
            connection.execute(schema.summary.update().where(
                schema.summary.c.trial.in_(full), schema.summary.c.metric == "latency_median_ms").values(value=4000.0))
    with opened(path) as query:
        rows = {str(row["variant"]): row["latency_median_ms_ratio"] for row in records(relative.make(query))
                if row["method"] == "fixed-small"}
        [own] = [trial for trial in query.trials if trial.label == "adascale" and trial.runtime != UPGRADED["runtime"]]
        own.definition["runtime"], own.runtime = "a runtime of its own", "a runtime of its own"
        [unclear] = [row for row in records(relative.make(query)) if "of its own" in str(row["variant"])]
    old, new = (next(rows[text] for text in rows if (UPGRADED["runtime"] in text) is upgraded)
                for upgraded in (False, True))
    assert isinstance(old, Estimate) and isinstance(new, Estimate)
    assert new.value < 0.01 < old.value
    assert isinstance(unclear["latency_median_ms_ratio"], Missing)


def test_a_reference_of_two_versions_is_compared_with_nothing(tmp_path: Path) -> None:
    with opened(twice(tmp_path, **EDITED)) as query:
        rows = records(relative.make(query))
    assert len(rows) == 4
    for row in rows:
        cell = row["latency_median_ms_ratio"]
        assert isinstance(cell, Missing) and "several forms" in cell.reason and "eeeeeeee" in cell.reason


@pytest.mark.parametrize(("module", "place"), [(pareto, 4), (misses, 2)])
def test_figures_name_each_version_and_its_data_is_unique(module: object, place: int, tmp_path: Path) -> None:
    with opened(twice(tmp_path, **EDITED)) as query:
        drawing = module.draw(query)                        # type: ignore[attr-defined]
    rows = [row for row in drawing.data.rows if "method" in row or module is misses]
    assert len(rows) == 6 == len({row[place] for row in rows})
    assert "adascale, method_sha256 eeeeeeee" in {row[place] for row in rows}


def test_recordings_of_two_versions_are_not_mixed_in_one_oracle(tmp_path: Path) -> None:
    with opened(twice(tmp_path, **EDITED)) as query:
        rows = records(oracles.make(query))
    assert [row["method"] for row in rows] == ["oracle: accuracy", "oracle: energy"] * 2
    assert len({row["variant"] for row in rows}) == 2
