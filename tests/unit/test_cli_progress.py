"""Progress of long work where there is no terminal: the step, and once in a while how far, how fast, how long yet."""
import pytest

from harness.cli import build
from workloads.seams import Progress


def test_a_log_says_how_far_it_is_and_not_too_often(capsys: pytest.CaptureFixture[str],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    with build.progress("bundle") as report:
        for done in range(5):
            report(Progress("train", 1000 * done, 90_000, 410.6, 219.2, f"epoch {done}"))
            now_s += 25.0
        report(Progress("export", 1, 16, 0.0, None))
    assert capsys.readouterr().err.splitlines() == [
        "bundle: train ...", "bundle: train 3000 of 90000, 411/s, 3 min 39 s left, epoch 3", "bundle: export ..."]


def test_what_is_not_known_is_left_out() -> None:
    assert build.in_numbers(Progress("learn", 1, 4, 0.0, None)) == "learn 1 of 4"
    found = build.in_numbers(Progress("export", 2, 16, 0.512, 27.0, "exit2"))
    assert found == "export 2 of 16, 0.51/s, 27 s left, exit2"
