"""CPU, memory, pressure and network: exact formats of /proc, and files that are missing, cut or absurd."""
import os
from pathlib import Path

import pytest

from device_agents.sensors.cpu import Cpu
from device_agents.sensors.memory import Memory
from device_agents.sensors.network import Network
from device_agents.sensors.pressure import Pressure

PAGE_B = os.sysconf("SC_PAGE_SIZE")
PROCESS = "%d (a (odd) name) S 1 2 2 0 -1 4194304 1000 0 0 0 %d %d 0 0 20 0 3 0 8000 100000 2000 18446744073709551615\n"
MEMINFO = """MemTotal:        4000000 kB
MemFree:          500000 kB
MemAvailable:    2500000 kB
Buffers:          100000 kB
Cached:          1500000 kB
SwapTotal:       1024000 kB
SwapFree:         512000 kB
HugePages_Total:       0
"""
NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 999999999    1    0    0    0     0          0         0 999999999    1    0    0    0     0       0          0
  eth0: %d 1000    0    0    0     0          0         0 %d  500    0    0    0     0       0          0
docker0:%d   10    0    0    0     0          0         0    70     1    0    0    0     0       0          0
"""
WIRELESS = """Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
 wlan0: 0000   54.  %s  -256        0      0      0      0    134        0
"""


def write(root: Path, path: str, text: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def cpu_sensor(own: list, load: list) -> Cpu:
    sensor = Cpu()
    sensor.own_pids = lambda: (own, load)
    return sensor


def test_cpu_is_split_into_own_and_everybody_else(tmp_path: Path) -> None:
    sensor = cpu_sensor([11, 12], [13])
    write(tmp_path, "/proc/stat", "cpu  1000 0 500 8000 100 0 0 0 0 0\ncpu0 1 0 1 1 1 0 0 0 0 0\nintr 5 0\n")
    write(tmp_path, "/proc/11/stat", PROCESS % (11, 300, 50))
    write(tmp_path, "/proc/12/stat", PROCESS % (12, 0, 0))
    write(tmp_path, "/proc/13/stat", PROCESS % (13, 77, 0))
    assert sensor.read(str(tmp_path)) == {"co_cpu_pct": None, "own_cpu_pct": None, "steal_pct": None}
    # 200 ticks later: 120 busy (10 of them stolen, 5 in interrupts), of which the trial 30 and its load player 40
    write(tmp_path, "/proc/stat", "cpu  1085 0 520 8060 120 2 3 10 40 0\n")
    write(tmp_path, "/proc/11/stat", PROCESS % (11, 315, 55))
    write(tmp_path, "/proc/12/stat", PROCESS % (12, 6, 4))
    write(tmp_path, "/proc/13/stat", PROCESS % (13, 117, 0))
    assert sensor.read(str(tmp_path)) == {"co_cpu_pct": 45.0, "own_cpu_pct": 15.0, "steal_pct": 5.0}


def test_cpu_does_not_count_what_a_new_or_recycled_process_used_before(tmp_path: Path) -> None:
    own = [11]
    sensor = cpu_sensor(own, [])
    write(tmp_path, "/proc/stat", "cpu  0 0 0 1000 0 0 0 0 0 0\n")
    write(tmp_path, "/proc/11/stat", PROCESS % (11, 500, 0))
    sensor.read(str(tmp_path))
    own.append(12)
    write(tmp_path, "/proc/12/stat", PROCESS % (12, 9000, 0))
    write(tmp_path, "/proc/11/stat", PROCESS % (11, 3, 0))
    write(tmp_path, "/proc/stat", "cpu  50 0 0 1050 0 0 0 0 0 0\n")
    assert sensor.read(str(tmp_path))["own_cpu_pct"] == 0.0


def test_cpu_reading_is_a_mean_over_half_a_second(tmp_path: Path) -> None:
    """At 10 Hz one interval has ten ticks a core: a single odd interval must not swing the reading to 100 %."""
    sensor, cores = cpu_sensor([], []), os.cpu_count() or 1
    seen = []
    for step, busy in enumerate([0, 0, 0, 0, 0, 0, 1, 1]):
        used = 10 * cores * max(0, step - 5) * busy
        write(tmp_path, "/proc/stat", f"cpu  {used} 0 0 {10 * cores * step - used} 0 0 0 0\n")
        seen.append(sensor.read(str(tmp_path))["co_cpu_pct"])
    assert seen[0] is None
    assert seen[5:] == [0.0, pytest.approx(20.0), pytest.approx(40.0)]


@pytest.mark.parametrize("text", ["", "cpu\n", "cpu a b c d e\n", "cpu0 1 2 3 4 5\n", "intr 1 2 3 4 5 6 7 8\n"])
def test_cpu_garbage_is_none(tmp_path: Path, text: str) -> None:
    sensor = cpu_sensor([1], [])
    write(tmp_path, "/proc/stat", text)
    for _ in range(2):
        assert set(sensor.read(str(tmp_path)).values()) == {None}


def test_cpu_survives_counters_that_go_back_and_processes_that_end(tmp_path: Path) -> None:
    sensor = cpu_sensor([11], [])
    write(tmp_path, "/proc/11/stat", PROCESS % (11, 5, 5))
    write(tmp_path, "/proc/stat", "cpu  900 0 0 900 0 0 0 0\n")
    sensor.read(str(tmp_path))
    (tmp_path / "proc/11/stat").unlink()
    write(tmp_path, "/proc/stat", "cpu  10 0 0 10 0 0 0 0\n")
    assert sensor.read(str(tmp_path))["co_cpu_pct"] is None
    write(tmp_path, "/proc/stat", "cpu  20 0 0 40 0 0 0 0\n")
    assert sensor.read(str(tmp_path)) == {"co_cpu_pct": 25.0, "own_cpu_pct": 0.0, "steal_pct": 0.0}


def test_memory_is_split_and_shared_pages_are_not_ours(tmp_path: Path) -> None:
    sensor = Memory()
    sensor.own_pids = lambda: ([11], [13])
    write(tmp_path, "/proc/meminfo", MEMINFO)
    pages = 100 * 1048576 // PAGE_B             # 100 MiB anonymous
    write(tmp_path, "/proc/11/statm", f"{pages * 5} {pages + 700} 700 10 0 900 0\n")
    write(tmp_path, "/proc/13/statm", f"{pages * 5} {pages * 2} 0 10 0 900 0\n")
    reading = sensor.read(str(tmp_path))
    assert reading["mem_free_mb"] == pytest.approx(2500000 / 1024)
    assert reading["own_mem_mb"] == pytest.approx(100.0)
    assert reading["swap_used_mb"] == 500.0
    assert reading["co_mem_pct"] == pytest.approx(100 * (1500000 - 102400) / 4000000)


def test_memory_of_an_old_kernel_and_of_none(tmp_path: Path) -> None:
    sensor = Memory()
    sensor.own_pids = lambda: ([11], [])
    write(tmp_path, "/proc/meminfo", "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 10 kB\nCached: 200 kB\n")
    assert sensor.read(str(tmp_path)) == {
        "mem_free_mb": 310 / 1024, "co_mem_pct": None, "own_mem_mb": None, "swap_used_mb": None}
    write(tmp_path, "/proc/meminfo", "\0\0 MemTotal MemFree: many kB\n")
    assert set(sensor.read(str(tmp_path)).values()) == {None}
    assert set(Memory().read(str(tmp_path / "nowhere")).values()) == {None}


def test_pressure_format_and_absence(tmp_path: Path) -> None:
    assert set(Pressure().read(str(tmp_path)).values()) == {None}       # kernels before 4.20
    write(tmp_path, "/proc/pressure/cpu", "some avg10=12.34 avg60=1.00 avg300=0.10 total=37062909\n")
    write(tmp_path, "/proc/pressure/memory", "some avg10=0.50 avg60=0.00 avg300=0.00 total=7\n"
                                             "full avg10=9.99 avg60=0.00 avg300=0.00 total=5\n")
    write(tmp_path, "/proc/pressure/io", "some avg10=nan total=\n")
    assert Pressure().read(str(tmp_path)) == {
        "psi_cpu_pct": 12.34, "psi_cpu_us": 37062909.0, "psi_memory_pct": 0.5, "psi_memory_us": 7.0,
        "psi_io_pct": None, "psi_io_us": None}


def test_network_rates_without_loopback_and_without_what_has_no_hardware(tmp_path: Path) -> None:
    times = iter([100.0, 102.0])
    sensor = Network(now_s=lambda: next(times))
    (tmp_path / "sys/class/net/eth0/device").mkdir(parents=True)
    write(tmp_path, "/proc/net/dev", NET_DEV % (1000000, 5000, 0))
    assert sensor.read(str(tmp_path))["net_rx_mbps"] is None
    write(tmp_path, "/proc/net/dev", NET_DEV % (3500000, 255000, 9000000))
    reading = sensor.read(str(tmp_path))
    assert reading["net_rx_mbps"] == pytest.approx(10.0)        # 2.5 MB in 2 s
    assert reading["net_tx_mbps"] == pytest.approx(1.0)


def test_network_in_a_container_counts_all_but_loopback(tmp_path: Path) -> None:
    times = iter([0.0, 1.0])
    sensor = Network(now_s=lambda: next(times))
    write(tmp_path, "/proc/net/dev", NET_DEV % (0, 0, 0))
    sensor.read(str(tmp_path))
    write(tmp_path, "/proc/net/dev", NET_DEV % (125000, 0, 125000))
    assert sensor.read(str(tmp_path))["net_rx_mbps"] == pytest.approx(2.0)


def test_network_counter_that_wraps_or_interface_that_comes_gives_none(tmp_path: Path) -> None:
    times = iter([0.0, 1.0, 2.0, 3.0])
    sensor = Network(now_s=lambda: next(times))
    write(tmp_path, "/proc/net/dev", NET_DEV % (4294967000, 10, 0))
    sensor.read(str(tmp_path))
    write(tmp_path, "/proc/net/dev", NET_DEV % (500, 20, 0))
    reading = sensor.read(str(tmp_path))
    assert reading["net_rx_mbps"] is None
    assert reading["net_tx_mbps"] is not None
    write(tmp_path, "/proc/net/dev", (NET_DEV % (600, 30, 0)).replace("docker0", "  wlan0"))
    assert sensor.read(str(tmp_path))["net_rx_mbps"] is None
    write(tmp_path, "/proc/net/dev", "garbage\n\n:::\n eth0: many bytes\n")
    assert set(sensor.read(str(tmp_path)).values()) == {None}


@pytest.mark.parametrize(("level", "rssi_dbm"), [("-56.", -56.0), ("200.", -56.0), ("0.", None), ("-256.", None),
                                                 ("x", None)])
def test_wireless_level(tmp_path: Path, level: str, rssi_dbm: float) -> None:
    write(tmp_path, "/proc/net/wireless", WIRELESS % level)
    assert Network().read(str(tmp_path))["rssi_dbm"] == rssi_dbm
