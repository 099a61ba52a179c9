"""Oracles, budgets and seeds on hand-made rows: what is chosen, what is pooled, what stands there when nothing is."""
from pathlib import Path

from db.store import Store
from reports.query import opened
from reports.table import Missing
from reports.tables import budgets, oracles, seeds
from reports.tables.oracles import Bin, least_busy, most_right, play
from tests.report_database import write_database


def test_an_oracle_takes_the_best_recording_of_each_bin() -> None:
    slow = [Bin("slow", 10, 10, 10, 0, 50.0), Bin("slow", 10, 2, 10, 8, 80.0)]
    fast = [Bin("fast", 10, 8, 10, 0, 5.0), Bin("fast", 10, 8, 10, 1, 8.0)]
    found = play([slow, fast], most_right, 1000.0)
    assert (found.on_time_pct, found.miss_pct, found.busy_pct) == (90.0, 5.0, 5.8)
    assert found.branches == {"slow": 1, "fast": 1}


def test_the_energy_oracle_spends_a_point_of_the_whole_window_where_it_saves_most() -> None:
    # 20 bins of five arrivals: one answer is a point of the window, and twenty points of its bin.
    slow = [Bin("slow", 5, 5, 5, 0, 10.0) for _ in range(20)]
    fast = [Bin("fast", 5, 4, 5, 1, 7.0 if place == 3 else 9.0) for place in range(20)]
    found, best = (play([slow, fast], choose, 1000.0) for choose in (least_busy, most_right))
    assert (best.on_time_pct, found.on_time_pct, best.busy_pct, found.busy_pct) == (100.0, 99.0, 20.0, 19.7)
    assert [one.branch for one in least_busy([slow, fast])].index("fast") == 3
    assert found.branches == {"slow": 19, "fast": 1}


def test_the_energy_oracle_gives_away_no_more_than_a_point() -> None:
    slow = [Bin("slow", 10, 9, 10, 0, 50.0)] * 10
    two = [Bin("two", 10, 7, 10, 0, 1.0)] * 10
    assert {one.branch for one in least_busy([slow, two])} == {"slow"}
    assert [one.branch for one in least_busy([[Bin("a", 0, 0, 0, 0, 0.0)], [Bin("b", 0, 0, 0, 0, 0.0)]])] == ["a"]
    free = [Bin("free", 10, 9, 10, 0, 40.0)] * 10
    assert {one.branch for one in most_right([slow, free])} == {"free"}


def test_misses_of_an_oracle_are_of_decided_arrivals_and_missing_without_a_deadline() -> None:
    run = play([[Bin("a", 10, 8, 4, 1, 5.0)]], most_right, 100.0)
    assert (run.on_time_pct, run.miss_pct) == (80.0, 25.0)
    assert play([[Bin("a", 10, 8, 0, 0, 5.0)]], most_right, 100.0).miss_pct is None


def test_branches_of_the_front_that_nobody_recorded_are_named(tmp_path: Path) -> None:
    def unrecorded() -> set[object]:
        table = oracles.make(query)
        return {dict(zip(table.keys(), row))["unrecorded"] for row in table.rows}

    with opened(write_database(tmp_path, repeats=1, spoil=False)) as query:
        branches = {branch.id: branch for branch in query.branches[query.trials[0].bundle]}
        recorded = {line.branch for trial in query.trials if trial.method == "fixed"
                    for line in query.inferences(trial, ("branch",))} - {None}
        others = [name for name in branches if name not in recorded]
        assert recorded and others
        for place, branch in enumerate(branches.values()):      # the most costly first: each is on the front
            branch.accuracy = 0.9 - 0.1 * place
        assert unrecorded() == {", ".join(others)}
        for name in others:                     # beaten in accuracy, and no cheaper than the cheapest that was recorded
            branches[name].accuracy, branches[name].macs, branches[name].size_b = 0.1, 10**12, 10**12
        assert unrecorded() == {"none"}


def test_what_was_chosen_is_said_also_where_it_is_the_defaults_or_a_network(tmp_path: Path) -> None:
    def chosen(**made: object) -> object:
        settings: dict[str, object] = {} if made else {"branch": "adadeep"}
        with Store.open(path) as store:
            bundle = store.read("bundle")[0]["id"]
            store.save_preparation("quickstart", "adascale", "board", bundle, "adascale", None, settings, None, {},
                                   [{"settings": {}, "score": 1.0}], [])
        with opened(path) as query:
            query.bundles[bundle].training = {**query.bundles[bundle].training, **made}
            table = budgets.make(query)
            return next(dict(zip(table.keys(), row))["chosen"] for row in table.rows
                        if row[3:5] == ("board", "adascale"))

    path = write_database(tmp_path, repeats=1, spoil=False)
    assert chosen(none="of interest") == "the defaults"
    assert chosen(pick="exit1") == '{"pick":"exit1"}'
    assert chosen() == '{"branch":"adadeep"}'


