"""A worse link than there is, made in user space: rate, delay, jitter and loss of whole frames, seeded.

Used by peer.py, on the device's side, for both ways of the link to one peer. Asked for by Trial.link ({rate_mbps,
delay_ms, jitter_ms, loss_pct}); the trace's net_mbps, net_rtt_ms and net_loss_pct override it from their time on. The
n-th frame of a lane (work or probe, each way) has the same fate in every run of a seed, whatever else happens. What it
delays is real time of a real run, so what is measured through it is `emulated`. A lost frame is not sent again: the
link is one of datagrams, and what lies below (TCP, here over the loopback) neither loses nor shows it.
"""
import random
import threading
from typing import Any, Callable, Dict, Optional, Tuple

KEYS = ("rate_mbps", "delay_ms", "jitter_ms", "loss_pct")
UP, DOWN = "up", "down"
_QUEUE_S = 0.5                                  # of frames that wait to be sent; what comes on top of it is dropped
_COLUMNS = {"rate_mbps": "net_mbps", "delay_ms": "net_rtt_ms", "loss_pct": "net_loss_pct"}


class Shaper:
    """`scripted(column)` = value of a trace's column now, None outside the window. Safe for several threads."""

    def __init__(self, link: Dict[str, Any], seed: int, peer: str, scripted: Callable[[str], Optional[float]]) -> None:
        self._link, self._seed, self._peer, self._scripted = dict(link), seed, peer, scripted
        self._lanes: Dict[Tuple[str, str], random.Random] = {}
        self._free_s = {UP: 0.0, DOWN: 0.0}     # when the link has sent what it was given
        self._lock = threading.Lock()

    def asked(self) -> Dict[str, Optional[float]]:
        """What is in force now, by key; None: nothing was asked for, the link is as it is."""
        found: Dict[str, Optional[float]] = {}
        for key in KEYS:
            scripted = self._scripted(_COLUMNS[key]) if key in _COLUMNS else None
            found[key] = self._link.get(key) if scripted is None else scripted
        return found

    def arrival_s(self, lane: str, way: str, size_b: int, now_s: float) -> Optional[float]:
        """When a frame of `size_b` bytes that is sent at `now_s` arrives; None when it is lost.

        It waits for the frames before it, takes size / rate to be sent, then half of delay and drawn jitter to travel.
        """
        asked = self.asked()
        with self._lock:
            rng = self._lanes.get((lane, way))
            if rng is None:
                rng = self._lanes[lane, way] = random.Random("%s link %s %s %s" % (self._seed, self._peer, lane, way))
            jitter, fate = rng.random(), rng.random()
            sent_s = max(now_s, self._free_s[way])
            if sent_s > now_s + _QUEUE_S:
                return None
            if asked["rate_mbps"]:
                sent_s += size_b * 8e-6 / asked["rate_mbps"]
            self._free_s[way] = sent_s
        if fate * 100.0 < (asked["loss_pct"] or 0.0):
            return None
        return sent_s + ((asked["delay_ms"] or 0.0) + jitter * (asked["jitter_ms"] or 0.0)) / 2e3
