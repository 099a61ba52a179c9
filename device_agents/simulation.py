"""One trial on a virtual clock: the agent's loop with the replay engine, scripted senses and no load player.

Called by the `simulated` transport, in the controller's process. The same order gives a journal of the same bytes:
no wall clock, no host facts, no threads. Everything that it times is `simulated`.
"""
from typing import Any, Dict, Optional, Sequence, Tuple

from device_agents import registry
from device_agents.clock import VirtualClock
from device_agents.conditions import Column
from device_agents.ending import conclude
from device_agents.engines.replay import Replay
from device_agents.journal import Journal
from device_agents.loop import Parts, run_trial
from device_agents.seams import Adapter, Clock, Sensor
from device_agents.trial_folder import TrialFolder, check_store, read_bundle, stage_plugins
from device_agents.wire import PROTOCOL, LoadTrace, Order


def simulate(home: str, name: str) -> str:
    """Run H/trials/<name>/trial.json to its end; returns "done" or the error's kind (see wire.py, `failed`).

    Raises BadOrder (not a trial, files missing from the store) and FileExistsError (it ran before).
    """
    folder = TrialFolder(home, name)
    order = folder.read_order()
    check_store(folder.store, order)
    clock = VirtualClock()
    journal = Journal(folder.journal, clock)
    return conclude(journal, lambda: _work(folder, order, journal, clock))


def _work(folder: TrialFolder, order: Order, journal: Journal, clock: VirtualClock) -> Dict[str, Any]:
    trial = order.trial
    engine = Replay()
    sensors = list(engine.senses(trial).values())
    journal.write(
        "start", protocol=PROTOCOL, trial=trial.id, attempt=order.attempt, token=order.token, agent="simulated",
        wall_ns=0, boot_id="simulated", runtime=Replay.runtime(), provenance="simulated",
        sensors=dict(dict.fromkeys(ScriptedSenses.metrics, "trace"),
                     **{metric: sensor.source for sensor in sensors for metric in sensor.metrics}),
        energy={}, fingerprint={"machine": "simulated"})
    plugin_dirs = stage_plugins(folder, order)
    adapter = registry.load("device_agents.adapters", trial.method, Adapter, plugin_dirs)()
    senses = ScriptedSenses(trial.trace, trial.sample_hz, clock, journal,
                            (order.extra.get("replay") or {}).get("mem_mb"), sensors)
    fields = run_trial(Parts(order, read_bundle(folder.store, trial.bundle), folder.store, journal, clock, engine,
                             adapter, senses, senses))
    return dict(fields, peak_rss_mb=None)


class ScriptedSenses:
    """Senses and load in one: what the trace asks for is what is there, at once and exactly.

    `total_mb` = stated memory of the device, of which the trace's balloon takes mem_mb; None: memory is not sensed.
    `sensors` = what the engine alone can know: a simulated link.
    A sampler's tick falls due with virtual time and is journalled by the next reading: same lines, same order.
    """

    metrics = ("co_cpu_pct", "mem_free_mb", "battery_pct")

    def __init__(self, trace: LoadTrace, sample_hz: float, clock: Clock, journal: Journal,
                 total_mb: Optional[float], sensors: Sequence[Sensor] = ()) -> None:
        self._cpu_pct, self._mem_mb = Column(trace, "cpu_pct"), Column(trace, "mem_mb")
        self._clock, self._journal = clock, journal
        self._tick_ns = int(1e9 / sample_hz)
        self._battery_pct, self._total_mb = Column(trace, "battery_pct"), total_mb
        self._sensors = sensors
        self._t0_ns = self._due_ns = clock.now_ns()
        self._playing = False

    def start(self, t0_ns: Optional[int] = None) -> None:
        """Without t0: the senses begin. With it: the load begins then."""
        if t0_ns is not None:
            self._t0_ns, self._playing = t0_ns, True

    def stop(self) -> None:
        self.latest()
        self._playing = False

    def latest(self) -> Dict[str, Optional[float]]:
        while self._due_ns <= self._clock.now_ns():
            t_ns, self._due_ns = self._due_ns, self._due_ns + self._tick_ns
            values, asked = self._at(t_ns)
            self._journal.write("sample", t_ns, values=values, cost_us=0.0)
            if self._playing and t_ns >= self._t0_ns:
                self._journal.write("loadgen", t_ns, span_s=self._tick_ns / 1e9, asked_cpu_pct=asked[0],
                                    achieved_cpu_pct=asked[0], asked_mem_mb=asked[1], achieved_mem_mb=asked[1])
        return self._at(self._clock.now_ns())[0]

    def sampler_cpu_pct(self) -> None:
        """A virtual sampler costs nothing that could be measured."""
        return

    def _at(self, t_ns: int) -> Tuple[Dict[str, Optional[float]], Tuple[float, float]]:
        t_s = (t_ns - self._t0_ns) / 1e9
        cpu_pct = (self._cpu_pct.at(t_s) or 0.0) if self._playing and t_s >= 0 else 0.0
        mem_mb = (self._mem_mb.at(t_s) or 0.0) if self._playing and t_s >= 0 else 0.0
        values: Dict[str, Optional[float]] = {"co_cpu_pct": cpu_pct}
        battery_pct = self._battery_pct.at(t_s) if self._playing else None
        if battery_pct is not None:
            values["battery_pct"] = battery_pct
        if self._total_mb is not None:
            values["mem_free_mb"] = max(0.0, self._total_mb - mem_mb)
        for sensor in self._sensors:
            values.update(sensor.read(""))
        return values, (cpu_pct, mem_mb)
