"""What a journal stands for that does not end with `done`: whatever a device has sent, it is an error of ours."""
import gzip

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


@pytest.mark.parametrize("last", [b"[" * 200_000, b"\xff\xfe\n", b"[1]\n", b"{", b"x" * (PIECE_B + 5)],
                         ids=["deep", "no text", "no object", "cut", "long"])
def test_what_is_no_line_of_an_agents_is_a_crash(last: bytes) -> None:
    found = failed(last)
    assert isinstance(found, AgentCrashed) and "ends after 2 lines with: " in str(found)


def test_a_crash_without_a_line() -> None:
    assert str(failure("crashed", b"", "pi")).endswith("ends after 0 lines with: no line")
