"""Which readings the sampler believes, refuses, forgets and marks, and that nothing ends its thread in silence."""
import json
from pathlib import Path

import pytest

from device_agents import probe
from device_agents.clock import BootClock, VirtualClock
from device_agents.ending import conclude
from device_agents.journal import Journal
from device_agents.sampler import Sampler
from device_agents.seams import EnergySource
from device_agents.wire import Measurement
from tests.unit.test_sampler import Meter, Scripted, lines, sampler, wait_for


class Source(EnergySource):
    """Gives one answer after the other, the last one for ever."""

    scope = "board"

    def __init__(self, *answers: object) -> None:
        self.answers, self.asked = list(answers), 0

    def read(self, root: str, t_ns: int) -> object:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return answer


def measured(metric: str, value: object, source: str = "chip", provenance: str = "measured") -> Measurement:
    return Measurement(0, metric, value, "W", source, provenance)


def ticks(sensing: Sampler, count: int, every_ms: int = 100) -> None:
    for _ in range(count):
        sensing._tick(sensing._clock.now_ns(), 0.0)
        sensing._clock.sleep_until(sensing._clock.now_ns() + every_ms * 1000000)


def notes(journal: Journal) -> list:
    return [line["text"] for line in lines(journal) if line["kind"] == "note"]


def series(journal: Journal, metric: str) -> list:
    return [line["values"][metric] for line in lines(journal) if metric in line.get("values", ())]


# --- what is no reading -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("answer", "said"), [
    ({"temp_c": "hot"}, "TypeError: read() gave 'hot' for 'temp_c', not a number or None"),
    ({7: 1.0}, "TypeError: read() gave 1.0 for 7, not a number or None"),
    ([("temp_c", 1.0)], "TypeError: read() returned [('temp_c', 1.0)], not a dict"),
    (None, "TypeError: read() returned None, not a dict"),
])
def test_a_sensor_that_gives_no_numbers_is_switched_off_and_the_rest_goes_on(
        tmp_path: Path, answer: object, said: str) -> None:
    bad, good = Scripted({"temp_c": 5.0}, answer), Scripted({"freq_mhz": 1.0})
    sensing, journal = sampler(tmp_path, {"bad": bad, "good": good}, {}, BootClock())
    sensing.start()
    wait_for(lambda: good.asked >= 5)
    sensing.stop()
    journal.check()
    assert bad.asked == 2
    assert [text for text in notes(journal) if "late" not in text] == ["sensor bad switched off: " + said]
    assert "temp_c" not in sensing.latest()
    first = probe.read_all({"bad": Scripted(answer), "good": good}, "")     # for the journal's first line
    assert list(first) == ["freq_mhz"]


@pytest.mark.parametrize("answer", [
    None, {"power_w": 1.0}, [1.0], [("power_w", 1.0)], [measured("power_w", "much")], [measured(None, 1.0)],
    [measured("power_w", 1.0, provenance="guessed")], [measured("power_w", 1.0)._replace(t_ns=None)],
])
def test_an_energy_source_that_gives_no_measurements_is_switched_off_in_the_first_tick(
        tmp_path: Path, answer: object) -> None:
    bad, good = Source(answer), Scripted({"freq_mhz": 1.0})
    sensing, journal = sampler(tmp_path, {"good": good}, {"bad": bad}, VirtualClock(), hz=10.0)
    ticks(sensing, 2)
    [text] = notes(journal)
    assert text.startswith("energy bad switched off: TypeError: read() ")
    assert (bad.asked, good.asked, sensing.latest()["power_w"]) == (1, 2, None)


def test_a_period_that_is_no_number_is_the_plugins_fault(tmp_path: Path) -> None:
    sensing, journal = sampler(tmp_path, {"bad": Scripted({"temp_c": 1.0}, period_s="1")}, {}, VirtualClock())
    ticks(sensing, 2)
    assert len(notes(journal)) == 1 and notes(journal)[0].startswith("sensor bad switched off: TypeError: ")


