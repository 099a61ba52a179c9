"""Campaigns over several networks: each row says of which it is, and a panel holds what may stand side by side."""
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.store import Store
from reports.figures import misses, pareto
from reports.panels import panels
from reports.query import Query, opened
from reports.table import Missing
from reports.tables import conditions, costs, overall, relative, tails
from tests.fakes import sample_bundle
from tests.report_database import write_database

TABLES = (overall, relative, conditions, tails)
FEW = {"devices": [("board", 1.0)], "repeats": 1, "inferences": 20, "spoil": False}
MINE = sample_bundle()
OTHER_SEED = MINE._replace(id="5" * 64, seed=MINE.seed + 1)
DERIVED = MINE._replace(id="d" * 64, training={"parent": MINE.id})


@pytest.fixture
def query(tmp_path: Path) -> Iterator[Query]:
    """Three methods on networks of two training seeds, and once more on a network derived from the first."""
    path = write_database(tmp_path, **FEW)
    with Store.open(path) as store:
        store.save_bundle(OTHER_SEED)
        store.save_bundle(DERIVED)
    write_database(tmp_path, **FEW, bundle=OTHER_SEED.id)
    with opened(write_database(tmp_path, **FEW, bundle=DERIVED.id)) as found:
        yield found


@pytest.mark.parametrize("module", TABLES)
def test_rows_say_of_which_network_they_are_and_each_heading_stands_once(module: object, query: Query) -> None:
    table = module.make(query)                              # type: ignore[attr-defined]
    assert "training_seed" in table.group
    headings = [table.headings(values) for values, _ in table.blocks()]
    assert len(headings) == len({tuple(heading) for heading in headings}) == 4      # two traces, two seeds
    assert ["board", "idle", "measured", "training seed 8"] in headings


def test_costs_say_of_which_bundle_they_are(query: Query) -> None:
    place = costs.make(query).keys().index("bundle")
    assert {row[place] for row in costs.make(query).rows} == {query.bundle_name(MINE.id)}


def test_a_derived_network_is_drawn_beside_its_parent_and_seeds_apart(query: Query) -> None:
    named = panels(query)
    assert set(named.values()) == {"board (measured), training seed 7", "board (measured), training seed 8"}
    assert {named[trial.id] for trial in query.trials if trial.bundle in (MINE.id, DERIVED.id)} == {
        "board (measured), training seed 7"}
    assert set(panels(query, seeds_apart=False).values()) == {"board (measured)"}


def test_a_panel_is_named_by_all_that_differs(query: Query) -> None:
    for trial in query.trials:
        trial.definition["duration_s"] = 9.0 if trial.trace == "idle" else 2.0
        if trial.label == "adascale":
            trial.definition.update(link={"delay_ms": 2.0}, settings={}, residency="one")       # its own
    assert set(panels(query, seeds_apart=False).values()) == {
        "board (measured), duration_s 9.0", "board (measured), duration_s 2.0"}


def test_the_parent_s_branches_are_drawn_once_a_panel(query: Query) -> None:
    drawing = pareto.draw(query)
    assert not isinstance(drawing, Missing)
    keys = [row[:5] for row in drawing.data.rows if row[3] == "branch"]
    assert keys and len(keys) == len(set(keys))
    assert {str(row[0]) for row in drawing.data.rows if row[3] == "method"} == {
        "board (measured), training seed 7", "board (measured), training seed 8"}


def test_misses_keep_a_mark_for_each_cell(query: Query) -> None:
    drawing = misses.draw(query)
    assert not isinstance(drawing, Missing)
    assert len(drawing.data.rows) == len(query.cells) == 18
    assert {row[-1] for row in drawing.data.rows} == {7, 8} and "each training seed" in drawing.caption
