"""A named peer as its device sees it: asks it for inferences, and measures the link to it all the time.

Made by the engine `remote`, one object a peer. Inferences have a connection and a deadline of their own; a thread
probes over a second one twice a second, so that the link is known also while nothing is sent, and connects again
what broke. `ask` never waits longer than its deadline and raises Unanswered; whoever asked serves the sample itself.
`Place` is where a peer is and what proves it.
"""
import collections
import contextlib
import socket
import threading
import time
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

from device_agents import frames, tls
from device_agents.frames import Channel, Refused
from device_agents.journal import JournalBroken
from device_agents.seams import Sensor
from device_agents.shaper import DOWN, UP, Shaper

PROBE_S = 0.5
_CONNECT_S = 2.0
_WEIGHT = 0.5                                   # of a new round trip
_RECENT = 4                                     # frames of either size, the quickest of which counts for the rate
_SILENT = 2                                     # probes without an answer, running, after which the link is not known
_LEAST_MS_PER_B = 1e-6                          # no byte is taken to travel quicker: 8 Gbit/s
_LEAST_CALL_S, _CALL_S = 0.05, 1.0              # of call_s()
_MOST_B = 512                                   # of what a peer says

#: (class, microseconds that the peer took, round trip without them in ms)
Answer = Tuple[int, int, float]


class Unanswered(Exception):
    """The peer did not answer in time, or not at all; says why."""


class Place(NamedTuple):
    """Where a peer serves, what it is known by, and what it knows its device by."""
    name: str
    address: Tuple[str, int]
    context: Any                                # of tls.for_device
    key: bytes

    def connect(self) -> Channel:
        """A connection on which both ends have proven themselves. Raises Refused, OSError."""
        deadline_s = time.monotonic() + _CONNECT_S
        link = socket.create_connection(self.address, _CONNECT_S)
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = tls.connect(self.context, link)
            return frames.greet(link, self.key, deadline_s)
        except BaseException:
            link.close()
            raise

    def sink(self) -> socket.socket:
        """A connection whose other end throws away what comes: for traffic that is a load. Raises Refused, OSError."""
        channel = self.connect()
        try:
            deadline_s = time.monotonic() + _CONNECT_S
            channel.send(frames.SINK, b"", deadline_s)
            kind, _ = channel.receive(_MOST_B, deadline_s)
            if kind != frames.SINK:
                raise Refused("it answers %r to a request for a sink" % kind)
            return channel.bare()
        except BaseException:
            channel.close()
            raise


def places(told: Dict[str, Any]) -> List[Place]:
    """Order.extra["remote"] -> its peers, by name. Raises Unsupported, ValueError."""
    return [Place(name, (peer["host"], peer["port"]), tls.for_device(peer["certificate"]), bytes.fromhex(told["key"]))
            for name, peer in sorted(told.get("peers", {}).items())]


