"""What a device's answers mean: exit codes become the right error, and no journal can do harm on its way in."""
import gzip
import hashlib
import json
import random
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.agent_zip import build_agent
from harness.device import Device, Waited, held_trials, open_transport
from harness.errors import AgentCrashed, AgentFailed, DeviceNotReady, DeviceUnreachable, DeviceUnsupported
from harness.fleet import DeviceSpec
from harness.home import Home
from harness.seams import Completed

JOURNAL = b"".join(b'{"seq":%d,"kind":"x"}\n' % number for number in range(5000))


class Answering:
    """A device at the other end of a seam, which gives one answer to everything."""

    agent_home, python = "/agent", "python3"

    def __init__(self, answer: Completed) -> None:
        self.answer = answer

    def run(self, argv: Sequence[str], deadline_s: float, stdin: bytes = b"") -> Completed:
        return self.answer

    def push(self, files: Sequence[tuple[Path, str]], deadline_s: float) -> None:
        """It takes everything."""

    def pull(self, source: str, destination: Path, deadline_s: float) -> None:
        raise AssertionError("nothing is pulled")

    def close(self) -> None:
        """Nothing is open."""


def device(tmp_path: Path, rc: int = 0, stdout: bytes = b"", stderr: bytes = b"") -> Device:
    return Device(DeviceSpec(name="pi"), Answering(Completed(rc, stdout, stderr)), build_agent(tmp_path), tmp_path)


def wait(tmp_path: Path, journal_gz: bytes, **told: Any) -> Waited:
    head = {"state": "done", "bytes": len(JOURNAL), "sha256": hashlib.sha256(JOURNAL).hexdigest(), **told}
    return device(tmp_path, stdout=json.dumps(head).encode() + b"\n" + journal_gz).wait("t", 1, 5.0)


def test_a_whole_journal_comes_as_it_was_sent(tmp_path: Path) -> None:
    packed = gzip.compress(JOURNAL, 1)
    assert wait(tmp_path, packed) == ("done", packed)


def test_a_damaged_journal_is_the_link_s_fault_and_is_fetched_again(tmp_path: Path) -> None:
    """Whichever bit it is: in deflate's data zlib complains, elsewhere gzip does, or nobody but the hash."""
    packed, rng = gzip.compress(JOURNAL, 1), random.Random(1)
    for _ in range(100):
        torn = bytearray(packed)
        torn[rng.randrange(10, len(torn))] ^= 1 << rng.randrange(8)
        with pytest.raises(DeviceUnreachable, match="damaged; it is still on the device"):
            wait(tmp_path, bytes(torn))


@pytest.mark.parametrize("told_b", [5, None, "many", -1])
def test_a_journal_that_unpacks_to_more_than_was_told_fills_no_memory(tmp_path: Path, told_b: Any) -> None:
    bomb = gzip.compress(bytes(64 << 20), 1)
    tracemalloc.start()
    try:
        with pytest.raises(DeviceUnreachable, match="damaged"):
            wait(tmp_path, bomb, bytes=told_b)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_bytes_that_nobody_told_of_are_no_journal(tmp_path: Path) -> None:
    assert wait(tmp_path, b"garbage", state="crashed", sha256=None) == ("crashed", b"")


@pytest.mark.parametrize(("rc", "error", "blame"), [
    (1, AgentFailed, "harness"), (2, AgentFailed, "harness"), (3, DeviceUnsupported, "device"),
    (4, DeviceNotReady, "device"), (5, AgentCrashed, "device"), (137, AgentCrashed, "device"),
    (-9, AgentCrashed, "device"),
])
def test_an_exit_code_says_whose_fault_it_is(tmp_path: Path, rc: int, error: type[Exception], blame: str) -> None:
    with pytest.raises(error, match="pi: stop: its words") as caught:
        device(tmp_path, rc, stderr=b"some\nits words\n").stop("t", 1)
    assert caught.value.blame == blame              # type: ignore[attr-defined]
    assert ("is its memory enough?" in str(caught.value)) == (rc in (137, -9))


def test_what_is_here_already_is_not_held(tmp_path: Path) -> None:
    facts = {"trials": [{"id": "t", "attempt": number, "state": "done"} for number in (1, 2, 3)]}
    assert held_trials(facts, {("t", 3)}) == {"t": (2, "done")}
    assert held_trials(facts, {("t", 1), ("t", 2), ("t", 3)}) == {}


def test_a_device_s_onnxruntime_tells_its_maker_nothing_unless_asked_to(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    for env, said in (({}, b"1\n"), ({"ORT_DISABLE_TELEMETRY": "0"}, b"0\n")):
        transport = open_transport(DeviceSpec(name="here", env=env), Home(tmp_path))
        assert transport.run(["printenv", "ORT_DISABLE_TELEMETRY"], 20.0).stdout == said
