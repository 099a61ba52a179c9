"""The help: verbs in workflow order, each with examples; found by listing the folder."""
import re
from pathlib import Path

import pytest

import harness.cli
from harness.cli import build_app
from harness.cli._exit import guarded

VERBS = sorted(path.stem for path in Path(harness.cli.__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert guarded(build_app(), [*words, "--help"]) == 0
    return capsys.readouterr().out


def listed(text: str) -> list[str]:
    """The verbs under "Commands:", in order."""
    return re.findall(r"^  ([a-z]+) {2,}\S", text.partition("Commands:")[2], re.MULTILINE)


def test_verbs_come_in_workflow_order(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = listed(help_of(capsys))
    assert sorted(verbs) == VERBS
    workflow = ["doctor", "build", "plan", "run", "status", "show", "report"]
    assert [verb for verb in verbs if verb in workflow] == workflow


def test_the_summary_of_a_verb_fits_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "..." not in help_of(capsys).partition("Commands:")[2]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_answers_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A group of verbs, such as `lab`, has them under each of its own."""
    text = help_of(capsys, verb)
    below = [f"{verb} {name}" for name in listed(text)] or [verb]
    for words in below:
        assert re.search(rf"Examples:\n +(sudo )?edgefleet {words}\b", help_of(capsys, *words.split())), words


def test_no_words_at_all_give_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(build_app(), []) == 2
    assert "Usage: edgefleet" in "".join(capsys.readouterr())


def test_the_page_names_every_verb_that_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = set()
    for verb in VERBS:
        below = [f"{verb} {name}" for name in listed(help_of(capsys, verb))] or [verb]
        found |= {words for words in below if "--json" in help_of(capsys, *words.split())}
    page = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    sentence = page.partition("with examples;")[2].partition("print one JSON document")[0]
    assert set(re.findall(r"`([a-z ]+)`", sentence)) == found
