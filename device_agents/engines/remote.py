"""Offloading: every branch here through another engine, or at a named peer that runs `agent serve` on the same bundle.

Knob `target`: "local" (the default) or a peer's name; it may change from one inference to the next and loads nothing.
All other knobs are the local engine's. A remote inference ships one sample as it lies in the bundle and gets the class
number back. Without an answer within twice the trial's deadline (50 ms at least; 1 s without a deadline) the sample is
served here after all, which is why residency loads a branch here that is asked of a peer: the arrival is late, and the
journal says so. Peers, their addresses and what proves them come with Order.extra["remote"], what is asked of the link
with Trial.link. It refuses (UserError) targets that are no peer.
"""
import os
from typing import Any, Dict, Optional

from device_agents import registry
from device_agents.peer import Link, Peer, Unanswered, call_s, places
from device_agents.seams import Engine, Sensor, UserError
from device_agents.shaper import Shaper
from device_agents.wire import OVER, BranchBundle, Trial, link_is_shaped

LOCAL = "onnxruntime_cpu"
HERE = "local"


class Remote(Engine):
    """`local` runs what runs here, and is what a slowed device slows."""

    per_call = ("target",)

    @classmethod
    def runtime(cls) -> str:
        return "remote 1%s%s: %s" % (OVER, LOCAL, registry.load("device_agents.engines", LOCAL, Engine).runtime())

    @classmethod
    def check_knobs(cls, knobs: Dict[str, Any]) -> None:
        registry.load("device_agents.engines", LOCAL, Engine).check_knobs(knobs)

    def __init__(self) -> None:
        self.local: Engine = registry.load("device_agents.engines", LOCAL, Engine)()
        self._peers: Dict[str, Peer] = {}
        self._link = Link("link")
        self._target: Optional[Peer] = None
        self._reason = ""

    def senses(self, trial: Trial) -> Dict[str, Sensor]:
        if not trial.peers:
            return {}
        self._link.source = "%slink to %s" % ("emulated: " if link_is_shaped(trial) else "", ", ".join(trial.peers))
        return {"link": self._link}

    def open(self, bundle: BranchBundle, store: str, settings: Dict[str, Any]) -> None:
        self.local.open(bundle, store, settings)
        self._journal = settings.get("journal") or _nothing
        self._samples = os.open(os.path.join(store, bundle.samples), os.O_RDONLY | os.O_CLOEXEC)
        self._sample_b = os.fstat(self._samples).st_size // bundle.count
        for place in places(settings.get("remote") or {}):
            shaper = Shaper(settings.get("link") or {}, settings.get("seed", 0), place.name,
                            settings.get("scripted") or _nothing)
            self._peers[place.name] = Peer(place, self._sample_b, [branch.id for branch in bundle.branches],
                                           call_s(settings.get("deadline_ms")), shaper,
                                           lambda text: self._journal("note", text=text))
        self._link.peers = list(self._peers.values())
        self._link.last = self._link.peers[0] if self._link.peers else None

    def load(self, branch: str, knobs: Dict[str, Any]) -> None:
        self.local.load(branch, knobs)

    def adjust(self, knobs: Dict[str, Any]) -> None:
        name = knobs.get("target", HERE)
        if name != HERE and name not in self._peers:
            raise UserError("engine remote has no target %r; there is: %s" % (name, ", ".join([HERE, *self._peers])))
        self._target = self._peers.get(name)
        if self._target is not None:
            self._link.last = self._target

    def infer(self, branch: str, sample: int) -> Any:
        peer = self._target
        if peer is None:
            return self.local.infer(branch, sample)
        try:
            label, served_us, trip_ms = peer.ask(branch, os.pread(self._samples, self._sample_b,
                                                                  sample * self._sample_b))
        except Unanswered as error:
            return self._fall_back(peer, branch, sample, str(error))
        self._journal("remote", peer=peer.name, branch=branch, sample=sample, status="ok",
                      trip_ms=round(trip_ms, 4), served_ms=served_us / 1e3)
        return label

    def _fall_back(self, peer: Peer, branch: str, sample: int, reason: str) -> Any:
        self._journal("remote", peer=peer.name, branch=branch, sample=sample, status="fallback", trip_ms=None,
                      served_ms=None)
        text = "peer %s gave no answer, served here instead: %s" % (peer.name, reason)
        if text != self._reason:                # once, not a line for each of hundreds
            self._reason = text
            self._journal("note", text=text)
        return self.local.infer(branch, sample)

    def unload(self, branch: str) -> None:
        self.local.unload(branch)

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()
        self.local.close()


def _nothing(*_words: Any, **_fields: Any) -> None:
    """Outside a trial: no journal, no trace."""
