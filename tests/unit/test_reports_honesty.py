"""What a report must not say: made-up readings as measurements, impossible bounds, load nobody asked for, a path."""
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from db.store import Store
from device_agents.wire import canonical_json
from reports import cells
from reports.build import build, render
from reports.figures import timeline
from reports.published import published
from reports.query import opened
from reports.stats import Estimate, Reading
from reports.table import Cell, Missing, Table
from reports.tables import branches, conditions, costs, overall, relative
from tests.fakes import sample_bundle, sample_costs, sample_trial
from tests.report_database import write_database

FEW: dict[str, Any] = {"devices": [("board", 1.0)], "traces": ["ramp"], "repeats": 1, "inferences": 20, "spoil": False}


def records(table: Table) -> list[dict[str, Cell]]:
    return [dict(zip(table.keys(), row)) for row in table.rows]


def change(path: Path, *statements: str) -> Path:
    with Store.open(path) as store, store.transaction() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    return path


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A device that times real inferences and has made-up sensors."""
    return change(write_database(tmp_path, **FEW),
                  "UPDATE summary SET provenance = 'synthetic' WHERE metric LIKE 'energy%' OR metric LIKE 'power%'",
                  "UPDATE summary SET provenance = 'synthetic', value = 97.5 WHERE metric = 'temp_max_c'",
                  "UPDATE summary SET provenance = 'synthetic', value = 1.0 WHERE metric = 'throttled'")


def test_made_up_readings_are_in_no_cell_and_no_comparison(lab: Path) -> None:
    with opened(lab) as query:
        for row in records(overall.make(query)):
            assert isinstance(row["energy_mj_per_inference"], Missing)
            assert str(row["energy_source"]).startswith("synthetic: ")
            assert isinstance(row["latency_median_ms"], Estimate)
        for row in records(relative.make(query)):
            assert row["energy_mj_per_inference_ratio"] == Missing("synthetic readings are in no comparison")
        for row in records(conditions.make(query)):
            assert isinstance(row["temp_max_c"], Missing) and "synthetic" in row["temp_max_c"].reason
            assert row["flags"] == "throttled in 1 of 1 (synthetic)"
            assert isinstance(row["load_asked_cpu_pct"], Estimate)      # emulated everywhere: the harness plays it
        assert "emulated" in conditions.make(query).title


def test_a_busy_machine_is_told_beside_the_numbers_that_it_spoiled(tmp_path: Path) -> None:
    quiet = write_database(tmp_path, **FEW)
    with opened(quiet) as query:
        assert not any("others" in note for note in overall.make(query).notes)
        assert {row["flags"] for row in records(conditions.make(query))} == {"none"}
    label = "fixed-full"
    busy = change(quiet, "UPDATE summary SET value = 20.5 WHERE metric = 'others_cpu_pct' AND trial IN "
                         f"(SELECT id FROM trial WHERE label = '{label}')")
    with opened(busy) as query:
        done = len(query.trials)
        said = f"In 1 of {done} runs others took more than 20 % "
        assert any(note.startswith(said) for note in overall.make(query).notes)
        flagged = {row["method"]: row["flags"] for row in records(conditions.make(query)) if row["flags"] != "none"}
        assert flagged == {label: "others busy in 1 of 1"}


def test_the_page_says_which_readings_are_not_measured(lab: Path) -> None:
    with opened(lab) as query:
        page = render(query)["index.html"].decode()
    assert "Every number" not in page
    assert "energy (synthetic), temperature (synthetic), throttling (synthetic)" in page
    for name, absent in (("measured", False), ("synthetic", False), ("emulated", False), ("simulated", True)):
        assert (f'class="absent"><dt><i class="badge {name}">' in page) is absent, name


def test_a_table_with_modelled_joules_says_so_in_its_title(tmp_path: Path) -> None:
    with opened(write_database(tmp_path, **FEW, energy="modelled")) as query:
        assert "(measured and modelled: modelled numbers are no evidence" in overall.make(query).title


def test_no_interval_reaches_beyond_what_a_number_can_be() -> None:
    def cell(metric: cells.Metric, provenance: str = "measured") -> Cell:
        found = [Reading(value, "", 100, "", "", provenance) for value in (1.0, 1.0, 40.0)]
        return cells.pooled(found, metric, "measured")

    for metric in (*overall.METRICS, *overall.RUNNING, cells.ENERGY, *conditions.METRICS):
        found = cell(metric, "emulated" if metric.played else "measured")
        assert isinstance(found, Estimate) and found.low is not None
        assert (found.low < 0.0) is (metric is cells.TEMPERATURE), metric.name


def test_the_timeline_draws_one_load_at_a_time(tmp_path: Path) -> None:
    """Spans are rounded to a millisecond, so that one may seem to begin before the one before it ends."""
    path = change(write_database(tmp_path, **{**FEW, "inferences": 1200}, duration_s=8.0),
                  "UPDATE measurement SET value = value + 0.0004 WHERE metric = 'span_s'",
                  "UPDATE measurement SET value = seq WHERE metric = 'asked_cpu_pct'")
    with opened(path) as query:
        drawing = timeline.draw(query)
    assert not isinstance(drawing, Missing)
    points = [(float(str(row[0])), float(str(row[2]))) for row in drawing.data.rows if row[1] == "asked_cpu_pct"]
    assert len({value for _, value in points}) > 3
    assert all(before[1] <= after[1] for before, after in pairwise(points))
    assert all(before[0] == pytest.approx(after[0]) or before[1] == after[1] for before, after in pairwise(points))


@pytest.mark.parametrize(("text", "printed"), [
    ("/home/ann/lab/fleet.toml: no such file", "fleet.toml: no such file"),
    ("see '/tmp/x y/a.log' and ~/.edgefleet/b.log, or ~ann/c/d", "see 'x y/a.log' and b.log, or d"),
    ("no space in /home/ann; '/Users/ann/' is no folder", "no space in (folder); '(folder)' is no folder"),
    ("cat /proc/stat and /sys/class/thermal: refused", "cat /proc/stat and /sys/class/thermal: refused"),
    ("edgefleet run workloads/campaigns/quickstart.toml", "edgefleet run workloads/campaigns/quickstart.toml"),
    ("https://onnxruntime.ai/docs/x", "https://onnxruntime.ai/docs/x"),
    ("board: gw.uni.example:22 refuses ann@gw.uni.example; 10.0.0.7:22 too",
     "board: (address):22 refuses (login); (address):22 too"),
    ("onnxruntime 1.31.1 is no gw.uni.example.org", "onnxruntime 1.31.1 is no gw.uni.example.org"),
])
def test_free_text_is_printed_without_paths_logins_and_addresses(text: str, printed: str) -> None:
    assert published(text, {"gw.uni.example"}) == printed


def test_no_file_names_a_folder_or_a_machine_of_the_user(tmp_path: Path) -> None:
    path, reason = write_database(tmp_path, **FEW), "board: gw.uni.example: no space in /home/ann/agent/store"
    with Store.open(path) as store:
        store.save_campaign("quickstart", {"name": "quickstart", "fleet": "/home/ann/lab/fleet.toml",
                                           "plugins": "/home/ann/mine"}, {"board": {"host": "gw.uni.example"}}, 100.0)
        store.set_trial_state(store.trials()[0]["id"], "failed", "DeviceNotReady", "device", reason)
    build(path, tmp_path / "out")
    files = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert not [file for file, content in files.items() if b"/home/ann" in content or b"gw.uni.example" in content]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "&#34;fleet.toml&#34;" in page and "&#34;mine&#34;" in page and "no space in store" in page


def test_costs_of_other_knobs_are_told_apart(tmp_path: Path) -> None:
    path, bundle, trial = write_database(tmp_path, **FEW), sample_bundle(), sample_trial()
    with Store.open(path) as store:
        store.save_costs("board", bundle.id, trial.engine, trial.runtime, canonical_json({"threads": 7}),
                         sample_costs(bundle, 2.0, "measured"), now_s=100.0)
    write_database(tmp_path, **FEW, knobs={"threads": 7})
    with opened(path) as query:
        rows, [first, *_] = records(costs.make(query)), records(branches.make(query))
        assert "engine" not in rows[0]
    assert len({(row["branch"], row["knobs"]) for row in rows}) == len(rows) == 2 * len(bundle.branches)
    assert "threads 7" in {row["knobs"] for row in rows}
    assert first["latency_ms board"] == Missing("profiled with several engines, runtimes or knobs: see the table costs")


def test_columns_say_what_their_numbers_are() -> None:
    assert "windows of one second" in cells.FEASIBLE.column.about        # as docs/schema.md defines feasible2_pct
    assert "whose deadline fell within the window" in cells.MISSES.column.about