def test_what_else_ends_the_thread_ends_the_trial(tmp_path: Path) -> None:
    """Neither the journal nor a plug-in: the loop's next line raises it, or the end, when there is no such line."""
    def scripted(t_ns: int) -> dict:
        if sensor.asked > 2:
            raise KeyError("t_s")
        return {}

    sensor = Scripted({"temp_c": 1.0})
    sensing, journal = sampler(tmp_path, {"x": sensor}, {}, BootClock(), load_at=scripted)

    def work() -> dict:
        sensing.start()
        wait_for(lambda: not sensing._thread.is_alive())
        sensing.stop()
        with pytest.raises(KeyError):
            journal.write("note", text="the loop's next line")
        return {}

    assert conclude(journal, work) == "agent"
    last = json.loads(Path(journal.path).read_text().splitlines()[-1])
    assert (last["kind"], last["error"], last["message"]) == ("failed", "agent", "KeyError: 't_s'")
    assert "in scripted" in last["traceback"]


# --- one metric, two sensors ------------------------------------------------------------------------------------------

def test_a_metric_is_journalled_from_the_sensor_that_is_believed_alone(tmp_path: Path) -> None:
    hal, zones = Scripted({"temp_c": 35.0}, period_s=0.5), Scripted({"temp_c": 70.0, "zone_count": 3.0})
    sensing, journal = sampler(tmp_path, {"hal": hal, "zones": zones}, {}, VirtualClock(), hz=10.0)
    ticks(sensing, 11)
    assert (hal.asked, zones.asked) == (3, 11)
    assert series(journal, "temp_c") == [35.0] * 3
    assert series(journal, "zone_count") == [3.0] * 11
    assert sensing.latest()["temp_c"] == 35.0
    assert notes(journal) == []


def test_when_the_believed_sensor_loses_its_value_the_next_one_takes_over_and_that_is_said(tmp_path: Path) -> None:
    hal = Scripted({"temp_c": 35.0}, {"temp_c": None}, {"temp_c": 36.0}, {"temp_c": None}, period_s=0.2)
    zones = Scripted({"temp_c": 70.0})
    sensing, journal = sampler(tmp_path, {"hal": hal, "zones": zones}, {}, VirtualClock(), hz=10.0)
    ticks(sensing, 8)
    assert series(journal, "temp_c") == [35.0, 70.0, 70.0, 36.0, 70.0, 70.0]
    assert sensing.latest()["temp_c"] == 70.0
    assert notes(journal) == ["temp_c is now read by zones, not by hal", "temp_c is now read by hal, not by zones"]


def test_a_sensor_that_takes_over_after_a_gap_is_noted_too(tmp_path: Path) -> None:
    hal = Scripted({"temp_c": 35.0}, {"temp_c": None})
    zones = Scripted({"temp_c": None}, {"temp_c": None}, {"temp_c": 70.0})
    sensing, journal = sampler(tmp_path, {"hal": hal, "zones": zones}, {}, VirtualClock(), hz=10.0)
    ticks(sensing, 4)
    assert series(journal, "temp_c") == [35.0, None, 70.0, 70.0]
    assert notes(journal) == ["temp_c is now read by zones, not by hal"]


def test_another_sensor_than_the_first_line_names_is_noted_in_the_first_tick(tmp_path: Path) -> None:
    sensors = {"hal": Scripted({"temp_c": None}, {"temp_c": 35.0}), "zones": Scripted({"temp_c": 70.0})}
    believed = {metric: reading.sensor for metric, reading in probe.read_all(sensors, "").items()}
    assert believed == {"temp_c": "zones"}
    journal = Journal(str(tmp_path / "trial.jsonl"), VirtualClock())
    ticks(Sampler("", 10.0, VirtualClock(), journal, sensors, {}, lambda: ([], []), believed=believed), 2)
    journal.flush()
    assert notes(journal) == ["temp_c is now read by hal, not by zones"]


def test_a_sensor_that_is_switched_off_is_not_believed_any_more(tmp_path: Path) -> None:
    first, second = Scripted({"temp_c": 35.0}, ValueError("gone")), Scripted({"temp_c": 70.0})
    sensing, journal = sampler(tmp_path, {"first": first, "second": second}, {}, VirtualClock(), hz=10.0)
    ticks(sensing, 2)
    assert series(journal, "temp_c") == [35.0, 70.0]
    assert sensing.latest()["temp_c"] == 70.0


