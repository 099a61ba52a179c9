"""The table model and its writers: rounding for people, exact numbers for machines, hostile names harmless."""
import csv
import io
import json
import re

import pytest

from reports.stats import Estimate
from reports.table import Cell, Column, Missing, Table, interval_shown, plain, shown
from reports.table_files import to_csv, to_json, to_latex, to_markdown, to_text

HOSTILE = 'a|b & 50% $x^2_3 #1 {y} \\cmd ~ "q" <script>alert(1)</script>\r\n![x](http://e.vil) \u202egnp.exe 日本'
COLUMNS = (Column("device", "device", numeric=False), Column("method", "method", numeric=False),
           Column("latency_ms", "latency", "ms"), Column("runs", "runs", "", 0), Column("extra", "extra", detail=3))


def table(*rows: tuple[Cell, ...], title: str = "Latency") -> Table:
    return Table(title, COLUMNS, rows, ("A note with 5 %.",), ("measured",), ("device",))


@pytest.mark.parametrize(("value", "decimals", "text"), [
    (0.90312, None, "0.903"), (12.345, None, "12.3"), (1234.5, None, "1,234"), (0.0, None, "0.00"), (-0.0001, 1, "0.0"),
    (98.46, 1, "98.5"), (1e-9, None, "0.000000"), (4100000, None, "4,100,000"), (-3.21, None, "-3.21"),
])
def test_numbers_are_rounded_for_people(value: float, decimals: int | None, text: str) -> None:
    assert shown(value, decimals) == text


def test_an_interval_has_the_decimals_of_its_value_and_vanishes_where_it_says_nothing() -> None:
    assert interval_shown(Estimate(4.0213, 3.98765, 10.1, 5, "t"), None) == "3.99–10.10"
    assert interval_shown(Estimate(4.0, None, None, 2, "t", "n too small"), None) == ""
    assert interval_shown(Estimate(0.0, 0.0, 0.0, 5, "t"), 1) == ""
    assert plain(Estimate(4.0213, 3.98765, 4.1, 5, "t"), 1) == "4.0 [4.0–4.1]"


def test_a_cell_says_something_or_is_refused() -> None:
    with pytest.raises(ValueError, match="Missing"):
        table(("board", "m", float("nan"), 3, 1))
    with pytest.raises(ValueError, match="4 cells"):
        table(("board", "m", 1.0, 3))


def test_csv_is_exact_quoted_and_keeps_reasons() -> None:
    text = to_csv(table((HOSTILE, "m", Estimate(1 / 3, 0.1 + 0.2, 0.4, 5, "t"), 5, Missing("no meter")),
                        ("board", "m", Missing("crashed"), 0, 7)))
    assert text.endswith("\r\n")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == ["device", "method", "latency_ms", "latency_ms_low", "latency_ms_high", "latency_ms_n", "runs",
                       "extra", "missing"]
    assert rows[1][0] == HOSTILE
    assert float(rows[1][2]) == 1 / 3
    assert float(rows[1][3]) == 0.1 + 0.2
    assert rows[1][-1] == "extra: no meter"
    assert rows[2][2:6] == ["", "", "", ""]
    assert {len(row) for row in rows} == {9}


def test_markdown_stays_one_table_whatever_a_name_holds() -> None:
    text = to_markdown(table((HOSTILE, "m", 1.23456, 5, Missing("why | not"))))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [6, 6, 6]
    assert "1.23" in lines[2] and "1.23456" not in lines[2]
    assert re.search(r"(?<!\\)<script|(?<!\\)!\[", text) is None
    assert "\u202e" not in text
    assert "- <sup>1</sup> why \\| not" in text


def test_latex_is_escaped_and_balanced() -> None:
    row = (HOSTILE, "a_b--c", Estimate(4.0, 3.0, 5.0, 5, "t"), 5, 1)
    text = to_latex(table(row, title="50 % of $x & y"), "over_all")
    body = text[text.index(r"\toprule"):text.index(r"\bottomrule")]
    assert r"\caption{50 \% of \$x \& y}" in text
    assert r"\label{tab:over-all}" in text
    assert r"a\_b{-}{-}c" in text
    assert r"\textbackslash{}cmd \textasciitilde{}" in text
    assert "U+65E5U+672C" in text
    bracket = to_latex(table(("board", "[1cm] *", 1.0, 5, 1)), "x")
    assert r"{[}1cm{]} {*} & 1.00" in bracket   # else an option of the line break
    for special in ("#", "%", "$", "_"):
        assert re.search(rf"(?<!\\){re.escape(special)}", body) is None, special
    assert "^2" not in body
    plain_braces = re.sub(r"\\[{}]", "", text)
    assert plain_braces.count("{") == plain_braces.count("}")
    columns = re.search(r"@\{\}([lr]+)@\{\}", text)
    assert columns is not None
    assert columns.group(1) == "lrr"
    for line in body.splitlines()[1:]:
        if line not in (r"\toprule", r"\midrule") and not line.startswith(r"\multicolumn"):
            assert len(re.findall(r"(?<!\\)&", line)) == 2, line
    assert r"{\tiny 3.00--5.00}" in text


def test_text_fits_the_terminal_and_says_what_it_left_out() -> None:
    one = table(("board", "adascale", 4.0, 5, 1.0), ("日本", "fixed", 12.5, 3, Missing("no meter")))
    wide, narrow = to_text(one), to_text(one, width=24)
    assert "–: no meter" in wide and "extra" in wide and "no meter" not in narrow
    assert "Left out at this width: extra." in narrow
    lines = narrow.splitlines()
    assert lines[2].split() == ["method", "latency", "runs"]
    assert {len(line) for line in lines if line.startswith(("method", "adascale", "fixed", "──"))} == {23}
    assert "board" in lines and "日本" in lines


def test_json_holds_values_intervals_and_reasons() -> None:
    row = ("board", "m", Estimate(1 / 3, 0.3, 0.4, 5, "t"), 5, Missing("no meter"))
    found = json.loads(to_json(table(row), "caption"))
    assert found["rows"] == [{"device": "board", "method": "m", "runs": 5, "extra": None,
                              "latency_ms": {"value": 1 / 3, "low": 0.3, "high": 0.4, "n": 5},
                              "missing": {"extra": "no meter"}}]
    assert found["columns"][2] == {"key": "latency_ms", "title": "latency", "unit": "ms"}


def test_an_empty_table_is_valid_in_every_format() -> None:
    empty = table()
    assert "No rows." in to_markdown(empty) and "No rows." in to_text(empty)
    assert to_csv(empty) == "device,method,latency_ms,runs,extra,missing\r\n"
    assert r"\bottomrule" in to_latex(empty, "x")