class Peer:
    """`branches` = ids in the bundle's order; `call_s` = deadline of a call; `note(text)` writes into the journal."""

    def __init__(self, place: Place, sample_b: int, branches: Sequence[str], call_s: float, shaper: Shaper,
                 note: Callable[[str], None]) -> None:
        self.name, self.shaper, self.asked_count, self.unanswered_count = place.name, shaper, 0, 0
        self._place, self._call_s, self._note = place, call_s, note
        self._numbers = {branch: number for number, branch in enumerate(branches)}
        self._large = b"\0" * max(frames.LEAST_PROBE_B, sample_b + frames.REQUEST.size)
        self._work: Optional[Channel] = None
        self._probe: Optional[Channel] = None
        self._known = Known()
        self._said = ""
        self._fault: Optional[Exception] = None         # what ended the thread
        self._stopping = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._run, name="peer " + place.name, daemon=True)
        self._thread.start()

    def ask(self, branch: str, data: bytes) -> Answer:
        """One inference over there. Raises Unanswered, at its deadline at the latest, and what ended the thread."""
        if self._fault is not None:
            raise self._fault
        self.asked_count += 1
        body = frames.REQUEST.pack(self.asked_count, self._numbers[branch]) + data
        channel, begun_s = self._work, time.monotonic()
        try:
            if channel is None:
                raise Unanswered(self._said or "there is no connection")
            kind, answer = self._exchange(channel, "work", frames.WORK, body, begun_s + self._call_s)
            if kind != frames.ANSWER or len(answer) != frames.REPLY.size:
                raise Unanswered("the peer says: %s" % answer.decode("utf-8", "replace"))
            _, label, served_us = frames.REPLY.unpack(answer)
        except (OSError, Refused) as error:     # a late answer would be taken for the next one's
            self._work = None
            _close(channel)
            self.unanswered_count += 1
            raise Unanswered(str(error) or type(error).__name__)
        except Unanswered:
            self.unanswered_count += 1
            raise
        trip_ms = (time.monotonic() - begun_s) * 1e3 - served_us / 1e3
        self._known.worked(trip_ms, len(body))
        return label, served_us, trip_ms

    def link(self) -> Dict[str, Optional[float]]:
        return self._known.read()

    def close(self) -> None:
        """Ends the thread and tells the peer that it is not needed any more."""
        self._stopping.set()
        self._thread.join(_CONNECT_S + 2 * self._call_s)
        if self._work is not None:
            try:
                self._work.send(frames.BYE, b"", time.monotonic() + self._call_s)
            except OSError:
                pass
        _close(self._work)
        _close(self._probe)

    def _run(self) -> None:
        while not self._stopping.wait(PROBE_S):
            try:
                self._look()
            except JournalBroken:               # the loop's next line raises the same
                return
            except Exception as error:          # nobody looks at the link any more
                self._fault = error
                self._known.forget()
                with contextlib.suppress(Exception):            # said, for the next ask(), which raises, may never come
                    self._note("peer %s: nobody looks at the link any more: %s: %s"
                               % (self.name, type(error).__name__, error))
                return

    def _look(self) -> None:
        """Connect what is not connected, then two frames for the probe: a small one, and one of a sample's size."""
        try:
            self._probe = self._probe or self._place.connect()
            if self._work is None:              # never write back what ask() has just given up
                self._work = self._place.connect()
            small_ms, large_ms = self._timed(b""), self._timed(self._large)
        except Unanswered:                      # lost on the way: the connection is sound
            self._known.unanswered()
        except (OSError, Refused) as error:
            self._known.forget()
            _close(self._probe)
            self._probe = None
            self._tell("peer %s: %s" % (self.name, error))
        else:
            self._known.probed(small_ms, large_ms, len(self._large))
            if self._said:
                self._tell("")
                self._note("peer %s answers again" % self.name)

    def _tell(self, text: str) -> None:
        """Once for each new trouble."""
        if text and text != self._said:
            self._note(text)
        self._said = text

    def _timed(self, body: bytes) -> float:
        begun_s = time.monotonic()
        assert self._probe is not None
        kind, _ = self._exchange(self._probe, "probe", frames.PING, body, begun_s + self._call_s)
        if kind != frames.PONG:
            raise Refused("it answers a ping with %r" % kind)
        return (time.monotonic() - begun_s) * 1e3

    def _exchange(self, channel: Channel, lane: str, kind: bytes, body: bytes,
                  deadline_s: float) -> Tuple[bytes, bytes]:
        """There and back, both through the shaper. Unanswered: lost, or too late, and the connection is still sound."""
        self._travel(lane, UP, len(body), deadline_s)
        channel.send(kind, body, deadline_s)
        answer = channel.receive(_MOST_B, deadline_s)
        self._travel(lane, DOWN, len(answer[1]), deadline_s)
        return answer

    def _travel(self, lane: str, way: str, body_b: int, deadline_s: float) -> None:
        now_s = time.monotonic()
        arrival_s = self.shaper.arrival_s(lane, way, body_b + frames.FRAME_B, now_s)
        if arrival_s is None or arrival_s > deadline_s:
            _sleep_until(deadline_s)
            raise Unanswered("a frame was lost" if arrival_s is None else "the link is too slow")
        if arrival_s > now_s:
            _sleep_until(arrival_s)


