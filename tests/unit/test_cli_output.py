"""Tables on a terminal: what one copies stays whole, and a narrow one loses no word."""
import io
import re
from typing import Any

import pytest

from harness.cli._output import table

ID = "016b99921050b76a"
COLUMNS = ("id", "device", "task", "model", "method", "trace", "repeat>", "seconds>", "state")
ROWS = [(f"{ID[:-1]}{index}", "emulated-a", "digits", "resnet_digits", method, "bursty", 0, 2.3, None)
        for index, method in enumerate(("fixed-full", "fixed-smallest"))]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, width: int, rows: list[Any] = ROWS) -> str:
    stream = Terminal()
    for name, value in (("COLUMNS", str(width)), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", stream)
    table(COLUMNS, rows)
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())


@pytest.mark.parametrize("width", [40, 80])
def test_in_a_narrow_terminal_what_all_rows_share_is_said_once(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    text = printed(monkeypatch, width)
    shared, rows = text.split("\n id ")
    assert " ".join(shared.split()) == (
        "in every row: device emulated-a, task digits, model resnet_digits, trace bursty, repeat 0, seconds 2.3, "
        "state -")
    assert "resnet_digits" not in rows
    assert f" {ID[:-1]}0   fixed-full " in rows and f" {ID[:-1]}1   fixed-smallest " in rows


def test_where_rows_differ_in_everything_what_is_copied_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ("f" * 16, "some-other-device", "cifar10", "resnet20_of_mine", "autoscale+branches", "battery_drain", 1,
             60.0, "done")
    text = printed(monkeypatch, 80, [*ROWS, other])
    assert f" {ROWS[0][0]} " in text and f" {other[0]} " in text and " 60.0 " in text
    assert "in every row" not in text


def test_in_a_wide_terminal_every_column_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, 120)
    assert "in every row" not in text and text.count("resnet_digits") == 2
