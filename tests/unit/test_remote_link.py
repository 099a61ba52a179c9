"""The way to a peer: frames and keys, the shaper's seeded fate, a peer that answers, hangs, dies or is a stranger."""
import contextlib
import ctypes
import os
import socket
import struct
import threading
import time
from typing import Any

import pytest

from device_agents import frames, tls
from device_agents.frames import Gone, Refused
from device_agents.journal import JournalBroken
from device_agents.peer import Peer, Place, Unanswered
from device_agents.seams import Engine
from device_agents.serve import Server
from device_agents.shaper import DOWN, UP, Shaper
from tests.agent_kit import OTHER_CERTIFICATE, PEER_CERTIFICATE, PEER_KEY, eventually

KEY, OTHER = b"k" * 32, b"x" * 32
SAMPLE_B = 16


def soon_s() -> float:
    return time.monotonic() + 5.0


def pair(ours: bytes = KEY, theirs: bytes = KEY) -> Any:
    """(device's channel, peer's channel) or what each raised."""
    left, right = socket.socketpair()
    found: dict = {}

    def peer() -> None:
        try:
            found["peer"] = frames.admit(right, theirs, soon_s())
        except (Refused, OSError) as error:
            found["peer"] = error
            right.close()

    thread = threading.Thread(target=peer)
    thread.start()
    try:
        found["device"] = frames.greet(left, ours, soon_s())
    except (Refused, OSError) as error:
        found["device"] = error
    thread.join()
    return found["device"], found["peer"], left, right


def test_frames_arrive_whole_and_in_both_directions() -> None:
    device, peer, *_ = pair()
    for size_b in (0, 1, 4096):
        device.send(frames.WORK, b"w" * size_b, soon_s())
        assert peer.receive(4096, soon_s()) == (frames.WORK, b"w" * size_b)
        peer.send(frames.ANSWER, b"a", soon_s())
        assert device.receive(10, soon_s()) == (frames.ANSWER, b"a")
    device.close()
    with pytest.raises(Gone):
        peer.receive(10, soon_s())


def test_a_wrong_key_is_refused_at_both_ends() -> None:
    device, peer, *_ = pair(OTHER, KEY)
    assert "wrong key" in str(peer) and "refused our key" in str(device)


def test_a_peer_without_the_key_is_refused_too() -> None:
    left, right = socket.socketpair()
    right.sendall(frames.MAGIC + b"n" * 16 + b"p" * 32)
    with pytest.raises(Refused, match="does not have the key"):
        frames.greet(left, KEY, soon_s())


def test_frames_that_are_too_long_forged_or_repeated_are_refused() -> None:
    device, peer, left, _ = pair()
    device.send(frames.WORK, b"w" * 100, soon_s())
    with pytest.raises(Refused, match="117 bytes, expected 67"):
        peer.receive(50, soon_s())
    device, peer, left, _ = pair()
    left.sendall(struct.pack(">I", 17) + b"t" * 16 + frames.BYE)
    with pytest.raises(Refused, match="wrong tag"):
        peer.receive(50, soon_s())
    device, peer, left, right = pair()
    device.send(frames.PING, b"", soon_s())
    seen = right.recv(100, socket.MSG_PEEK)
    assert peer.receive(50, soon_s()) == (frames.PING, b"")
    left.sendall(seen)
    with pytest.raises(Refused, match="wrong tag"):
        peer.receive(50, soon_s())


def test_nobody_waits_beyond_a_deadline() -> None:
    _, peer, left, _ = pair()
    left.sendall(b"\0\0")                       # half a length, then silence
    begun_s = time.monotonic()
    with pytest.raises(socket.timeout):
        peer.receive(50, soon_s(), frame_s=0.05)
    assert time.monotonic() - begun_s < 2.0


def fates(seed: int, count: int = 200, lanes: Any = ("work",), **link: float) -> list:
    shaper = Shaper(link, seed, "edge", lambda _column: None)
    return [shaper.arrival_s(lane, UP, 1000, 10.0 * number) for number in range(count) for lane in lanes]


