"""The modelled source: its formula, its label, and that it does not start without a stated model."""
import pytest

from device_agents.energy.modelled import Modelled

MODEL = {"idle_w": 2.0, "busy_w": 6.0, "source": "Pi 4: some data sheet, table 1"}


def modelled(cpu_s: list, cores: int = 4) -> Modelled:
    times = iter(cpu_s)
    source = Modelled(cpu_s=lambda: next(times), cores=cores)
    source.power_model = MODEL
    return source


def totals(source: Modelled, t_ns: int) -> dict:
    found = source.read("", t_ns)
    assert {measurement.provenance for measurement in found} <= {"modelled"}
    assert all("Pi 4: some data sheet" in measurement.source for measurement in found)
    return {measurement.metric: measurement.value for measurement in found}


def test_idle_all_the_time_plus_the_surplus_of_the_own_share() -> None:
    source = modelled([10.0, 10.0, 12.0])
    assert totals(source, 5000000000) == {"energy_j": 0.0}
    assert totals(source, 6000000000) == pytest.approx({"power_w": 2.0, "energy_j": 2.0})
    # 2 CPU seconds in 1 s on 4 cores = half of the device
    assert totals(source, 7000000000) == pytest.approx({"power_w": 4.0, "energy_j": 6.0})


def test_share_cannot_exceed_the_device_and_time_cannot_go_back() -> None:
    source = modelled([0.0, 50.0, 60.0])
    totals(source, 0)
    assert totals(source, 1000000000)["power_w"] == pytest.approx(6.0)
    assert totals(source, 1000000000) == pytest.approx({"energy_j": 6.0})


@pytest.mark.parametrize("model", [
    None, {}, {"idle_w": 1.0, "busy_w": 2.0}, {"idle_w": 1.0, "busy_w": 2.0, "source": ""},
    {"idle_w": "1", "busy_w": 2.0, "source": "x"}, {"idle_w": 3.0, "busy_w": 2.0, "source": "x"},
    {"idle_w": -1.0, "busy_w": 2.0, "source": "x"},
])
def test_without_a_sane_and_cited_model_it_is_not_available(model: dict) -> None:
    source = Modelled()
    source.power_model = model
    assert not source.available("")
    assert source.reason
    assert source.read("", 0) == []
