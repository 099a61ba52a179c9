"""Every file of reports/tables/ and reports/figures/ keeps its folder's contract, on a full and on a bare database."""
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.store import Store
from device_agents import registry
from device_agents.wire import PROVENANCES
from reports import figure, table_files
from reports.figure import Drawing
from reports.query import Query, opened
from reports.table import Missing, Table
from tests.report_database import write_database

HOSTILE = "dev<i>$x^_|&\"'\\\u202e%{"
TABLES, FIGURES = registry.names("reports.tables"), registry.names("reports.figures")


@pytest.fixture(scope="module", params=["full", "bare"])
def query(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Query]:
    """full: a device with a hostile name is among them. bare: one run, no deadline, load, meter or costs."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "full":
        path = write_database(folder, devices=[("board", 1.0), (HOSTILE, 3.0)], repeats=2, inferences=30)
    else:
        path = write_database(folder, devices=[("board", 1.0)], traces=["idle"], repeats=1, inferences=5, energy="",
                              spoil=False)
        with Store.open(path) as store, store.transaction() as connection:
            for statement in ("UPDATE inference SET deadline_ms = NULL, met = NULL, feasible = NULL",
                              "UPDATE trial SET deadline_ms = NULL", "DELETE FROM measurement", "DELETE FROM cost",
                              "DELETE FROM summary WHERE metric LIKE '%miss%'", "UPDATE device SET facts = '{}'"):
                connection.exec_driver_sql(statement)
    with opened(path) as found:
        yield found


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_made_and_written_in_every_format(name: str, query: Query) -> None:
    module = registry.load_module("reports.tables", name)
    assert inspect.getdoc(module) and isinstance(module.PLACE, int) and isinstance(module.FOLDED, bool)
    table = module.make(query)
    assert isinstance(table, Table)
    assert len(set(table.keys())) == len(table.keys())
    assert set(table.group) <= set(table.keys()) and set(table.provenances) <= set(PROVENANCES)
    if "provenance" in table.keys() and table.rows:         # noqa: SIM118  (a method, not a dict)
        found = {str(row[table.keys().index("provenance")]) for row in table.rows}
        assert found <= set(table.provenances)      # more where a reading has another one than its trial
        assert ("no evidence" in table.title) == (set(table.provenances) != {"measured"})
    for text in (table_files.to_markdown(table), table_files.to_csv(table), table_files.to_latex(table, name),
                 table_files.to_text(table), table_files.to_text(table, 80), table_files.to_json(table)):
        assert text.endswith("\n")
    assert table == module.make(query)


@pytest.mark.parametrize("name", [*TABLES, *FIGURES])
def test_the_page_of_documentation_names_it(name: str) -> None:
    assert f"`{name}`" in (Path(__file__).resolve().parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_or_says_why_not(name: str, query: Query) -> None:
    module = registry.load_module("reports.figures", name)
    assert inspect.getdoc(module) and isinstance(module.PLACE, int)
    drawing = module.draw(query)
    if isinstance(drawing, Missing):
        assert drawing.reason
        return
    assert isinstance(drawing, Drawing)
    assert drawing.data.rows and drawing.caption.endswith(".")
    assert ("no evidence" in drawing.title) == (set(drawing.data.provenances) != {"measured"})
    for style in (figure.LIGHT, figure.DARK):
        assert figure.render(drawing, ["svg"], style)["svg"].startswith(b"<?xml")


def test_places_are_distinct_so_that_the_order_never_depends_on_chance() -> None:
    for folder, names in (("tables", TABLES), ("figures", FIGURES)):
        places = [registry.load_module(f"reports.{folder}", name).PLACE for name in names]
        assert len(set(places)) == len(places)


def test_the_bare_database_draws_what_it_can(tmp_path: Path) -> None:
    path = write_database(tmp_path, devices=[("board", 1.0)], traces=["idle"], repeats=1, inferences=5, spoil=False)
    with Store.open(path) as store, store.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM inference")
        connection.exec_driver_sql("DELETE FROM summary")
    with opened(path) as query:
        found = {name: registry.load_module("reports.figures", name).draw(query) for name in FIGURES}
    assert all(isinstance(drawing, Missing) for drawing in found.values())
