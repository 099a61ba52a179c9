"""What a journal stands for that does not end with `done`: whatever a device has sent, it is an error of ours."""
import gzip
import json

import pytest

from harness.errors import AgentCrashed, AgentFailed, DeviceNotReady, DeviceUnsupported
from harness.journal_end import PIECE_B, failure


def failed(last: bytes, state: str = "failed") -> Exception:
    return failure(state, gzip.compress(b'{"kind":"start"}\n' + last), "pi: trial t1")


@pytest.mark.parametrize(("kind", "error"), [("not_ready", DeviceNotReady), ("unsupported", DeviceUnsupported),
                                             ("user", AgentFailed), ("agent", AgentFailed)])
def test_the_agents_last_words_decide_the_class(kind: str, error: type) -> None:
    found = failed(b'{"error":"%s","message":"so it is"}\n' % kind.encode())
    assert type(found) is error and str(found) == "pi: trial t1: so it is"
    assert getattr(found, "blame", None) == {"user": "user", "agent": "harness"}.get(kind, "device")


def traced(error: str, message: str, file: str) -> str:
    text = (f'Traceback (most recent call last):\n  File "/d/code/1/device_agents/loop.py", line 9, in adapt\n    x\n'
            f'  File "{file}", line 5, in decide\n    y\n  File "/usr/lib/json.py", line 3, in loads\n{error}\n')
    return str(failed(json.dumps({"error": "user", "message": message, "traceback": text}).encode() + b"\n"))


@pytest.mark.parametrize(("error", "message", "said"), [
    ("ValueError: oh no", "oh no", "ValueError: oh no"), ("mine.Odd: a\nb: c", "a\nb: c", "mine.Odd: a\nb: c"),
    ("KeyError: 'x'", "'x'", "KeyError: 'x'"), ("AssertionError", "", "AssertionError: "), ("?", "odd", "odd")])
def test_what_a_file_of_the_users_raised_is_told_with_its_class_and_line(error: str, message: str, said: str) -> None:
    found = traced(error, message, "/my \"d\"/trials/t.1/plugins/adapters/mine.py")
    assert found == f"pi: trial t1: {said} (adapters/mine.py, line 5)"


def test_what_a_file_of_ours_raised_needs_no_line() -> None:
    assert traced("UserError: no branch", "no branch", "/d/plugins/device_agents/adapters/fixed.py") == (
        "pi: trial t1: no branch")


@pytest.mark.parametrize("last", [b"[" * 200_000, b"\xff\xfe\n", b"[1]\n", b"{", b"x" * (PIECE_B + 5)],
                         ids=["deep", "no text", "no object", "cut", "long"])
def test_what_is_no_line_of_an_agents_is_a_crash(last: bytes) -> None:
    found = failed(last)
    assert isinstance(found, AgentCrashed) and "ends after 2 lines with: " in str(found)


def test_a_crash_without_a_line() -> None:
    assert str(failure("crashed", b"", "pi")).endswith("ends after 0 lines with: no line")