def test_the_shaper_repeats_itself_by_seed_whatever_else_is_sent() -> None:
    link = {"rate_mbps": 8.0, "delay_ms": 20.0, "jitter_ms": 4.0, "loss_pct": 10.0}
    assert fates(1, **link) == fates(1, **link) != fates(2, **link)
    lost = [one is None for one in fates(1, **link)]
    assert 8 <= sum(lost) <= 35
    assert [one is None for one in fates(1, lanes=("work", "probe"), **link)][::2] == lost
    for number, at_s in enumerate(fates(1, **link)):            # 1 ms to send, 10 to 12 to travel
        assert at_s is None or 0.011 - 1e-9 <= at_s - 10.0 * number <= 0.013 + 1e-9


def test_frames_wait_for_each_other_and_a_full_queue_drops() -> None:
    shaper = Shaper({"rate_mbps": 0.8}, 1, "edge", lambda _column: None)
    arrivals = [shaper.arrival_s("work", UP, 10_000, 100.0) for _ in range(8)]      # 0.1 s each
    assert arrivals[:6] == pytest.approx([100.1, 100.2, 100.3, 100.4, 100.5, 100.6]) and arrivals[6:] == [None, None]
    assert shaper.arrival_s("work", DOWN, 10_000, 100.0) == pytest.approx(100.1)    # the other way is free


def test_the_trace_overrides_the_link() -> None:
    scripted: dict = {}
    shaper = Shaper({"rate_mbps": 8.0, "delay_ms": 2.0}, 1, "edge", scripted.get)
    assert shaper.arrival_s("work", UP, 1000, 1.0) == pytest.approx(1.002)
    scripted.update(net_mbps=0.8, net_rtt_ms=100.0, net_loss_pct=0.0)
    assert shaper.arrival_s("work", UP, 1000, 2.0) == pytest.approx(2.060)
    assert shaper.asked() == {"rate_mbps": 0.8, "delay_ms": 100.0, "jitter_ms": None, "loss_pct": 0.0}


class Counting(Engine):
    """Answers with a sample's first byte; slow or broken for some."""

    def answer(self, branch: str, data: bytes) -> int:
        if data[0] == 200:
            time.sleep(0.4)
        if data[0] == 201:
            raise ValueError("no such thing")
        return data[0] + (100 if branch == "b" else 0)


class Served:
    def __init__(self, due_s: float = 30.0, alone_s: float = 10.0) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(4)
        self.address = self.listener.getsockname()
        self.log: list = []
        self.server = Server(Counting(), ["a", "b"], SAMPLE_B, KEY, tls.for_peer(PEER_CERTIFICATE, PEER_KEY, "/tmp"),
                             self.listener, due_s, self.log.append, alone_s)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()

    def place(self, key: bytes = KEY, certificate: str = PEER_CERTIFICATE) -> Place:
        return Place("edge", self.address, tls.for_device(certificate), key)

    def is_open(self) -> bool:
        try:
            socket.create_connection(self.address, 1.0).close()
            return True
        except OSError:
            return False


@pytest.fixture
def served() -> Any:
    made = Served()
    yield made
    made.server._over.set()


def peer_of(served: Served, notes: list, call_s: float = 0.2, proof: Any = None, **link: float) -> Peer:
    return Peer(served.place(**(proof or {})), SAMPLE_B, ["a", "b"], call_s,
                Shaper(link, 1, "edge", lambda _column: None), notes.append)


def sample(first: int) -> bytes:
    return bytes([first]) + os.urandom(SAMPLE_B - 1)


def test_a_peer_answers_and_the_link_is_known(served: Served) -> None:
    notes: list = []
    peer = peer_of(served, notes)
    label, served_us, trip_ms = peer.ask("a", sample(7))
    assert label == 7 and served_us >= 0 and 0 < trip_ms < 200 and peer.ask("b", sample(7))[0] == 107
    link = peer.link()
    assert link["rtt_ms"] > 0 and link["net_mbps"] > 0
    peer.close()
    served.thread.join(5.0)
    assert not served.thread.is_alive() and not served.is_open() and notes == []


