"""The sampler: what it journals, what the loop gets from it, and that neither a plug-in nor the clock can stop it."""
import json
import os
import threading
import time
from pathlib import Path

import pytest

from device_agents.clock import BootClock, VirtualClock
from device_agents.journal import Journal
from device_agents.registry import BadPlugin
from device_agents.sampler import Sampler, open_energy, open_sensors
from device_agents.seams import Clock, EnergySource, Sensor
from device_agents.wire import Context, Measurement


class Scripted(Sensor):
    """Gives one reading after the other, the last one for ever; raises those that are exceptions."""

    def __init__(self, *readings: object, period_s: float = 0.0) -> None:
        self.readings, self.period_s, self.asked = list(readings), period_s, 0

    def read(self, root: str) -> dict:
        reading = self.readings[min(self.asked, len(self.readings) - 1)]
        self.asked += 1
        if isinstance(reading, Exception):
            raise reading
        return reading


class Meter(EnergySource):
    """One total at each reading, in `metric`."""

    def __init__(self, metric: str, values: list, scope: str, reasons: list = ()) -> None:
        self.metric, self.values, self.scope, self.reasons, self.asked = metric, values, scope, reasons, 0

    def read(self, root: str, t_ns: int) -> list:
        place = min(self.asked, len(self.values) - 1)
        self.asked += 1
        self.reason = self.reasons[place] if self.reasons else ""
        return [Measurement(t_ns, self.metric, self.values[place], "", "meter", "synthetic")]


class SteppingClock(Clock):
    """Time jumps by one stated step at each look: what a sampler sees that is kept from its core."""

    def __init__(self, steps_ns: list) -> None:
        self.now, self.steps_ns = 0, list(steps_ns)

    def now_ns(self) -> int:
        self.now += self.steps_ns.pop(0) if self.steps_ns else 1000000
        return self.now

    def sleep_until(self, t_ns: int) -> None:
        raise AssertionError("the sampler must be able to stop at once, so it never sleeps on the clock")


def lines(journal: Journal) -> list:
    journal.flush()
    return [json.loads(line) for line in Path(journal.path).read_text().splitlines()]


def sampler(tmp_path: Path, sensors: dict, energy: dict, clock: Clock, load_at: object = None,
            hz: float = 50.0) -> tuple:
    journal = Journal(str(tmp_path / "trial.jsonl"), clock)
    return Sampler("", hz, clock, journal, sensors, energy, lambda: ([os.getpid()], []), load_at), journal


def wait_for(condition: object) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("did not happen in 10 s")


def test_first_reading_is_there_when_start_returns_and_ticks_follow(tmp_path: Path) -> None:
    sensor = Scripted({"temp_c": 41.0, "odd_metric_mb": 3.0, "freq_mhz": None})
    sensing, journal = sampler(tmp_path, {"x": sensor}, {}, BootClock())
    assert sensing.latest() == {}
    sensing.start()
    assert sensing.latest()["temp_c"] == 41.0
    wait_for(lambda: sensor.asked >= 4)
    sensing.stop()
    asked = sensor.asked
    samples = [line for line in lines(journal) if line["kind"] == "sample"]
    assert len(samples) == asked
    assert samples[0]["values"] == {"temp_c": 41.0, "odd_metric_mb": 3.0}    # freq_mhz never had a value
    assert all(line["cost_us"] >= 0 for line in samples)
    assert 0 < sensing.sampler_cpu_pct() < 100


def test_latest_has_context_fields_only_and_real_booleans(tmp_path: Path) -> None:
    sensor = Scripted({"throttled": 1.0, "charging": 0.0, "temp_c": 40.0, "steal_pct": 3.0, "queue_len": 9.0})
    sensing, _ = sampler(tmp_path, {"x": sensor}, {}, BootClock())
    sensing.start()
    sensing.stop()
    latest = sensing.latest()
    assert latest["throttled"] is True
    assert latest["charging"] is False
    assert set(latest) <= set(Context._fields)
    assert "queue_len" not in latest
    Context(0, **latest)


def test_readers_see_whole_dictionaries(tmp_path: Path) -> None:
    """Two metrics that always change together must never be seen apart."""
    readings = [{"temp_c": float(number), "freq_mhz": float(number)} for number in range(50)]
    sensing, _ = sampler(tmp_path, {"x": Scripted(*readings)}, {}, BootClock(), hz=500.0)
    sensing.start()
    torn, seen = [], set()
    wait_for(lambda: torn.extend(
        latest for latest in [sensing.latest()] if latest["temp_c"] != latest["freq_mhz"])
        or seen.add(sensing.latest()["temp_c"]) or 49.0 in seen)
    sensing.stop()
    assert not torn


