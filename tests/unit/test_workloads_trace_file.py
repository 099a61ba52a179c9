"""Traces: scaled to the window, checked, and refused with a place and a hint."""
from pathlib import Path

import pytest

from device_agents.seams import UserError
from workloads.trace_file import load_trace


def plugin(tmp_path: Path, name: str, text: str) -> list[str]:
    folder = tmp_path / "traces"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return [str(tmp_path)]


def test_share_column_stretches_to_the_window(tmp_path: Path) -> None:
    folders = plugin(tmp_path, "mine.csv", "t_x,cpu_pct\n0,10\n0.5,90\n")
    assert load_trace("mine", 8.0, 0, folders).rows == ((0.0, 10.0), (4.0, 90.0))


def test_seconds_column_is_played_as_written(tmp_path: Path) -> None:
    folders = plugin(tmp_path, "mine.csv", "# measured on a bus\nt_s,cpu_pct,mem_mb\n0,10,\n3,90,64\n")
    trace = load_trace("mine", 8.0, 0, folders)
    assert trace.rows == ((0.0, 10.0, None), (3.0, 90.0, 64.0))
    assert trace.name == "mine"


def test_a_users_generator_is_found_by_name(tmp_path: Path) -> None:
    folders = plugin(tmp_path, "wave.py", "from device_agents.wire import LoadTrace\n"
                     "def generate(duration_s, seed):\n"
                     "    return LoadTrace('x', ('t_s', 'cpu_pct'), ((0.0, float(seed)), (duration_s / 2, 1.0)))\n")
    assert load_trace("wave", 4.0, 3, folders).rows == ((0.0, 3.0), (2.0, 1.0))


def test_a_mark_of_unicode_at_the_start_is_no_part_of_the_header(tmp_path: Path) -> None:
    """Spreadsheets write one."""
    folders = plugin(tmp_path, "sheet.csv", "\ufefft_s,cpu_pct\r\n0,10\r\n")
    assert load_trace("sheet", 8.0, 0, folders).columns == ("t_s", "cpu_pct")


def test_a_generator_that_returns_something_else_is_refused(tmp_path: Path) -> None:
    folders = plugin(tmp_path, "lost.py", "def generate(duration_s, seed):\n    pass\n")
    with pytest.raises(UserError, match=r"lost\.py\): generate\(\) returned NoneType, not a LoadTrace"):
        load_trace("lost", 4.0, 3, folders)


@pytest.mark.parametrize(("text", "says"), [
    ("t_s,cpu_pc\n0,1\n", "Did you mean 'cpu_pct'"),
    ("cpu_pct,t_s\n0,1\n", "first column"),
    ("t_s,cpu_pct\n0,1\n0,2\n", "row 2"),
    ("t_s,cpu_pct\n0,120\n", "not within 0 to 100"),
    ("t_s,cpu_pct\n0,much\n", "'much' is no number"),
    ("t_s,cpu_pct\n0\n", "row 1 has 1 cells"),
    ("t_s,cpu_pct\n", "at least one row"),
    ("t_s,cpu_pct\n0,nan\n", "not finite"),
    ("t_s,cpu_pct,cpu_pct\n0,1,2\n", "twice"),
    ("t_x,cpu_pct\n0,1\n50,2\n", r"row 2: t_x = 50 is not within 0 to 1.*call the column t_s"),
    ("t_x,cpu_pct\n-0.5,1\n", r"row 1: t_x = -0\.5 is not within 0 to 1"),
])
def test_a_bad_table_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_trace("bad", 1.0, 0, plugin(tmp_path, "bad.csv", text))


def test_unknown_trace_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="bursty"):
        load_trace("brusty", 1.0, 0)


def test_a_file_without_generate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no function generate"):
        load_trace("empty", 1.0, 0, plugin(tmp_path, "empty.py", "X = 1\n"))
