"""The sampler: one thread that reads every sensor and energy source at a fixed period and journals what it read.

Started by the loop before preflight, stopped after the window; the loop takes the newest values with `latest()`, a
plain attribute, without a lock. Its own cost is in every `sample` line (`cost_us`) and in `sampler_cpu_pct()`. A late
tick is journalled and never made up for. A sensor that raises is switched off with a note; a sampler that cannot write
its journal stops, and the loop learns of it from its own next line. It refuses to decide anything.
"""
import threading
import time
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from device_agents import registry
from device_agents.seams import Clock, EnergySource, Sensor
from device_agents.sysfs import is_synthetic
from device_agents.wire import Context, Measurement

#: What the loop gets: the sensed fields of a Context; the others are the loop's own knowledge.
_SENSED = frozenset(Context._fields) - {
    "t_ns", "queue_len", "queue_ms", "latency_ms", "deadline_ms", "accuracy_floor"}
_FLAGS = ("throttled", "charging")
#: Which source's total is `power_w` when several are there: the widest boundary that is measured.
_BY_SCOPE = ("wall", "board", "soc", "rail", "battery", "modelled")

_thread_s = getattr(time, "thread_time", None) or (lambda: time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID))


def open_sensors(plugin_dirs: Iterable[str] = ()) -> Dict[str, Sensor]:
    """One object of every file in sensors/. Raises registry.BadPlugin."""
    directories = list(plugin_dirs)
    return {name: registry.load("device_agents.sensors", name, Sensor, directories)()
            for name in registry.names("device_agents.sensors", directories)}


def open_energy(root: str, power_model: Optional[Dict[str, Any]],
                plugin_dirs: Iterable[str] = ()) -> Dict[str, EnergySource]:
    """One object of every file in energy/ that is available on this device. Raises registry.BadPlugin."""
    opened, directories = {}, list(plugin_dirs)
    for name in registry.names("device_agents.energy", directories):
        source = registry.load("device_agents.energy", name, EnergySource, directories)()
        if hasattr(source, "power_model"):
            source.power_model = power_model
        if source.provenance == "measured" and is_synthetic(root):
            source.provenance = "synthetic"
        if source.available(root):
            opened[name] = source
    return opened