def test_a_value_that_is_lost_is_journalled_as_none(tmp_path: Path) -> None:
    sensor = Scripted({"temp_c": 41.0}, {"temp_c": None})
    sensing, journal = sampler(tmp_path, {"x": sensor}, {}, BootClock())
    sensing.start()
    wait_for(lambda: sensor.asked >= 3)
    sensing.stop()
    samples = [line["values"] for line in lines(journal) if line["kind"] == "sample"]
    assert samples[0] == {"temp_c": 41.0}
    assert samples[1] == {"temp_c": None}
    assert sensing.latest()["temp_c"] is None


def test_slow_sensors_are_read_less_often_and_their_value_is_kept(tmp_path: Path) -> None:
    slow, fast = Scripted({"battery_pct": 50.0}, period_s=3600.0), Scripted({"temp_c": 1.0})
    sensing, journal = sampler(tmp_path, {"slow": slow, "fast": fast}, {}, BootClock())
    sensing.start()
    wait_for(lambda: fast.asked >= 4)
    sensing.stop()
    assert slow.asked == 1
    assert sensing.latest()["battery_pct"] == 50.0
    assert [("battery_pct" in line["values"]) for line in lines(journal)][:3] == [True, False, False]


def test_a_sensor_that_raises_is_switched_off_once_and_the_rest_goes_on(tmp_path: Path) -> None:
    bad, good = Scripted({"temp_c": 5.0}, ValueError("bus error")), Scripted({"freq_mhz": 1.0})
    sensing, journal = sampler(tmp_path, {"bad": bad, "good": good}, {}, BootClock())
    sensing.start()
    wait_for(lambda: good.asked >= 5)
    sensing.stop()
    assert bad.asked == 2
    notes = [line["text"] for line in lines(journal) if line["kind"] == "note" and "late" not in line["text"]]
    assert notes == ["sensor bad switched off: ValueError: bus error"]
    assert "temp_c" not in sensing.latest()


def test_either_sensor_of_throttling_is_enough(tmp_path: Path) -> None:
    sensors = {"a": Scripted({"throttled": None}), "b": Scripted({"throttled": 0.0}), "c": Scripted({"throttled": 1.0})}
    sensing, journal = sampler(tmp_path, sensors, {}, BootClock())
    sensing.start()
    sensing.stop()
    assert sensing.latest()["throttled"] is True
    assert lines(journal)[0]["values"] == {"throttled": 1.0}


def test_energy_is_journalled_by_source_and_power_is_of_the_widest_measured_boundary(tmp_path: Path) -> None:
    energy = {"modelled": Meter("power_w", [9.0], "modelled"), "rapl": Meter("energy_j", [1.0, 2.0, 3.0], "soc"),
              "rail": Meter("power_w", [4.0], "rail")}
    sensing, journal = sampler(tmp_path, {}, energy, BootClock())
    sensing.start()
    first_power_w = sensing.latest()["power_w"]
    wait_for(lambda: energy["rapl"].asked >= 3)
    sensing.stop()
    assert first_power_w == 4.0                 # a counter has no power before its second reading
    samples = [line["values"] for line in lines(journal) if line["kind"] == "sample"]
    assert samples[0] == {"modelled.power_w": 9.0, "rapl.energy_j": 1.0, "rail.power_w": 4.0}
    assert sensing.latest()["power_w"] not in (4.0, 9.0)


def test_power_of_a_counter_is_its_slope(tmp_path: Path) -> None:
    clock = VirtualClock()
    sensing, _ = sampler(tmp_path, {}, {"rapl": Meter("energy_j", [1.0, 6.0], "soc")}, clock)
    sensing._tick(clock.now_ns(), 0.0)
    clock.sleep_until(2000000000)
    sensing._tick(clock.now_ns(), 0.0)
    assert sensing.latest()["power_w"] == pytest.approx(2.5)


def test_why_there_are_no_joules_is_noted_when_it_changes(tmp_path: Path) -> None:
    meter = Meter("power_w", [None, None, 2.0], "battery", ["cable", "cable", ""])
    sensing, journal = sampler(tmp_path, {}, {"gauge": meter}, BootClock())
    sensing.start()
    wait_for(lambda: meter.asked >= 5)
    sensing.stop()
    notes = [line["text"] for line in lines(journal) if line["kind"] == "note" and "late" not in line["text"]]
    assert notes == ["gauge.power_w: meter", "gauge: cable", "gauge: gives joules again"]