def test_a_shaped_link_is_measured_as_asked(served: Served) -> None:
    peer = peer_of(served, [], call_s=2.0, rate_mbps=0.01, delay_ms=40.0)
    _, _, trip_ms = peer.ask("a", sample(7))
    sent_b = SAMPLE_B + frames.REQUEST.size + frames.FRAME_B
    assert trip_ms >= 40.0 + sent_b * 8e-3 / 0.01
    assert peer.link()["rtt_ms"] >= 40.0 and peer.link()["net_mbps"] == pytest.approx(0.01, rel=0.5)
    peer.close()


def test_a_slow_peer_costs_its_deadline_and_no_more_and_is_asked_again(served: Served) -> None:
    peer = peer_of(served, [])
    begun_s = time.monotonic()
    with pytest.raises(Unanswered):
        peer.ask("a", sample(200))
    assert 0.15 < time.monotonic() - begun_s < 0.39
    with pytest.raises(Unanswered, match="no connection"):
        peer.ask("a", sample(7))
    assert eventually(lambda: peer._work is not None)
    assert eventually(lambda: answers(peer, 7))
    peer.close()


def answers(peer: Peer, first: int) -> bool:
    try:
        return peer.ask("a", sample(first))[0] == first
    except Unanswered:
        return False


def test_a_lost_frame_is_unanswered_and_the_connection_stays(served: Served) -> None:
    peer = peer_of(served, [], loss_pct=100.0)
    for _ in range(2):
        begun_s = time.monotonic()
        with pytest.raises(Unanswered, match="lost"):
            peer.ask("a", sample(7))
        assert 0.15 < time.monotonic() - begun_s < 1.0
    assert peer._work is not None and peer.unanswered_count == 2
    assert eventually(lambda: peer.link()["rtt_ms"] is None)
    peer.close()


def test_what_fails_over_there_is_told(served: Served) -> None:
    peer = peer_of(served, [])
    with pytest.raises(Unanswered, match="ValueError: no such thing"):
        peer.ask("a", sample(201))
    assert peer.ask("a", sample(3))[0] == 3
    peer.close()


def test_a_stranger_is_refused_and_logged_and_the_device_is_told_why(served: Served) -> None:
    notes: list = []
    peer = peer_of(served, notes, proof={"key": OTHER})
    assert notes == ["peer edge: the peer refused our key"]
    with pytest.raises(Unanswered, match="refused our key"):
        peer.ask("a", sample(7))
    assert eventually(lambda: any("a wrong key" in line for line in served.log))
    peer.close()
    assert served.is_open(), "a stranger's goodbye must not end it"


@pytest.mark.parametrize("error", [ValueError("what nobody expects"), JournalBroken("disk full")])
def test_what_ends_the_probing_thread_is_raised_unless_the_journal_does(error: Exception) -> None:
    def note(_text: str) -> None:
        raise error

    served = Served()
    peer = Peer(served.place(), SAMPLE_B, ["a", "b"], 0.2, Shaper({}, 1, "edge", lambda _column: None), note)
    assert peer.link()["rtt_ms"] > 0
    served.server._over.set()
    assert eventually(lambda: not peer._thread.is_alive())
    assert peer.link() == {"rtt_ms": None, "net_mbps": None}
    with pytest.raises(ValueError) if isinstance(error, ValueError) else contextlib.suppress(Unanswered):
        peer.ask("a", sample(7))
    peer.close()


class Strange(Place):
    """A way that can be gone twice, for the two connections of the start, and is then broken."""

    ways = 2

    def connect(self) -> Any:
        self.ways -= 1
        if self.ways < 0:
            raise ValueError("what nobody expects")
        return super().connect()


def test_what_ends_the_probing_thread_is_said_also_when_the_peer_is_asked_no_more(served: Served) -> None:
    notes: list = []
    peer = Peer(Strange(*served.place()), SAMPLE_B, ["a", "b"], 0.2, Shaper({}, 1, "edge", lambda _column: None),
                notes.append)
    served.server._over.set()
    assert eventually(lambda: not peer._thread.is_alive())
    peer.close()
    assert notes[-1] == "peer edge: nobody looks at the link any more: ValueError: what nobody expects"