class Sampler:
    """Reads `sensors` and `energy_sources` (by name) below `root`, `sample_hz` times a second.

    `own_pids()` = (process ids of the trial without its load players, those of the load players).
    `load_at(t_ns)` = values that the trace scripts now, by Context field, or None; they override what is sensed.
    """

    def __init__(self, root: str, sample_hz: float, clock: Clock, journal: Any, sensors: Dict[str, Sensor],
                 energy_sources: Dict[str, EnergySource], own_pids: Callable[[], Tuple[List[int], List[int]]],
                 load_at: Optional[Callable[[int], Dict[str, Optional[float]]]] = None) -> None:
        self._root, self._clock, self._journal, self._load_at = root, clock, journal, load_at
        self._period_ns = int(1e9 / sample_hz)
        self._sensors = dict(sensors)
        self._energy = dict(sorted(energy_sources.items(), key=lambda item: _rank(item[1])))
        for sensor in sensors.values():
            if hasattr(sensor, "own_pids"):
                sensor.own_pids = own_pids
        self._readings: Dict[str, Dict[str, Optional[float]]] = {}      # last one of each sensor
        self._powers_w: Dict[str, Optional[float]] = {}                 # last total of each energy source
        self._last_j: Dict[str, Tuple[int, float]] = {}
        self._due_ns: Dict[str, int] = {}
        self._reasons: Dict[str, str] = {}
        self._known: Dict[str, bool] = {}                               # metrics that have had a value
        self._latest: Dict[str, Any] = {}
        self._stopping = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._cpu_s, self._wall_ns, self._begun_ns = 0.0, 0, 0

    def start(self) -> None:
        """Takes the first reading here and now, so that there is one, then goes on in a thread."""
        self._begun_ns = self._clock.now_ns()
        self._tick(self._begun_ns, _thread_s())
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; the journal stays open. Harmless when it never started."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def latest(self) -> Dict[str, Any]:
        """Newest values by Context field; None = not measurable now. Do not change it: the next tick replaces it."""
        return self._latest

    def sampler_cpu_pct(self) -> Optional[float]:
        """CPU time of the sampling thread in % of one core, since start(); None before its first tick."""
        return 100.0 * self._cpu_s / (self._wall_ns / 1e9) if self._wall_ns else None

    def _run(self) -> None:
        due_ns, last_s = self._begun_ns + self._period_ns, 0.0
        while not self._stopping.wait(max(0.0, (due_ns - self._clock.now_ns()) / 1e9)):
            now_ns = self._clock.now_ns()
            late_ns = now_ns - due_ns
            try:
                if late_ns >= self._period_ns:
                    self._journal.write("note", text="sampler late %d ms" % (late_ns // 1000000))
                    due_ns += late_ns // self._period_ns * self._period_ns
                self._tick(now_ns, last_s)
                self._journal.flush()
            except Exception:                   # the journal is broken: the loop's next line raises the same
                return
            last_s = self._cpu_s = _thread_s()
            self._wall_ns = self._clock.now_ns() - self._begun_ns
            due_ns += self._period_ns

    def _tick(self, now_ns: int, since_s: float) -> None:
        """One round. `since_s` = this thread's CPU time when the last round ended, so that no cost is left out."""
        values: Dict[str, Optional[float]] = {}
        for name in [name for name in self._sensors if self._is_due(name, self._sensors[name].period_s, now_ns)]:
            reading = self._guarded(name, self._sensors, self._sensors[name].read, self._root)
            if reading is not None:
                self._readings[name] = reading
                _merge(values, reading)
        for name in [name for name in self._energy if self._is_due(name, self._energy[name].period_s, now_ns)]:
            found = self._guarded(name, self._energy, self._energy[name].read, self._root, now_ns)
            if found is not None:
                values.update((name + "." + measurement.metric, measurement.value) for measurement in found)
                self._note_power(name, found)
        latest, emulated = self._merged(), []
        for metric, value in (self._load_at(now_ns) if self._load_at is not None else {}).items():
            if value is not None and metric in _SENSED:
                latest[metric] = values[metric] = value
                emulated.append(metric)
        self._latest = latest                   # one attribute, replaced whole: readers need no lock
        for metric in [metric for metric, value in values.items() if value is not None]:
            self._known[metric] = True
        fields: Dict[str, Any] = {"emulated": emulated} if emulated else {}
        kept = {metric: value if value is None else round(value, 6)
                for metric, value in values.items() if metric in self._known}
        self._journal.write("sample", values=kept, cost_us=round((_thread_s() - since_s) * 1e6), **fields)

    def _is_due(self, name: str, period_s: float, now_ns: int) -> bool:
        """A slow sensor is read at the tick nearest to its own period."""
        if now_ns < self._due_ns.get(name, 0):
            return False
        self._due_ns[name] = now_ns + int(period_s * 1e9) - self._period_ns // 2
        return True

    def _guarded(self, name: str, group: Dict[str, Any], read: Callable[..., Any], *arguments: Any) -> Any:
        """What `read` returns; None when it raises (a user's plug-in may), and then it is never asked again."""
        try:
            return read(*arguments)
        except Exception as error:
            del group[name]
            self._readings.pop(name, None)
            self._powers_w.pop(name, None)
            self._journal.write("note", text="%s switched off: %s: %s" % (name, type(error).__name__, error))
            return None

    def _note_power(self, name: str, found: List[Measurement]) -> None:
        """Keeps the source's total, and journals once why there is none."""
        totals = {measurement.metric: measurement.value for measurement in found}
        power_w, energy_j, last = totals.get("power_w"), totals.get("energy_j"), self._last_j.get(name)
        if "power_w" not in totals and energy_j is not None:
            t_ns = found[0].t_ns
            if last is not None and t_ns > last[0]:
                power_w = (energy_j - last[1]) / ((t_ns - last[0]) / 1e9)
            self._last_j[name] = (t_ns, energy_j)
        if found:
            self._powers_w[name] = power_w
        reason = self._energy[name].reason
        if reason != self._reasons.get(name, ""):
            self._reasons[name] = reason
            self._journal.write("note", text="%s: %s" % (name, reason or "gives joules again"))

    def _merged(self) -> Dict[str, Any]:
        """The Context's fields out of every sensor's last reading."""
        merged: Dict[str, Any] = {}
        for reading in self._readings.values():
            _merge(merged, {metric: value for metric, value in reading.items() if metric in _SENSED})
        for metric in _FLAGS:
            if merged.get(metric) is not None:
                merged[metric] = bool(merged[metric])
        merged["power_w"] = next((power_w for power_w in self._powers_w.values() if power_w is not None), None)
        return merged


def _merge(into: Dict[str, Any], reading: Dict[str, Optional[float]]) -> None:
    """The first sensor with a value is believed; of throttling, any sensor that sees it."""
    for metric, value in reading.items():
        if into.get(metric) is None or (metric == "throttled" and value):
            into[metric] = value


def _rank(source: EnergySource) -> int:
    return _BY_SCOPE.index(source.scope) if source.scope in _BY_SCOPE else len(_BY_SCOPE)
