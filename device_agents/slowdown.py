"""An emulated device: a real engine that is made slower by spinning to a stated factor of the time that it took.

Wrapped around the engine by trial_process.py and the profiler when Trial.slowdown > 1; its times are `emulated`.
Loads are slowed too; unloads, the load generator and the sampler are not. It refuses factors below 1.
"""
from typing import Any, Dict, Optional

from device_agents.seams import Clock, Engine, UserError
from device_agents.wire import BranchBundle


class SlowedEngine(Engine):
    """`engine`, `factor` times slower. Spinning, not sleeping: a slow processor is busy for as long as it takes."""

    def __init__(self, engine: Engine, factor: float, clock: Clock) -> None:
        if not factor >= 1.0:
            raise UserError("slowdown must be at least 1, is %r" % (factor,))
        self._engine, self._factor, self._now_ns = engine, factor, clock.now_ns
        self.per_call = engine.per_call

    def open(self, bundle: BranchBundle, store: str, settings: Dict[str, Any]) -> None:
        self._engine.open(bundle, store, settings)

    def load(self, branch: str, knobs: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        begun_ns = self._now_ns()
        parts = self._engine.load(branch, knobs)
        self._spin(begun_ns)
        return parts and {name: value * self._factor if name.endswith("_ms") else value
                          for name, value in parts.items()}

    def infer(self, branch: str, sample: int) -> Any:
        begun_ns = self._now_ns()
        label = self._engine.infer(branch, sample)
        self._spin(begun_ns)
        return label

    def answer(self, branch: str, data: bytes) -> Any:
        begun_ns = self._now_ns()
        label = self._engine.answer(branch, data)
        self._spin(begun_ns)
        return label

    def adjust(self, knobs: Dict[str, Any]) -> None:
        self._engine.adjust(knobs)

    def unload(self, branch: str) -> None:
        self._engine.unload(branch)

    def close(self) -> None:
        self._engine.close()

    def _spin(self, begun_ns: int) -> None:
        now_ns = self._now_ns
        until_ns = begun_ns + (now_ns() - begun_ns) * self._factor
        while now_ns() < until_ns:
            pass


def slowed(engine: Engine, name: str, factor: float, clock: Clock) -> Engine:
    """`engine` as this device runs it. Replayed costs are the device's own already and are left alone."""
    if factor == 1.0 or name == "replay":
        return engine
    if engine.local is not None:                # what a peer does, and the way to it, is not this device's work
        engine.local = SlowedEngine(engine.local, factor, clock)
        return engine
    return SlowedEngine(engine, factor, clock)