def test_only_the_certificate_of_the_trial_is_believed(served: Served) -> None:
    notes: list = []
    peer = peer_of(served, notes, proof={"certificate": OTHER_CERTIFICATE})
    assert len(notes) == 1 and "does not show the certificate of this trial" in notes[0]
    with pytest.raises(Unanswered, match="certificate"):
        peer.ask("a", sample(7))
    peer.close()
    assert served.is_open()


def test_what_travels_cannot_be_read() -> None:
    """A tap between device and peer sees neither the greeting nor a frame."""
    served, tap = Served(), socket.socket()
    tap.bind(("127.0.0.1", 0))
    tap.listen(1)
    seen = bytearray()

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):      # the test has ended
            for data in iter(lambda: source.recv(65536), b""):
                seen.extend(data)
                sink.sendall(data)

    channels: list = []
    place = served.place()._replace(address=tap.getsockname())
    device = threading.Thread(target=lambda: channels.append(place.connect()), daemon=True)
    device.start()
    near, far = tap.accept()[0], socket.create_connection(served.address)
    for ends in ((near, far), (far, near)):
        threading.Thread(target=carry, args=ends, daemon=True).start()
    device.join(5.0)
    secret = b"a sample nobody!"
    channels[0].send(frames.WORK, frames.REQUEST.pack(1, 0) + secret, soon_s())
    assert channels[0].receive(50, soon_s())[0] == frames.ANSWER
    assert len(seen) > 500 and secret not in seen and frames.MAGIC not in seen
    for link in (tap, near, far):
        link.close()
    served.server._over.set()


def test_a_server_ends_at_its_due_time() -> None:
    made = Served(due_s=0.3)
    made.thread.join(5.0)
    assert not made.thread.is_alive() and not made.is_open()


def test_a_device_that_is_gone_is_not_waited_for() -> None:
    served = Served(alone_s=0.3)
    channel = served.place().connect()
    time.sleep(0.6)
    assert served.thread.is_alive()
    channel.close()
    served.thread.join(5.0)
    assert not served.thread.is_alive()


def test_a_device_that_vanishes_without_a_word_is_noticed() -> None:
    """Its kernel answers nothing any more, as without power. One connection is idle, one waits for an answer."""
    served = Served(alone_s=0.5)
    links = []
    for first in (b"", frames.PING):
        link = tls.connect(tls.for_device(PEER_CERTIFICATE), socket.create_connection(served.address, 5.0))
        channel = frames.greet(link, KEY, soon_s())
        drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))         # BPF: accept 0 bytes
        link.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, ctypes.addressof(drop_all)))    # SO_ATTACH_FILTER
        if first:
            channel.send(first, b"", soon_s())
        links.append(link)
    served.thread.join(15.0)
    assert not served.thread.is_alive() and not served.is_open()
    for link in links:
        link.close()


def test_at_most_four_connections_and_one_request_of_each_at_a_time(served: Served) -> None:
    channels = [served.place().connect() for _ in range(4)]
    with socket.create_connection(served.address) as fifth:
        fifth.settimeout(5.0)
        assert fifth.recv(1) == b"" and "4 connections are open" in served.log[0]
    body = frames.REQUEST.pack(1, 0) + sample(200)
    begun_s = time.monotonic()
    for _ in range(2):                          # the second is read when the first, of 0.4 s, is answered
        channels[0].send(frames.WORK, body, soon_s())
    channels[1].send(frames.PING, b"", soon_s())
    assert channels[1].receive(50, soon_s())[0] == frames.PONG and time.monotonic() - begun_s < 0.35
    for _ in range(2):
        assert channels[0].receive(50, soon_s())[0] == frames.ANSWER
    assert time.monotonic() - begun_s > 0.75
    for channel in channels:
        channel.close()