class Known:
    """What is known of a link, from probes and from inferences.

    The rate is what a sample's frame takes longer than a small one. That is a fraction of what jitter and a busy
    device add to either, and these only ever add: so the quickest of the recent ones are compared.
    """

    def __init__(self) -> None:
        self._rtt_ms: Optional[float] = None
        self._small_ms: Deque[float] = collections.deque(maxlen=_RECENT)
        self._large_ms: Deque[float] = collections.deque(maxlen=_RECENT)
        self._large_b = 0
        self._silent = 0

    def read(self) -> Dict[str, Optional[float]]:
        """rtt_ms of a small frame, smoothed, net_mbps that a sample travels with; None: not known now."""
        small_ms, large_ms = tuple(self._small_ms), tuple(self._large_ms)       # another thread writes them
        if not small_ms or not large_ms:
            return {"rtt_ms": self._rtt_ms, "net_mbps": None}
        ms_per_b = (min(large_ms) - min(small_ms)) / self._large_b
        return {"rtt_ms": self._rtt_ms, "net_mbps": 8e-3 / max(_LEAST_MS_PER_B, ms_per_b)}

    def probed(self, small_ms: float, large_ms: float, large_b: int) -> None:
        self._silent = 0
        self._rtt_ms = _smooth(self._rtt_ms, small_ms)
        self._large_b = large_b
        self._small_ms.append(small_ms)
        self._large_ms.append(large_ms)

    def worked(self, trip_ms: float, body_b: int) -> None:
        """An inference was there and back. It counts where its frame is as large as a probe's."""
        if body_b == self._large_b:
            self._large_ms.append(trip_ms)

    def unanswered(self) -> None:
        """A probe was lost."""
        self._silent += 1
        if self._silent >= _SILENT:
            self.forget()

    def forget(self) -> None:
        self._rtt_ms = None
        self._small_ms.clear()
        self._large_ms.clear()


class Link(Sensor):
    """The link to the peer that was used last; with it, what was asked of the shaper."""

    metrics = ("rtt_ms", "net_mbps", "asked_rtt_ms", "asked_net_mbps", "asked_loss_pct", "remote_count",
               "unanswered_count")

    def __init__(self, source: str) -> None:
        self.source = source
        self.peers: Sequence[Any] = ()          # Peer, or what stands in for it
        self.last: Any = None

    def read(self, root: str) -> Dict[str, Optional[float]]:  # noqa: ARG002
        reading: Dict[str, Optional[float]] = dict.fromkeys(self.metrics)
        if self.last is not None:
            asked = self.last.shaper.asked()
            reading.update(self.last.link(), asked_rtt_ms=asked["delay_ms"], asked_net_mbps=asked["rate_mbps"],
                           asked_loss_pct=asked["loss_pct"],
                           remote_count=sum(peer.asked_count for peer in self.peers),
                           unanswered_count=sum(peer.unanswered_count for peer in self.peers))
        return reading


def call_s(deadline_ms: Optional[float]) -> float:
    """How long an inference may be asked for before it is served here after all."""
    return _CALL_S if deadline_ms is None else max(_LEAST_CALL_S, 2e-3 * deadline_ms)


def _smooth(before: Optional[float], now: float) -> float:
    return now if before is None else before + _WEIGHT * (now - before)


def _sleep_until(at_s: float) -> None:
    left_s = at_s - time.monotonic()
    if left_s > 0:
        time.sleep(left_s)


def _close(channel: Any) -> None:
    if channel is not None:
        channel.close()
