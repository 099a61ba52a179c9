"""A peer on a virtual clock: what it takes, the way there and back, and what its device comes to know of the link.

Made by the engine `replay`. The link is what the trial asks of it (rate, delay, jitter, loss; seeded), through the same
shaper and the same smoothing as a real one; where nothing is asked it takes no time, for nobody knows a link that is
not there. Threads, sockets and keys have no twin, and no inference waits behind a probe. It refuses nothing.
"""
from typing import Callable, Dict, Optional

from device_agents import frames
from device_agents.peer import PROBE_S, Known
from device_agents.seams import Clock
from device_agents.shaper import DOWN, UP, Shaper


class SimulatedPeer:
    """As `device_agents.peer.Peer`, to its engine and its sensor. `shaped()` = a new shaper of the link to it."""

    def __init__(self, name: str, sample_b: int, call_s: float, shaped: Callable[[], Shaper], clock: Clock) -> None:
        # A probe is played as a whole when it is due: in the same queue it would hold up what is sent before it ends.
        self._of_probes = shaped()
        self.name, self.shaper, self.asked_count, self.unanswered_count = name, shaped(), 0, 0
        self._body_b, self._call_s, self._clock = sample_b + frames.REQUEST.size, call_s, clock
        self._known = Known()
        self._probe_s = self._now_s()           # when the next probe is due

    def ask(self, served_ms: float) -> Optional[float]:
        """An inference that takes `served_ms` over there: trip_ms without that; None: no answer by its deadline.

        Virtual time passes either way.
        """
        self.asked_count += 1
        begun_s = self._now_s()
        trip_ms = self._trip_ms(self.shaper, "work", begun_s, self._body_b, frames.REPLY.size, served_ms)
        took_s = self._call_s if trip_ms is None else (trip_ms + served_ms) / 1e3
        self._clock.sleep_until(int((begun_s + took_s) * 1e9))
        if trip_ms is None:
            self.unanswered_count += 1
        else:
            self._known.worked(trip_ms, self._body_b)
        return trip_ms

    def link(self) -> Dict[str, Optional[float]]:
        """As of the last probe that was due by now."""
        while self._probe_s <= self._now_s():
            self._probe(self._probe_s)
            self._probe_s += PROBE_S
        return self._known.read()

    def _probe(self, at_s: float) -> None:
        large_b = max(frames.LEAST_PROBE_B, self._body_b)
        small_ms = self._trip_ms(self._of_probes, "probe", at_s, 0, 0)
        if small_ms is not None:
            large_ms = self._trip_ms(self._of_probes, "probe", at_s + small_ms / 1e3, large_b, 0)
            if large_ms is not None:
                self._known.probed(small_ms, large_ms, large_b)
                return
        self._known.unanswered()

    def _trip_ms(self, shaper: Shaper, lane: str, begun_s: float, body_b: int, answer_b: int,
                 served_ms: float = 0.0) -> Optional[float]:
        there_s = shaper.arrival_s(lane, UP, body_b + frames.FRAME_B, begun_s)
        if there_s is None:
            return None
        back_s = shaper.arrival_s(lane, DOWN, answer_b + frames.FRAME_B, there_s + served_ms / 1e3)
        if back_s is None or back_s - begun_s > self._call_s:
            return None
        return (back_s - begun_s) * 1e3 - served_ms

    def _now_s(self) -> float:
        return self._clock.now_ns() / 1e9
