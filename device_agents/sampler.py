"""The sampler: one thread that reads every sensor and energy source at a fixed period and journals what it read.

Started by the loop before preflight, stopped after the window; the loop takes the newest values with `latest()`, a
plain attribute, without a lock. Its own cost is in every `sample` line (`cost_us`) and in `sampler_cpu_pct()`. A late
tick is journalled and never made up for. A sensor that raises, or returns what is no reading, is switched off with a
note; whatever else ends this thread is raised by the loop's own next line. It refuses to decide anything.
"""
import threading
import time
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from device_agents import registry
from device_agents.seams import Clock, EnergySource, Sensor
from device_agents.sysfs import is_synthetic
from device_agents.wire import PROVENANCES, Context, Measurement

#: What the loop gets: the sensed fields of a Context; the others are the loop's own knowledge.
_SENSED = frozenset(Context._fields) - {
    "t_ns", "queue_len", "queue_ms", "latency_ms", "deadline_ms", "accuracy_floor"}
_FLAGS = ("throttled", "charging")
#: Which source's total is `power_w` when several are there: the widest boundary that is measured.
_BY_SCOPE = ("wall", "board", "soc", "rail", "battery", "modelled")
_TOTALS = ("power_w", "energy_j")
_SILENT = 2                                     # readings without anything, running, after which a power is not known

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
    `believed` = metric -> the sensor that the journal's first line gives as its source: another one is noted.
    `load_at(t_ns)` = values that the trace scripts now, by Context field, or None; they override what is sensed.
    """

    def __init__(self, root: str, sample_hz: float, clock: Clock, journal: Any, sensors: Dict[str, Sensor],
                 energy_sources: Dict[str, EnergySource], own_pids: Callable[[], Tuple[List[int], List[int]]],
                 load_at: Optional[Callable[[int], Dict[str, Optional[float]]]] = None,
                 believed: Optional[Dict[str, str]] = None) -> None:
        self._root, self._clock, self._journal, self._load_at = root, clock, journal, load_at
        self._period_ns = int(1e9 / sample_hz)
        self._sensors = dict(sensors)
        self._energy = dict(sorted(energy_sources.items(), key=lambda item: _rank(item[1])))
        for sensor in sensors.values():
            if hasattr(sensor, "own_pids"):
                sensor.own_pids = own_pids
        self._readings: Dict[str, Dict[str, Optional[float]]] = {}      # last one of each sensor
        self._owners: Dict[str, str] = {}                               # metric -> the sensor that is believed now
        self._owned = dict(believed or {})                              # metric -> the one that was believed last
        self._powers_w: Dict[str, Optional[float]] = {}                 # last total of each energy source
        self._last_j: Dict[str, Tuple[int, float]] = {}
        self._silent: Dict[str, int] = {}                               # readings without anything, of energy sources
        self._due_ns: Dict[Tuple[str, str], int] = {}                   # by kind and name: a name may be of both kinds
        self._said: Dict[Tuple[str, ...], str] = {}
        self._known: Dict[str, bool] = {}                               # metrics that have had a value
        self._latest: Dict[str, Any] = {}
        self._stopping = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._cpu_s, self._wall_ns, self._begun_ns = 0.0, 0, 0

    def start(self) -> None:
        """Takes the first reading here and now, so that there is one, then goes on in a thread."""
        self._begun_ns = self._clock.now_ns()
        self._tick(self._begun_ns, _thread_s())
        self._thread = threading.Thread(target=self._journal.watch, args=(self._run,), name="sampler", daemon=True)
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
            if late_ns >= self._period_ns:
                self._journal.write("note", text="sampler late %d ms" % (late_ns // 1000000))
                due_ns += late_ns // self._period_ns * self._period_ns
            self._tick(now_ns, last_s)
            self._journal.flush()
            last_s = self._cpu_s = _thread_s()
            self._wall_ns = self._clock.now_ns() - self._begun_ns
            due_ns += self._period_ns

    def _tick(self, now_ns: int, since_s: float) -> None:
        """One round. `since_s` = this thread's CPU time when the last round ended, so that no cost is left out."""
        values = self._read_sensors(now_ns)
        marked = self._read_energy(now_ns, values)
        latest = self._merged()
        for metric, value in (self._load_at(now_ns) if self._load_at is not None else {}).items():
            if value is not None and metric in _SENSED:
                latest[metric] = values[metric] = value
                marked.setdefault("emulated", []).append(metric)
        self._latest = latest                   # one attribute, replaced whole: readers need no lock
        for metric in [metric for metric, value in values.items() if value is not None]:
            self._known[metric] = True
        kept = {metric: value if value is None else round(value, 6)
                for metric, value in values.items() if metric in self._known}
        self._journal.write("sample", values=kept, cost_us=round((_thread_s() - since_s) * 1e6), **marked)

    def _read_sensors(self, now_ns: int) -> Dict[str, Optional[float]]:
        """What the sensors that are due say of what they are believed in; of throttling, what is known now."""
        read = []
        for name, sensor in list(self._sensors.items()):
            reading = self._ask("sensor", name, sensor, now_ns, reading_of, self._root)
            if reading is not None:
                self._readings[name] = reading
                read.append(name)
                self._tell(("sensor", name), sensor.reason, "%s: %s" % (name, sensor.reason or "reads again"))
        self._believe()
        values: Dict[str, Optional[float]] = {}
        for name in read:
            for metric in self._readings[name]:
                owner = self._owners.get(metric, name)
                if owner == name or metric == "throttled":
                    values[metric] = self._readings[owner][metric]
        return values

    def _believe(self) -> None:
        """Of each metric the first sensor with a value, of throttling any that sees it; notes when it is another."""
        owners: Dict[str, str] = {}
        for name, reading in self._readings.items():
            for metric, value in reading.items():
                if value is not None and (metric not in owners or (metric == "throttled" and value)):
                    owners[metric] = name
        for metric, owner in owners.items():
            before = self._owned.setdefault(metric, owner)
            self._owned[metric] = owner
            if before != owner and metric != "throttled":
                self._tell(("owner", metric, owner), owner, "%s is now read by %s, not by %s" % (metric, owner, before))
        self._owners = owners

    def _read_energy(self, now_ns: int, values: Dict[str, Optional[float]]) -> Dict[str, List[str]]:
        """Adds what the sources that are due say to `values`; returns, by provenance, what is not of its source's own.

        What is computed from a fixture is one, whatever its measurement says.
        """
        marked: Dict[str, List[str]] = {}
        for name, source in list(self._energy.items()):
            found = self._ask("energy", name, source, now_ns, measurements_of, self._root, now_ns)
            for measurement in found or ():
                metric = name + "." + measurement.metric
                values[metric] = measurement.value
                if measurement.provenance != source.provenance != "synthetic":
                    marked.setdefault(measurement.provenance, []).append(metric)
            if found is not None:
                self._note_power(name, source, found)
        return marked

    def _ask(self, kind: str, name: str, plugin: Any, now_ns: int, checked: Callable[[Any], Any],
             *arguments: Any) -> Any:
        """A reading, None when none is due: a slow plug-in is read at the tick nearest to its own period.

        One that raises or returns something else (a user's may) is never asked again.
        """
        try:
            if now_ns < self._due_ns.get((kind, name), 0):
                return None
            self._due_ns[kind, name] = now_ns + int(plugin.period_s * 1e9) - self._period_ns // 2
            return checked(plugin.read(*arguments))
        except Exception as error:
            text = "%s %s switched off: %s: %s" % (kind, name, type(error).__name__, error)
        if kind == "sensor":
            del self._sensors[name]
            self._readings.pop(name, None)
        else:
            del self._energy[name]
        self._journal.write("note", text=text)
        return None

    def _tell(self, subject: Tuple[str, ...], text: str, line: str) -> None:
        """A note, once for each new text about a subject; '' is nothing to say as long as nothing was."""
        if self._said.get(subject, "") != text:
            self._said[subject] = text
            self._journal.write("note", text=line)

    def _note_power(self, name: str, source: EnergySource, found: List[Measurement]) -> None:
        """Keeps the source's total; journals what it is read from, and why there is none, when that changes."""
        totals = {measurement.metric: measurement.value for measurement in found}
        power_w, energy_j, last = totals.get("power_w"), totals.get("energy_j"), self._last_j.get(name)
        if "power_w" not in totals and energy_j is not None:
            t_ns = found[0].t_ns
            if last is not None and t_ns > last[0]:
                power_w = (energy_j - last[1]) / ((t_ns - last[0]) / 1e9)
            self._last_j[name] = (t_ns, energy_j)
        silent = self._silent[name] = 0 if found else self._silent.get(name, 0) + 1
        if found or silent >= _SILENT:          # an answer may come late; a power that stays away is not the last one
            self._powers_w[name] = power_w
        for total in [measurement for measurement in found if measurement.metric in _TOTALS][:1]:
            self._tell(("source", name), total.source, "%s.%s: %s" % (name, total.metric, total.source))
        reason = source.reason or ("gives no readings" if silent >= _SILENT else "")
        self._tell(("energy", name), reason, "%s: %s" % (name, reason or "gives joules again"))

    def _merged(self) -> Dict[str, Any]:
        """The Context's fields, each of the sensor that is believed."""
        merged: Dict[str, Any] = {metric: None for reading in self._readings.values() for metric in reading
                                  if metric in _SENSED}
        for metric in merged.keys() & self._owners.keys():
            value = self._readings[self._owners[metric]][metric]
            merged[metric] = bool(value) if metric in _FLAGS else value
        powers_w = [self._powers_w.get(name) for name in self._energy]      # the widest boundary first
        merged["power_w"] = next((power_w for power_w in powers_w if power_w is not None), None)
        return merged


def reading_of(answer: Any) -> Dict[str, Optional[float]]:
    """What Sensor.read returned. Raises TypeError when it is no reading."""
    if not isinstance(answer, dict):
        raise TypeError("read() returned %.200r, not a dict" % (answer,))
    for metric, value in answer.items():
        if not isinstance(metric, str) or not _is_number(value):
            raise TypeError("read() gave %.200r for %.200r, not a number or None" % (value, metric))
    return answer


def measurements_of(answer: Any) -> List[Measurement]:
    """What EnergySource.read returned. Raises TypeError when it is no list of measurements."""
    if not isinstance(answer, (list, tuple)):
        raise TypeError("read() returned %.200r, not a list" % (answer,))
    for one in answer:
        if not isinstance(one, Measurement) or not isinstance(one.metric, str) or not _is_number(one.value):
            raise TypeError("read() gave %.200r, not a Measurement with a number or None" % (one,))
        if one.provenance not in PROVENANCES or not isinstance(one.t_ns, int):
            raise TypeError("read() gave %.200r, whose time or provenance makes no sense" % (one,))
    return list(answer)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def _rank(source: EnergySource) -> int:
    return _BY_SCOPE.index(source.scope) if source.scope in _BY_SCOPE else len(_BY_SCOPE)
