"""docs/benchmarks.md is made of what the scripts print: bounds are judged right, a script that dies leaves a row."""
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import record

FIGURE = {"figure": "throughput", "value": 0.98, "target": ">= 0.97", "unit": "", "command": "python bench_loop.py"}


@pytest.mark.parametrize(("value", "target", "said"), [
    (0.98, ">= 0.97", "yes"), (0.96, ">= 0.97", "no"), (60, "<= 60", "yes"), (61, "<= 60 us", "no"), (3.0, "", ""),
    (None, "<= 1", ""), (1.0, "< 1", "no"), (0.5, "< 1 %", "yes"),
])
def test_bounds(value: float | None, target: str, said: str) -> None:
    assert record.met({**FIGURE, "value": value, "target": target}) == said


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """What comes of a script with the given code."""
    def run(code: str) -> list[dict[str, Any]]:
        path = tmp_path / "bench_made_up.py"
        path.write_text(code)
        return record.figures_of(path, tmp_path)
    return run


def test_only_a_script_that_trains_may_take_hours(tmp_path: Path) -> None:
    path = tmp_path / "bench_made_up.py"
    path.write_text("DEADLINE_S = 6 * 3600    # trains\n")
    assert record.deadline_s(path) == 6 * 3600
    path.write_text("pass\n")
    assert record.deadline_s(path) == record.DEADLINE_S


def test_what_could_not_be_measured_is_a_row_without_a_value() -> None:
    assert "|  | <= 1 |  |" in record.line_of({**FIGURE, "value": None, "target": "<= 1"})


def test_words_between_figures_are_not_figures(rows: Any) -> None:
    assert rows(f"import json\nprint('warming up')\nprint('[1, 2]')\nprint(json.dumps({FIGURE!r}))") == [FIGURE]


def test_a_script_that_dies_keeps_its_figures_and_leaves_a_row(rows: Any) -> None:
    found = rows(f"import json, sys\nprint(json.dumps({FIGURE!r}))\nsys.exit(3)")
    assert found[0] == FIGURE
    assert found[1]["failed"] == "exit code 3, 1 figures"
    assert "| no |" in record.line_of(found[1])


def test_options_reach_the_script(tmp_path: Path) -> None:
    path = tmp_path / "bench_made_up.py"
    path.write_text(f"import json, sys\nprint(json.dumps({{**{FIGURE!r}, 'note': sys.argv[1]}}))")
    assert record.figures_of(path, tmp_path, ["--kept"])[0]["note"] == "--kept"


def test_a_script_that_says_nothing_failed(rows: Any) -> None:
    assert "failed" in rows("pass")[0]


def test_one_section_is_made_anew_and_the_others_stay() -> None:
    def section(name: str, line: str) -> str:
        return record.SECTION.format(name=name, date="2026-01-01", load=0.1, options="") + line

    known = ["decide", "loop"]
    both = record.with_section("", "loop", section("loop", "| a |\n"), known)
    both = record.with_section(both, "decide", section("decide", "| b |\n"), known)
    assert both.index("## decide") < both.index("## loop")
    again = record.with_section(both, "loop", section("loop", "| c |\n"), known)
    assert "| c |" in again and "| a |" not in again and "| b |" in again
    assert record.with_section(again, "loop", section("loop", "| c |\n"), known) == again
    assert "## decide" not in record.with_section(again, "loop", section("loop", "| c |\n"), ["loop"])


def test_rows_that_an_option_left_out_stay() -> None:
    def row(name: str, value: float) -> str:
        return record.line_of({**FIGURE, "figure": name, "value": value, "note": f"seen {value}"})

    before = record.with_section("", "loop", "\n## loop\n\nRecorded.\n\n| figure | value |\n|---|---|\n"
                                 + row("a", 1.0) + row("b", 2.0) + "| x.py | failed: exit code 1 | | no | |\n",
                                 ["loop"])
    assert record.rows_beside(before, "loop", [row("b", 3.0)]) == [row("a", 1.0)]
    assert record.rows_beside(before, "other", [row("b", 3.0)]) == []


@pytest.mark.parametrize("typed", [["accuracy", "--only", "har"], ["nosuch"]])
def test_an_option_without_the_dashes_before_it_starts_nothing(typed: list[str]) -> None:
    before = record.DOCUMENT.read_bytes()
    done = subprocess.run([sys.executable, record.__file__, *typed], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 2
    assert typed[-2 % len(typed)] in done.stderr and "follow --" in done.stderr
    assert record.DOCUMENT.read_bytes() == before
