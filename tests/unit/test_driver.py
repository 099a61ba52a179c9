"""What the driver makes of a result, in a real database: which state, whose journal, and what the next run does."""
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db.store import Store
from harness.collected import kept_by
from harness.driver import _Book
from harness.fleet import DeviceSpec
from harness.home import FOLDERS, Home
from harness.seams import TrialResult
from tests.fakes import sample_order, write_journal
from tests.journal_kit import TRIAL, waiting_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with waiting_store(tmp_path) as opened:
        yield opened


def book(store: Store, tmp_path: Path) -> _Book:
    for name in FOLDERS:
        (tmp_path / name).mkdir(exist_ok=True)
    return _Book(store, Home(tmp_path), [TRIAL], [DeviceSpec(name=TRIAL.device)])


def result(state: str, attempt: int = 1, **fields: Any) -> TrialResult:
    return TrialResult(TRIAL.id, TRIAL.device, attempt, state, state != "running", at_s=5.0)._replace(**fields)


def test_an_agent_that_ends_as_unsupported_is_skipped_and_its_journal_kept(store: Store, tmp_path: Path) -> None:
    """Or else the device would have to keep it, and --retry-failed would find it there for ever."""
    lines = write_journal(None, sample_order(TRIAL), ending="failed")
    lines[-1].update(error="unsupported", message="no such sensor")
    journal = gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    entering = book(store, tmp_path)
    entering.enter(result("running"))
    entering.enter(result("skipped", error="DeviceUnsupported", blame="device", message="no such sensor",
                          journal=journal))
    [trial] = store.trials()
    assert (trial["state"], trial["reason"]) == ("skipped", "no such sensor")
    [attempt] = store.read("attempt")
    assert (attempt["state"], attempt["error"]) == ("failed", "DeviceUnsupported")
    assert (tmp_path / "journals" / attempt["journal"]).read_bytes() == journal
    assert kept_by(store) == {(TRIAL.id, 1)}
    assert book(store, tmp_path).first_attempts == {TRIAL.id: 2}


def test_a_trial_that_never_began_is_skipped_without_an_attempt(store: Store, tmp_path: Path) -> None:
    book(store, tmp_path).enter(result("skipped", error="DeviceUnsupported", blame="device", message="no runtime"))
    assert store.trials()[0]["state"] == "skipped" and store.read("attempt") == []


def test_an_attempt_that_nobody_could_ask_for_is_not_said_to_be_unknown_to_the_device(
        store: Store, tmp_path: Path) -> None:
    book(store, tmp_path).enter(result("running"))          # then we died; the next run does not get through
    book(store, tmp_path).enter(result("pending", 2, error="DeviceUnreachable", blame="link", message="pi: gone"))
    assert [(row["state"], row["error"], row["blame"]) for row in store.read("attempt")] == [
        ("failed", "DeviceUnreachable", "link")] * 2
    assert store.read("attempt")[0]["message"].endswith("was not asked for this attempt: pi: gone")


def test_an_attempt_that_a_dead_controller_left_open_is_closed_though_later_ones_ended(
        store: Store, tmp_path: Path) -> None:
    entering = book(store, tmp_path)
    entering.enter(result("pending", 2, error="DeviceUnreachable", blame="link", message="gone"))
    entering.enter(result("running"))                       # the device turned out to hold attempt 1; then we died
    entering = book(store, tmp_path)
    assert entering.first_attempts == {TRIAL.id: 3}
    entering.enter(result("running", 3))
    assert [(row["number"], row["state"], row["error"]) for row in store.read("attempt")] == [
        (1, "failed", "AgentCrashed"), (2, "failed", "DeviceUnreachable"), (3, "running", None)]
