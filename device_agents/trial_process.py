"""The process of one trial: assembles the parts, runs the loop, ends with the journal's last line.

Called by launch.py (in the foreground, in a detached process) and by warm.py (in a fork of the warm parent). It owns
the signals: SIGTERM, SIGINT and SIGHUP end the trial with a `failed` line. Everything that goes wrong after the journal
is open becomes its last line. A trial that hangs, in whatever code, and that nobody ends, ends itself: else it would
hold its device for ever.
"""
import faulthandler
import gc
import os
import signal
import socket
import sys
import time
from typing import Any, Callable, Dict, Optional

from device_agents import identity, memory, probe, registry
from device_agents.claim import Claim
from device_agents.clock import BootClock
from device_agents.conditions import Column, scripted_battery
from device_agents.ending import Stopped, conclude
from device_agents.journal import Journal
from device_agents.load import LoadPlayer
from device_agents.loop import Parts, run_trial
from device_agents.peer import places
from device_agents.sampler import Sampler, open_energy, open_sensors
from device_agents.seams import Adapter, Clock, Engine, Unsupported
from device_agents.slowdown import slowed
from device_agents.trial_folder import TrialFolder, read_bundle, stage_plugins
from device_agents.wire import PROTOCOL, LoadTrace, Order

_EXIT = {"done": 0, "user": 2, "unsupported": 3}
ABANDONED_S = 300.0                            # beyond its window and warm-up; a controller ends it long before
SWITCH_INTERVAL_S = 0.0005                     # how long the sampler's thread may keep the loop from the interpreter


def run(folder: TrialFolder, order: Order, claim: Claim) -> int:
    """The whole trial; returns the exit code of a foreground run: 0 done, 2 user, 3 unsupported, 1 anything else."""
    claim.sign(order, identity.boot_id() or "")
    faulthandler.enable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    memory.reset_peak()
    clock = BootClock()
    journal = Journal(folder.journal, clock)
    _stop_on_signals(journal)
    # Its own thread, without Python, which also ends what hangs in an inference; stderr.log then says where.
    faulthandler.dump_traceback_later(ABANDONED_S + order.trial.warmup_s + 2 * order.trial.duration_s, exit=True)
    try:
        return _EXIT.get(conclude(journal, lambda: _work(folder, order, journal, clock)), 1)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _work(folder: TrialFolder, order: Order, journal: Journal, clock: Clock) -> Dict[str, Any]:
    trial = order.trial
    plugin_dirs = stage_plugins(folder, order)
    sensors, energy = open_sensors(plugin_dirs), open_energy("", order.power_model, plugin_dirs)
    engine_class = registry.load("device_agents.engines", trial.engine, Engine, plugin_dirs)
    engine = engine_class()
    sensors.update(engine.senses(trial))
    runtime, lacking = None, None
    try:
        runtime = engine_class.runtime()
    except Unsupported as error:
        lacking = error
    readings = probe.read_all(sensors, "")    # may wait: before the line's two clocks are read
    journal.write(
        "start", protocol=PROTOCOL, trial=trial.id, attempt=order.attempt, token=order.token,
        agent=identity.agent_sha256(), wall_ns=int(time.time() * 1e9), boot_id=identity.boot_id(), runtime=runtime,
        provenance=order.provenance, fingerprint=identity.fingerprint(),
        sensors={metric: reading.source for metric, reading in readings.items()},
        energy=probe.energy_facts(energy))
    if lacking is not None:
        raise lacking
    adapter = registry.load("device_agents.adapters", trial.method, Adapter, plugin_dirs)()
    engine = slowed(engine, trial.engine, trial.slowdown, clock)
    peers = places(order.extra.get("remote") or {})
    load = ScriptedLoad(trial.trace, identity.cores(), journal, clock, peers[0].sink if peers else None)
    sampler = Sampler("", trial.sample_hz, clock, journal, sensors, energy,
                      lambda: ([os.getpid()], load.pids()), load.scripted,
                      {metric: reading.sensor for metric, reading in readings.items()})
    getattr(gc, "freeze", int)()                # from Python 3.7 on: what exists now is never scanned again
    fields = run_trial(Parts(order, read_bundle(folder.store, trial.bundle), folder.store, journal, clock, engine,
                             adapter, sampler, load))
    return dict(fields, peak_rss_mb=memory.peak_rss_mb())


class ScriptedLoad(LoadPlayer):
    """The load player, which also tells the sampler what the trace scripts, from t0 on."""

    def __init__(self, trace: LoadTrace, cores: int, journal: Journal, clock: Clock,
                 sink: Optional[Callable[[], socket.socket]]) -> None:
        LoadPlayer.__init__(self, trace, cores, journal, clock, sink=sink)
        self._battery_pct = Column(trace, "battery_pct")
        self._window_ns: Optional[int] = None

    def start(self, t0_ns: int) -> None:
        self._window_ns = t0_ns
        LoadPlayer.start(self, t0_ns)

    def scripted(self, t_ns: int) -> Dict[str, Optional[float]]:
        """By Context field; called by the sampler's thread alone."""
        if self._window_ns is None:
            return {}
        return scripted_battery(self._battery_pct.at((t_ns - self._window_ns) / 1e9))


def _stop_on_signals(journal: Journal) -> None:
    def stop(number: int, _frame: Any) -> None:
        if journal.busy():                      # let the line be finished, then come again
            time.sleep(0.001)
            os.kill(os.getpid(), number)
            return
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise Stopped("stopped by %s" % signal.Signals(number).name)

    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, stop)
