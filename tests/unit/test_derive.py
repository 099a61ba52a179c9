"""Metrics follow from rows by hand arithmetic, give a reason where there is no number, and can be made again."""
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete

from db import estimates, joules, schema
from db.derive import derive_all, derive_trial
from db.ingest import ingest_journal
from db.store import Store
from tests.fakes import sample_bundle, sample_order, sample_trace, sample_trial, write_journal

MS = 1_000_000


def row(number: int, **fields: Any) -> SimpleNamespace:
    """A served, right, timely inference of 2 ms every 10 ms."""
    due_ns = fields.pop("due_ns", number * 10 * MS)
    return SimpleNamespace(**{
        "status": "ok", "due_ns": due_ns, "t_ns": due_ns, "branch": "full", "correct": 1, "decide_us": 10.0,
        "switch_ms": 0.0, "latency_ms": 2.0, "response_ms": 3.0, "met": 1, "deadline_ms": 5.0, "feasible": 3, **fields})


def reading(seq: int, value: float | None, t_s: float = 0.0, source: str = "meter",
            provenance: str = "measured") -> SimpleNamespace:
    return SimpleNamespace(seq=seq, value=value, t_ns=int(t_s * 1e9), source=source, provenance=provenance)


def window(rows: list[Any], measurements: dict[str, list[Any]] | None = None, **fields: Any) -> estimates.Window:
    return estimates.Window(**{"inferences": rows, "measurements": measurements or {}, "loads": [], "last": {},
                               "preflight": "", "provenance": "measured", **fields})


def found(of: estimates.Window) -> dict[str, estimates.Value]:
    return {value.metric: value for value in estimates.values(of)}


def energy(of: estimates.Window, **scopes: str) -> dict[str, estimates.Value]:
    return {value.metric: value for value in joules.values(of, scopes)}


NOT_SERVED = {"branch": None, "correct": None, "decide_us": None, "switch_ms": None, "latency_ms": None,
              "response_ms": None}


# --- answers --------------------------------------------------------------------------------------------------------

def test_accuracy_is_over_served_and_on_time_accuracy_over_arrivals():
    rows = [row(0), row(1, correct=0), row(2, met=0), row(3, correct=0, met=0),
            row(4, status="expired", met=0, **NOT_SERVED), row(5, status="unserved", met=None, **NOT_SERVED)]
    values = found(window(rows))
    assert {name: values[name].value for name in ("arrivals", "served", "expired", "unserved")} == {
        "arrivals": 6.0, "served": 4.0, "expired": 1.0, "unserved": 1.0}
    assert (values["accuracy"].value, values["accuracy"].n) == (0.5, 4)
    assert (values["on_time_accuracy"].value, values["on_time_accuracy"].n) == (1 / 6, 6)
    assert (values["miss_pct"].value, values["miss_pct"].n) == (60.0, 5)        # the last one's deadline is still ahead


def test_without_a_deadline_every_answer_is_on_time_and_misses_have_no_number():
    values = found(window([row(n, met=None, deadline_ms=None, correct=n % 2) for n in range(4)]))
    assert values["on_time_accuracy"].value == 0.5
    assert (values["miss_pct"].value, values["miss_pct"].reason) == (None, "the trial has no deadline")
    assert values["feasible2_pct"].reason == "the trial has no deadline"


def test_without_labels_there_is_no_accuracy():
    values = found(window([row(n, correct=None) for n in range(3)]))
    for metric in ("accuracy", "on_time_accuracy"):
        assert (values[metric].value, values[metric].reason) == (None, "the task has no labels")
    assert values["miss_pct"].value == 0.0


def test_nothing_served_is_no_accuracy_but_all_misses():
    values = found(window([row(n, status="expired", met=0, **NOT_SERVED) for n in range(3)]))
    assert (values["accuracy"].value, values["accuracy"].reason) == (None, "nothing was served")
    assert (values["on_time_accuracy"].value, values["miss_pct"].value) == (0.0, 100.0)
    assert values["latency_median_ms"].reason == values["throughput_hz"].reason == "nothing was served"