def test_scripted_values_override_and_are_marked(tmp_path: Path) -> None:
    sensor = Scripted({"battery_pct": 88.0, "temp_c": 40.0})
    script = {"battery_pct": 15.0, "temp_c": None, "deadline_ms": 20.0}
    sensing, journal = sampler(tmp_path, {"x": sensor}, {}, BootClock(), load_at=lambda t_ns: script)
    sensing.start()
    sensing.stop()
    first = lines(journal)[0]
    assert first["values"] == {"battery_pct": 15.0, "temp_c": 40.0}
    assert first["emulated"] == ["battery_pct"]
    assert sensing.latest()["battery_pct"] == 15.0


def test_a_late_tick_is_noted_and_not_made_up_for(tmp_path: Path) -> None:
    second = 1000000000
    #                      begin, wait, tick: 3.2 s late, ...
    clock = SteppingClock([0, 0, 0, second])
    sensor = Scripted({"temp_c": 1.0})
    sensing, journal = sampler(tmp_path, {"x": sensor}, {}, clock, hz=4.0)
    sensing.start()
    wait_for(lambda: sensor.asked >= 3)
    sensing.stop()
    notes = [line["text"] for line in lines(journal) if line["kind"] == "note"]
    assert len(notes) >= 1
    assert notes[0].startswith("sampler late 7")        # due at 0.25 s, seen at 1 s
    samples = [line for line in lines(journal) if line["kind"] == "sample"]
    assert len(samples) == sensor.asked


def test_a_broken_journal_ends_the_thread_and_the_loop_learns_of_it(tmp_path: Path) -> None:
    sensing, journal = sampler(tmp_path, {"x": Scripted({"temp_c": 1.0})}, {}, BootClock())
    sensing.start()
    os.close(journal._file)
    wait_for(lambda: journal.failure is not None)
    wait_for(lambda: not any(thread.name == "sampler" for thread in threading.enumerate()))
    sensing.stop()
    with pytest.raises(Exception, match="cannot write"):
        journal.write("note", text="x")


def test_stop_before_start_is_harmless(tmp_path: Path) -> None:
    sensing, _ = sampler(tmp_path, {}, {}, BootClock())
    sensing.stop()
    assert sensing.sampler_cpu_pct() is None


def test_own_pids_reach_the_sensors_that_split(tmp_path: Path) -> None:
    sensors = open_sensors()
    sensing, _ = sampler(tmp_path, sensors, {}, BootClock())
    assert sensors["cpu"].own_pids() == sensors["memory"].own_pids() == ([os.getpid()], [])
    sensing.start()
    wait_for(lambda: sensing.latest().get("co_cpu_pct") is not None)
    sensing.stop()
    assert sensing.latest()["own_cpu_pct"] is not None


def test_plugins_of_the_user_are_opened_too(tmp_path: Path) -> None:
    (tmp_path / "sensors").mkdir()
    (tmp_path / "energy").mkdir()
    (tmp_path / "sensors/noise.py").write_text(
        "from device_agents.seams import Sensor\nclass Noise(Sensor):\n    metrics = ('noise_pct',)\n"
        "    def read(self, root):\n        return {'noise_pct': 4.0}\n")
    (tmp_path / "energy/wall.py").write_text(
        "from device_agents.seams import EnergySource\nclass Wall(EnergySource):\n    scope = 'wall'\n"
        "    def available(self, root):\n        return root == '/there'\n"
        "    def read(self, root, t_ns):\n        return []\n")
    assert open_sensors([str(tmp_path)])["noise"].read("") == {"noise_pct": 4.0}
    assert "wall" in open_energy("/there", None, [str(tmp_path)])
    assert "wall" not in open_energy("/nowhere", None, [str(tmp_path)])
    (tmp_path / "sensors/noise.py").write_text("x = 1\n")
    with pytest.raises(BadPlugin, match="exactly one class"):
        open_sensors([str(tmp_path)])


def test_a_device_with_nothing_to_measure_still_has_the_model(tmp_path: Path) -> None:
    assert open_energy(str(tmp_path), None) == {}
    opened = open_energy(str(tmp_path), {"idle_w": 1.0, "busy_w": 2.0, "source": "data sheet"})
    assert [(name, source.scope, source.provenance) for name, source in opened.items()] == [
        ("modelled", "modelled", "modelled")]