def test_rows_that_were_given_the_same_network_are_named(tmp_path: Path) -> None:
    path = write_database(tmp_path, devices=[("board", 1.0)], repeats=1, spoil=False)
    with opened(path) as query:
        assert not any("same network" in note for note in budgets.make(query).notes)
        bundle = query.bundles[query.trials[0].bundle]
        bundle.training = {**bundle.training, "parent": "f" * 64}
        query.all_bundles["f" * 64] = bundle
        notes = [note for note in budgets.make(query).notes if "same network" in note]
        assert len(notes) == 1 and "on board: adascale, fixed-full, fixed-small." in notes[0]


def test_tables_on_a_campaign_without_preparations(tmp_path: Path) -> None:
    with opened(write_database(tmp_path, repeats=1, spoil=False)) as query:
        assert seeds.make(query).rows == ()
        rows = budgets.make(query).rows
        assert {row[4] for row in rows} == {"adascale", "fixed-full", "fixed-small"}
        assert all(isinstance(row[6], Missing) for row in rows)
        for row in oracles.make(query).rows:
            assert row[6] in ("oracle: accuracy", "oracle: energy")


def test_a_preparation_is_billed(tmp_path: Path) -> None:
    path = write_database(tmp_path, repeats=1, spoil=False)
    with Store.open(path) as store:
        bundle = store.read("bundle")[0]["id"]
        store.save_preparation("quickstart", "adascale", "board", bundle, "adascale", None, {"margin": 0.2}, None,
                               {"device_s": 1.5, "search_s": 3.0}, [{"settings": {}, "score": 90.0}] * 20, [])
    with opened(path) as query:
        table = budgets.make(query)
        row = next(row for row in table.rows if row[3:5] == ("board", "adascale"))
        cells = dict(zip([column.key for column in table.columns], row))
        assert (cells["device_s"], cells["search_s"], cells["configurations"]) == (1.5, 3.0, 20)
        assert cells["chosen"] == '{"margin":0.2}'
        assert cells["bytes"] == sum(branch.size_b for branch in query.branches[bundle]) / 1e6


def test_what_is_pushed_holds_the_weights_that_branches_are_derived_from(tmp_path: Path) -> None:
    """In the evolve form a branch's file is a recipe; the bill of the preparation has the weights, too."""
    path = write_database(tmp_path, repeats=1, spoil=False)
    with Store.open(path) as store:
        bundle = store.read("bundle")[0]["id"]
        store.save_preparation("quickstart", "adascale", "board", bundle, "adascale", None, {}, None,
                               {"bytes": 1_861_860.0}, [], [])
    with opened(path) as query:
        table = budgets.make(query)
        row = next(row for row in table.rows if row[3:5] == ("board", "adascale"))
        assert dict(zip([column.key for column in table.columns], row))["bytes"] == 1.86186


def test_a_training_chain_is_never_the_campaign_that_is_reported_by_default(tmp_path: Path) -> None:
    write_database(tmp_path, repeats=1, spoil=False, now_s=100.0)
    path = write_database(tmp_path, repeats=1, spoil=False, campaign="quickstart/learning", now_s=200.0, duration_s=9.0)
    with opened(path) as query:
        assert query.campaign.name == "quickstart"
    with opened(path, "quickstart/learning") as query:
        assert query.campaign.name == "quickstart/learning"


def test_methods_with_a_link_or_a_residency_of_their_own_stand_beside_the_reference(tmp_path: Path) -> None:
    with opened(write_database(tmp_path, repeats=1, spoil=False)) as query:
        one, other = (next(trial for trial in query.trials if trial.label == label and trial.device == "board"
                           and trial.trace == "idle") for label in ("adascale", "fixed-full"))
        assert query.place(one) == query.place(other)
        one.definition.update(link={"delay_ms": 2.0}, residency="one", engine="remote", peers=["edge"])
        assert query.place(one) == query.place(other)
        one.definition.update(duration_s=9.0)
        assert query.place(one) != query.place(other)


def test_trials_of_an_edited_campaign_are_not_pooled_over_seeds(tmp_path: Path) -> None:
    write_database(tmp_path, repeats=1, spoil=False)
    with opened(write_database(tmp_path, repeats=1, spoil=False, duration_s=9.0)) as query:
        for trial in query.trials:
            trial.training_seed += trial.duration_s == 9.0
        assert seeds.make(query).rows == ()             # each seed has another duration: nothing to pool
        for trial in query.trials:
            trial.definition["duration_s"] = 9.0
        assert seeds.make(query).rows