def test_an_empty_window_has_every_metric_with_its_reason():
    every = {value.metric: value for value in [*estimates.values(window([])), *joules.values(window([]), {})]}
    counts = {"arrivals", "served", "expired", "unserved", "switches", "loads"}
    assert {name for name, value in every.items() if value.value is not None} == counts
    assert all(every[name].value == 0.0 for name in counts)
    assert all(value.reason for name, value in every.items() if name not in counts)


# --- quantiles ------------------------------------------------------------------------------------------------------

@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50), st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_quantiles_agree_with_numpy(numbers, q):
    assert estimates.quantile(numbers, q) == pytest.approx(float(np.quantile(numbers, q)), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(("q", "needed"), sorted(estimates.SMALLEST.items()))
def test_the_fewest_values_of_a_tail_are_what_theory_says(q, needed):
    assert 1 - q**needed >= 0.95 > 1 - q ** (needed - 1)


@pytest.mark.parametrize(("count", "p95", "p99"), [
    (58, None, None), (59, 2.0, None), (298, 2.0, None), (299, 2.0, 2.0)])
def test_tails_of_few_values_are_not_given(count, p95, p99):
    values = found(window([row(n) for n in range(count)]))
    assert (values["latency_p95_ms"].value, values["latency_p99_ms"].value) == (p95, p99)
    if p99 is None:
        assert values["latency_p99_ms"].reason == f"n too small: {count} of 299"
    assert values["latency_median_ms"].value == 2.0


def test_throughput_is_over_the_time_from_first_due_to_last_end():
    values = found(window([row(n) for n in range(11)]))
    assert values["window_s"].value == pytest.approx(0.102)
    assert values["throughput_hz"].value == pytest.approx(11 / 0.102)


# --- switching, feasibility -----------------------------------------------------------------------------------------

def test_switches_are_counted_between_served_inferences():
    rows = [row(0), row(1, branch="half", switch_ms=4.0), row(2, status="expired", met=0, **NOT_SERVED),
            row(3, branch="half", switch_ms=9.0), row(4, branch="full", switch_ms=2.0)]
    values = found(window(rows, loads=[3.0, None, 5.0]))
    assert (values["switches"].value, values["switch_median_ms"].value, values["switch_median_ms"].n) == (2.0, 3.0, 2)
    assert (values["loads"].value, values["load_median_ms"].value) == (3.0, 4.0)
    assert found(window([row(0), row(1)]))["switch_median_ms"].reason == "no switch"


def test_feasible_windows_are_seconds_in_which_every_arrival_had_a_choice():
    rows = [row(n, due_ns=n * 500 * MS, feasible=feasible) for n, feasible in enumerate([3, 3, 2, 1, 2, 2, 0, 5])]
    value = found(window(rows))["feasible2_pct"]        # seconds: (3,3) (2,1) (2,2) (0,5)
    assert (value.value, value.n) == (50.0, 4)


# --- load, device ---------------------------------------------------------------------------------------------------

def load_rows(asked: list[float | None], achieved: list[float | None], spans: list[float], kind: str) -> dict[str, Any]:
    return {f"asked_{kind}": [reading(n, value, provenance="emulated") for n, value in enumerate(asked)],
            f"achieved_{kind}": [reading(n, value, provenance="emulated") for n, value in enumerate(achieved)],
            "span_s": [reading(n, value, provenance="emulated") for n, value in enumerate(spans)]}


def test_load_is_averaged_over_time():
    values = found(window([], load_rows([0.0, 80.0], [0.0, 70.0], [1.0, 3.0], "cpu_pct")))
    assert (values["load_asked_cpu_pct"].value, values["load_achieved_cpu_pct"].value) == (60.0, 52.5)
    assert (values["load_asked_cpu_pct"].provenance, values["load_asked_cpu_pct"].n) == ("emulated", 2)
    assert values["load_asked_mem_mb"].reason == "no load was asked for"
    assert values["load_valid"].value == 0.0                # 7.5 points off


@pytest.mark.parametrize(("asked", "achieved", "kind", "valid"), [
    ([50.0], [45.0], "cpu_pct", 1.0), ([50.0, 50.0], [60.0, 40.0], "cpu_pct", 0.0), ([100.0], [93.0], "mem_mb", 1.0),
    ([100.0], [80.0], "mem_mb", 0.0), ([50.0], [None], "cpu_pct", None), ([40.0], [37.0], "traffic_mbps", 1.0),
    ([40.0], [35.0], "traffic_mbps", 0.0)])
def test_a_load_is_valid_when_it_was_achieved(asked, achieved, kind, valid):
    assert found(window([], load_rows(asked, achieved, [1.0] * len(asked), kind)))["load_valid"].value == valid


@pytest.mark.parametrize(("co", "load", "others", "reason"), [
    ([60.0, 70.0], ([50.0], [50.0]), 15.0, None), ([30.0], None, 30.0, None), ([5.0], ([50.0], [20.0]), 0.0, None),
    ([], None, None, "no sensor"), ([60.0], ([50.0], [None]), None, "what the load took is not known")])
def test_what_others_took_is_what_neither_the_trial_nor_its_load_did(co, load, others, reason):
    rows = load_rows(*load, [1.0], "cpu_pct") if load else {}
    value = found(window([], {**rows, "co_cpu_pct": [reading(n, one) for n, one in enumerate(co)]}))["others_cpu_pct"]
    assert (value.value, value.reason, value.unit) == (others, reason, "%")


def test_temperature_and_throttling():
    readings = {"temp_c": [reading(1, 50.0), reading(2, None), reading(3, 61.5)],
                "throttled": [reading(1, 0.0), reading(2, 1.0)]}
    values = found(window([], readings, provenance="emulated"))
    assert (values["temp_max_c"].value, values["temp_max_c"].provenance) == (61.5, "measured")
    assert (values["throttled"].value, values["throttled"].unit) == (1.0, "flag")
    assert found(window([], {"temp_c": [reading(1, None)]}))["temp_max_c"].reason == "no sensor"
    mixed = [reading(1, 50.0), reading(2, 90.0, source="trace", provenance="emulated"), reading(3, 51.0)]
    hottest = found(window([], {"temp_c": mixed}))["temp_max_c"]
    assert (hottest.value, hottest.source, hottest.provenance) == (90.0, "trace", "emulated")


def test_the_agents_own_numbers_come_from_its_last_line():
    values = found(window([], last={"peak_rss_mb": 70, "sampler_cpu_pct": None}))
    assert (values["peak_rss_mb"].value, values["peak_rss_mb"].unit) == (70.0, "MiB")
    assert values["sampler_cpu_pct"].reason == "not measurable here"
    assert found(window([]))["peak_rss_mb"].reason == "the agent did not reach its end"


@pytest.mark.parametrize(("said", "value"), [("yes", 1.0), ("no", 0.0), ("unknown", None), ("", None)])
def test_preflight(said, value):
    made = found(window([], preflight=said))["preflight_valid"]
    assert made.value == value and bool(made.reason) == (value is None)


# --- energy ---------------------------------------------------------------------------------------------------------

ROWS = [row(n, due_ns=n * 1000 * MS) for n in range(11)]        # 0 s ... 10 s


def test_energy_of_a_counter_is_last_minus_first():
    counter = [reading(n, 100.0 + 2.0 * n, t_s=n) for n in range(11)]
    values = energy(window(ROWS, {"energy_j": counter}), meter="board")
    assert (values["energy_j"].value, values["power_mean_w"].value) == (20.0, 2.0)
    assert values["energy_mj_per_inference"].value == pytest.approx(20_000 / 11)
    assert (values["energy_j"].source, values["energy_mj_per_inference"].n) == ("meter (board)", 11)


def test_energy_of_power_readings_is_the_area_under_them():
    power = [reading(0, 2.0, t_s=0), reading(1, 4.0, t_s=5), reading(3, 1.0, t_s=10)]
    values = energy(window(ROWS, {"power_w": power}))
    assert values["energy_j"].value == pytest.approx(3.0 * 5 + 2.5 * 5)


@pytest.mark.parametrize("between", ["nothing", "null"])
def test_what_was_drawn_while_a_meter_was_silent_is_not_made_up(between):
    """A charger is plugged in, a rail fails, a command hangs: the area under a gap is nobody's measurement."""
    known = [0.0, 0.5, 1.0, 9.0, 9.5, 10.0]
    times = known if between == "nothing" else [n / 2 for n in range(21)]
    power = [reading(n, 2.0 if t_s in known else None, t_s=t_s) for n, t_s in enumerate(times)]
    values = energy(window(ROWS, {"power_w": power}))
    assert values["energy_j"].value is None
    assert values["energy_j"].reason == "readings cover 20 % of the window, 80 % are needed"


def test_a_short_gap_costs_its_own_seconds_and_inferences():
    power = [reading(n, 2.0 if n != 10 else None, t_s=n / 2) for n in range(21)]    # unknown from 4.5 s to 5.5 s
    values = energy(window(ROWS, {"power_w": power}))
    assert values["energy_j"].value == pytest.approx(18.0) and values["power_mean_w"].value == pytest.approx(2.0)
    outside = [one for one in ROWS if not 4.5e9 < one.t_ns < 5.5e9]
    assert values["energy_mj_per_inference"].n == len(outside)


def test_only_inferences_of_the_metered_time_share_its_energy():
    counter = [reading(n, float(n), t_s=1 + n) for n in range(9)]          # 1 s ... 9 s
    values = energy(window(ROWS, {"energy_j": counter}))
    assert values["energy_mj_per_inference"].n == 9
    assert values["energy_mj_per_inference"].value == pytest.approx(8000 / 9)


@pytest.mark.parametrize(("readings", "reason"), [
    ([], "no energy source"), ([(0, 1.0)], "too few readings in the window: 1"),
    ([(0, None), (9, None)], "too few readings in the window: 0"),
    ([(0, 5.0), (5, 4.0), (10, 9.0)], "the counter went backwards"),
    ([(0, 1.0), (4, 2.0)], "readings cover 40 % of the window, 80 % are needed"),
    ([(3, 1.0), (3, 2.0)], "readings cover 0 %")])
def test_energy_that_cannot_be_told_has_a_reason(readings, reason):
    rows = [reading(n, value, t_s=t_s) for n, (t_s, value) in enumerate(readings)]
    values = energy(window(ROWS, {"energy_j": rows} if rows else {}))
    for metric in ("energy_mj_per_inference", "energy_j", "power_mean_w"):
        assert values[metric].value is None and str(values[metric].reason).startswith(reason)


def test_a_measured_source_goes_before_a_modelled_one_and_a_wall_meter_before_a_rail():
    def power(source: str, value: float, provenance: str = "measured") -> list[Any]:
        return [reading(n, value, t_s=n, source=source, provenance=provenance) for n in range(11)]
    rows = {"power_w": [*power("modelled", 9.0, "modelled"), *power("rail1", 1.0), *power("plug", 5.0)]}
    values = energy(window(ROWS, rows), modelled="modelled", rail1="rail", plug="wall")
    assert (values["energy_j"].value, values["energy_j"].source, values["energy_j"].provenance) == (
        50.0, "plug (wall)", "measured")
    assert (values["energy_j.modelled"].value, values["energy_j.modelled"].provenance) == (90.0, "modelled")
    alone = energy(window(ROWS, {"power_w": rows["power_w"][:11]}), modelled="modelled")
    assert (alone["energy_j"].value, alone["energy_j"].provenance) == (90.0, "modelled") and len(alone) == 3


def test_a_source_that_says_nothing_does_not_hide_one_that_does():
    rows = {"power_w": [reading(n, None, t_s=n, source="plug") for n in range(11)]
            + [reading(n, 2.0, t_s=n, source="rail1") for n in range(11)]}
    values = energy(window(ROWS, rows), plug="wall", rail1="rail")
    assert values["energy_j"].value == 20.0 and values["energy_j.plug"].value is None


# --- through the database -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials: one done, one whose first attempt was cut and whose second was done."""
    folder = tmp_path_factory.mktemp("prepared")
    with Store.open(folder / "results.sqlite") as store:
        store.save_campaign("quickstart", {}, {}, now_s=0.0)
        store.save_device("host", "local", None, 1.0, "measured", {}, now_s=0.0)
        store.save_bundle(sample_bundle())
        trials = [sample_trial(), sample_trial(label="fixed-full", method="fixed", trace=sample_trace("idle"))]
        store.add_trials([*trials, sample_trial(repeat=5)], {"host": "measured"})
        for trial in trials:
            write_journal(folder / f"{trial.id}.1.jsonl.gz", sample_order(trial), energy="counter")
            ingest_journal(store, folder / f"{trial.id}.1.jsonl.gz", trial.id, 1)
        write_journal(folder / "2.jsonl", sample_order(trials[1], attempt=2), inferences=80, ending="crashed")
        ingest_journal(store, folder / "2.jsonl", trials[1].id, 2)
        assert derive_all(store) == 2
    return folder / "results.sqlite"


@pytest.fixture
def store(prepared: Path, tmp_path: Path):
    with Store.open(Path(shutil.copy(prepared, tmp_path))) as opened:
        yield opened


def test_deleting_and_deriving_again_gives_identical_rows(store):
    before = store.read("summary")
    with store.transaction() as connection:
        connection.execute(delete(schema.summary))
    assert derive_all(store) == 2
    assert store.read("summary") == before
    for trial in {entry["trial"] for entry in before}:
        assert derive_trial(store, trial) == sum(entry["trial"] == trial for entry in before)
    assert store.read("summary") == before


def test_only_the_window_of_the_latest_attempt_counts(store):
    done, crashed = (
        {entry["metric"]: entry for row in store.trials() if row["label"] == label and row["repeat"] == 0
         for entry in store.read("summary", trial=row["id"])} for label in ("adascale", "fixed-full"))
    assert done["arrivals"]["value"] == 400.0 and done["peak_rss_mb"]["value"] == 74.5
    assert crashed["arrivals"]["value"] == 80.0 and crashed["energy_j"]["reason"] == "no energy source"
    assert crashed["peak_rss_mb"]["reason"] == "the agent did not reach its end"


def test_sql_on_the_rows_agrees(store):
    """The same numbers by SQL, so that whoever queries the raw rows finds what the summary says."""
    for row in store.trials():
        summary = {entry["metric"]: entry["value"] for entry in store.read("summary", trial=row["id"])}
        if not summary:
            continue
        with store.reading() as connection:
            arrivals, served, right, on_time = connection.exec_driver_sql(
                "SELECT count(*), sum(status = 'ok'), avg(correct) FILTER (WHERE status = 'ok'),"
                " avg(coalesce(correct, 0) AND met) FROM inference WHERE trial = ? AND phase = 'window'",
                (row["id"],)).one()
        assert (summary["arrivals"], summary["served"]) == (arrivals, served)
        assert summary["accuracy"] == pytest.approx(right)
        assert summary["on_time_accuracy"] == pytest.approx(on_time)


def test_an_unknown_or_untouched_trial_has_no_summary(store):
    assert derive_trial(store, "f" * 24) == 0
    assert len({entry["trial"] for entry in store.read("summary")}) == 2


def test_joules_are_of_the_provenance_of_the_readings_that_they_are_made_of():
    power = [reading(n, 2.0, t_s=n, provenance="modelled") for n in range(11)]
    silent = {"energy_j": [reading(n, None, t_s=n) for n in range(11)], "power_w": power}
    value = energy(window(ROWS, silent))["energy_j"]
    assert value.value == pytest.approx(20.0) and value.provenance == "modelled"
    power[4] = reading(4, 2.0, t_s=4)
    value = energy(window(ROWS, {"power_w": power}))["energy_j"]
    assert value.value is None and value.reason == "readings of 2 provenances (modelled, measured) are never pooled"
