"""The rehearsal keeps the scheduler's rules: one trial a device, group limits, simulated devices take no time."""
import pytest

from harness.estimate import GAP_S, needed_s, window_s
from harness.fleet import DeviceSpec, FleetSpec, GroupSpec
from tests.fakes import sample_trial

ONE_S = window_s(sample_trial()) + GAP_S


def fleet_of(*devices: DeviceSpec, limit: int = 1) -> FleetSpec:
    return FleetSpec(devices={one.name: one for one in devices}, groups={"host": GroupSpec(limit=limit)})


def trials(*devices: str) -> list[tuple[str, float]]:
    return [(name, window_s(sample_trial(device=name))) for name in devices]


@pytest.mark.parametrize(("limit", "windows"), [(1, 4), (2, 2), (3, 2)])
def test_a_group_limits_how_many_windows_run_at_once(limit: int, windows: int) -> None:
    fleet = fleet_of(DeviceSpec(name="a"), DeviceSpec(name="b"), limit=limit)
    assert needed_s(trials("a", "b", "a", "b"), fleet) == pytest.approx(windows * ONE_S)


def test_devices_of_no_group_run_side_by_side_and_the_cooldown_counts() -> None:
    fleet = fleet_of(DeviceSpec(name="a", groups=()), DeviceSpec(name="b", groups=()))
    assert needed_s(trials("a", "b", "b"), fleet, cooldown_s=3.0) == pytest.approx(2 * (ONE_S + 3.0))


def test_a_simulated_device_takes_no_time_and_nothing_needs_nothing() -> None:
    fleet = fleet_of(DeviceSpec(name="sim", transport="simulated"))
    assert needed_s(trials("sim", "sim"), fleet) == 0.0
    assert needed_s([], fleet) == 0.0