def test_throttling_that_a_slow_sensor_saw_stays_until_it_says_otherwise(tmp_path: Path) -> None:
    slow = Scripted({"throttled": 1.0}, {"throttled": 0.0}, period_s=0.3)
    fast = Scripted({"throttled": 0.0}, {"throttled": 0.0}, {"throttled": 1.0}, {"throttled": 0.0})
    sensing, journal = sampler(tmp_path, {"fast": fast, "slow": slow}, {}, VirtualClock(), hz=10.0)
    ticks(sensing, 5)
    assert series(journal, "throttled") == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert sensing.latest()["throttled"] is False
    assert notes(journal) == []


def test_a_sensor_and_an_energy_source_may_have_one_name(tmp_path: Path) -> None:
    sensor, source = Scripted({"temp_c": 40.0}), Source([measured("power_w", 2.0)])
    sensing, journal = sampler(tmp_path, {"board": sensor}, {"board": source}, VirtualClock(), hz=10.0)
    ticks(sensing, 2)
    assert (sensor.asked, source.asked) == (2, 2)
    sensor.readings = [ValueError("bus error")]
    ticks(sensing, 2)
    assert sensing.latest() == {"power_w": 2.0}
    assert series(journal, "board.power_w") == [2.0] * 4
    assert "sensor board switched off: ValueError: bus error" in notes(journal)


# --- what a reading says of itself ------------------------------------------------------------------------------------

def test_what_a_total_is_read_from_is_noted_when_it_changes(tmp_path: Path) -> None:
    part = measured("rail_power_w", 1.0, "a part's own")
    before, after = [part, measured("power_w", None, "unit not known")], [part, measured("power_w", 2.0, "in mA")]
    sensing, journal = sampler(tmp_path, {}, {"gauge": Source(before, before, after)}, VirtualClock(), hz=10.0)
    ticks(sensing, 4)
    assert notes(journal) == ["gauge.power_w: unit not known", "gauge.power_w: in mA"]


def test_a_value_of_another_provenance_than_its_sources_is_marked(tmp_path: Path) -> None:
    answer = [measured("power_w", 4.0), measured("estimate_board_power_w", 5.0, provenance="modelled")]
    real, fixture = Source(answer), Source(answer)
    fixture.provenance = "synthetic"
    sensing, journal = sampler(tmp_path, {"x": Scripted({"battery_pct": 9.0})}, {"real": real, "fixture": fixture},
                               VirtualClock(), load_at=lambda t_ns: {"battery_pct": 15.0})
    ticks(sensing, 1)
    [sample] = [line for line in lines(journal) if line["kind"] == "sample"]
    assert sample["modelled"] == ["real.estimate_board_power_w"]
    assert sample["emulated"] == ["battery_pct"]
    assert "measured" not in sample and "synthetic" not in sample


def test_a_sensors_reason_is_noted_when_it_changes(tmp_path: Path) -> None:
    sensor = Scripted({"battery_pct": 50.0})
    sensing, journal = sampler(tmp_path, {"phone": sensor}, {}, VirtualClock(), hz=10.0)
    for reason in ("", "the battery is faked", "the battery is faked", ""):
        sensor.reason = reason
        ticks(sensing, 1)
    assert notes(journal) == ["phone: the battery is faked", "phone: reads again"]


def test_the_power_of_a_source_that_falls_silent_is_forgotten_after_two_readings(tmp_path: Path) -> None:
    source, modelled = Source([measured("power_w", 4.0)], [], [measured("power_w", 5.0)], [], []), Meter(
        "power_w", [9.0], "modelled")
    sensing, journal = sampler(tmp_path, {}, {"pmic": source, "modelled": modelled}, VirtualClock(), hz=10.0)
    seen = []
    for _ in range(6):
        ticks(sensing, 1)
        seen.append(sensing.latest()["power_w"])
    assert seen == [4.0, 4.0, 5.0, 5.0, 9.0, 9.0]
    assert [text for text in notes(journal) if "meter" not in text] == [
        "pmic.power_w: chip", "pmic: gives no readings"]


def test_the_widest_boundary_is_power_also_when_it_answers_late(tmp_path: Path) -> None:
    late = Source([], [measured("power_w", 4.0)])
    sensing, _ = sampler(tmp_path, {}, {"rail": Meter("power_w", [3.0], "rail"), "board": late}, VirtualClock())
    ticks(sensing, 2)
    assert sensing.latest()["power_w"] == 4.0
