"""The lab's parts that need no root: what boards show is what the agent's readers read, and a wire's arithmetic."""
import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from db.journal_rows import Context
from device_agents import probe, registry, sampler
from device_agents.seams import EnergySource, Sensor
from device_agents.sensors.memory import Memory
from device_agents.sensors.thermal import Thermal
from harness import apt
from harness.errors import ConfigError
from harness.fleet import load_fleet
from harness.lab import adbd_build, board, cgroup, faults, lab, loopback, phone, sshd
from harness.lab.board import SYNTHETIC, Board, boards
from harness.lab.box import write_tree
from harness.lab.wire import Shape, Wire
from harness.transports.ssh import SshTransport
from tests import lab_kit

ALL = {one.kind: one for one in (*boards(), phone.phone())}


def planted(what: Board, root: Path, hot: bool = False) -> str:
    """The device's /sys and files under `root`, its vcgencmd reading there too."""
    write_tree(root / "sys", what.sys_files)
    if hot:
        write_tree(root / "sys", what.hot)
    write_tree(root, {name: text.replace("/sys/", f"{root}/sys/") for name, text in what.files.items()})
    return str(root)


def sensed(name: str, root: str) -> dict[str, float | None]:
    return registry.load("device_agents.sensors", name, Sensor)().read(root)


def power_w(name: str, root: str) -> float | None:
    source = registry.load("device_agents.energy", name, EnergySource)()
    assert source.available(root), source.reason
    return {one.metric: one.value for one in source.read(root, 0)}["power_w"]


@pytest.mark.parametrize("kind, source, expected_w", [
    ("nano", "jetson_rail", 5128 * 540 // 1000 / 1000), ("orin", "jetson_rail", 4984 * 960 / 1e6),
    ("phone", "battery_gauge", 0.251 * 3.964),
])
def test_an_energy_source_reads_its_board(kind: str, source: str, expected_w: float, tmp_path: Path) -> None:
    assert power_w(source, planted(ALL[kind], tmp_path)) == pytest.approx(expected_w, rel=0.01)


def test_the_pi_5_gives_the_sum_of_its_rails(tmp_path: Path) -> None:
    assert power_w("pi_pmic", planted(ALL["pi5"], tmp_path)) == pytest.approx(
        sum(ampere * volt for _, ampere, volt in board.PMIC))


@pytest.mark.parametrize("kind", ALL)
def test_a_throttled_board_shows_it(kind: str, tmp_path: Path) -> None:
    cool = sensed("thermal", planted(ALL[kind], tmp_path / "cool"))["temp_c"]
    hot = sensed("thermal", planted(ALL[kind], tmp_path / "hot", hot=True))["temp_c"]
    assert cool is not None and hot is not None and cool < 60 < 80 < hot
    sensor = "pi_throttle" if kind.startswith("pi") else "thermal"
    if kind != "phone":
        assert sensed(sensor, str(tmp_path / "cool"))["throttled"] == 0.0
        assert sensed(sensor, str(tmp_path / "hot"))["throttled"] == 1.0
    else:
        clocks = [sensed("frequency", str(tmp_path / state))["freq_mhz"] for state in ("cool", "hot")]
        assert clocks[0] is not None and clocks[1] is not None and clocks[1] < clocks[0]


def wire(**shape: Any) -> Wire:
    return Wire((10, 11), Shape(**shape))


def test_a_plain_wire_delays_nothing() -> None:
    assert wire().due_s(10, 1500, 5.0) == 5.0


def test_a_wire_delays_each_way() -> None:
    made = wire(delay_ms=20.0)
    assert made.due_s(10, 1500, 5.0) == pytest.approx(5.02) and made.due_s(11, 60, 5.0) == pytest.approx(5.02)


def test_a_rate_is_kept_and_its_queue_is_finite() -> None:
    made = wire(rate_mbit=8.0, queue_kb=10.0)     # 1000 bytes take 1 ms; ten of them wait
    arrivals = [made.due_s(10, 1000, 0.0) for _ in range(30)]
    kept = [due_s for due_s in arrivals if due_s is not None]
    assert kept == pytest.approx([0.001 * number for number in range(1, len(kept) + 1)]) and 10 <= len(kept) <= 12


def test_frames_never_overtake_each_other() -> None:
    made = wire(delay_ms=20.0, jitter_ms=20.0)
    arrivals = [made.due_s(10, 100, number * 0.001) for number in range(200)]
    assert arrivals == sorted(arrivals) and len(set(arrivals)) > 20


def test_loss_is_about_what_was_asked_and_the_same_again() -> None:
    lost = [[wire_of.due_s(10, 100, 0.0) is None for _ in range(2000)] for wire_of in (wire(loss=0.1), wire(loss=0.1))]
    assert lost[0] == lost[1] and 120 < sum(lost[0]) < 280


def test_without_root_the_lab_offers_loopback(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match=r"sudo edgefleet lab up --ssh 1 --adb 2\n.*up --loopback --ssh 1 --adb 0$"):
        lab.up(tmp_path / "lab", 1, 2, tmp_path, print)
    with pytest.raises(ConfigError, match="--adb 0"):
        lab.up(tmp_path / "lab", 1, 1, tmp_path, print, unprivileged=True)
    assert not (tmp_path / "lab").exists()


def test_a_lab_that_is_not_there_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edgefleet lab up"):
        lab.open_lab(tmp_path)
    (tmp_path / lab.STATE).write_text("{")
    with pytest.raises(ConfigError, match="no state file"):
        lab.down(tmp_path)


@pytest.mark.parametrize("name", ["thesis", "thesis/ch1.txt"])
def test_a_lab_takes_no_folder_that_has_something_in_it(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    """`down` deletes the folder, and an `up` that fails calls it: here sshd is missing, too."""
    monkeypatch.setattr(sshd, "PLACES", "")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "ch1.txt").write_text("a year of work")
    with pytest.raises(ConfigError, match=r"thesis.* --folder DIR"):
        lab.up(tmp_path / name, 1, 0, tmp_path, print, unprivileged=True)
    assert (tmp_path / "thesis" / "ch1.txt").read_text() == "a year of work"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="OpenSSH"):       # an empty folder would do
        lab.up(tmp_path / "empty", 1, 0, tmp_path, print, unprivileged=True)


def test_a_lab_that_cannot_be_deleted_can_be_ended_again(tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "lab"
    (folder / "devices" / "loop-a").mkdir(parents=True)
    (folder / lab.STATE).write_text('{"mode": "loopback", "subnet": 0, "members": []}')

    def busy(path: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", busy)
        with pytest.raises(ConfigError, match=r"devices cannot be deleted \(Device or resource busy\)"):
            lab.down(folder)
    lab.down(folder)
    assert not folder.exists()


@pytest.mark.skipif(bool(lab_kit.no_sshd()), reason=lab_kit.no_sshd() or "-")
def test_a_loopback_lab_leaves_nothing_behind(tmp_path: Path) -> None:
    with lab_kit.running(tmp_path / "lab", 2, 0, loopback=True) as (made, devices):
        assert list(devices) == ["loop-a", "loop-b"]
        with pytest.raises(ConfigError, match="up already"):
            lab.up(made.folder, 1, 0, tmp_path, print, unprivileged=True)
        with pytest.raises(ConfigError, match="loopback device"):
            made.box("loop-a")
        assert made.point_here(tmp_path / "fleet.toml") and not made.point_here(tmp_path / "fleet.toml")
        assert list(load_fleet(tmp_path / "fleet.toml").devices) == ["loop-a", "loop-b"]
    assert not (tmp_path / "fleet.toml").is_symlink()
    assert not (tmp_path / "lab").exists()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(tmp_path).encode() not in process.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


@pytest.mark.skipif(bool(lab_kit.no_sshd()), reason=lab_kit.no_sshd() or "-")
@pytest.mark.parametrize("program", ["exec sleep 600", "trap '' TERM; while :; do sleep 1; done"])
def test_what_a_loopback_device_set_free_ends_with_its_lab(
        program: str, tmp_path: Path, monkeypatch: Any) -> None:
    """As the agent does: a session of its own, no parent that we know, nothing of the device's folder in its name."""
    monkeypatch.setattr(loopback, "STOP_S", 0.5)
    with lab_kit.running(tmp_path / "lab", 2, 0, loopback=True) as (_, devices):
        pids = []
        for device in devices.values():
            made = SshTransport(device, tmp_path)
            free = f'cd /; setsid sh -c "{program}" > /dev/null 2>&1 < /dev/null & echo $!'
            told = made.run(["sh", "-c", free], 20.0)
            made.close()
            pids.append(int(told.stdout))
        loopback.stop(tmp_path / "lab" / "devices" / "loop-a")
        assert [lives(pid) for pid in pids] == [False, True]        # the other device's is left alone
    assert not lives(pids[1])


def lives(pid: int) -> bool:
    """Whether it runs; one that nobody has buried does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def test_memory_runs_out_only_where_a_device_s_is_limited(tmp_path: Path, monkeypatch: Any) -> None:
    """A kernel without control groups for memory: the fault would take all that this machine has."""
    monkeypatch.setattr(cgroup, "ROOT", tmp_path / "cgroup")
    made = lab.Lab(tmp_path, "namespaces", 0, (lab.Member("lab-nano-a", "nano", 0, "10.77.0.10", 22),))
    with pytest.raises(ConfigError, match=r"lab-nano-a: .*no memory controller.*kill-agent"):
        faults.inject(made, "lab-nano-a", "out-of-memory")


def test_what_eats_memory_stops_by_itself() -> None:
    """Should the limit not hold after all. ulimit: should it not stop."""
    argv = ["/bin/sh", "-c", 'ulimit -v 2000000; exec "$@"', "sh", sys.executable, "-c", faults._HOG, "8"]
    assert subprocess.run(argv, timeout=60.0, check=False).returncode == 0


def test_a_missing_controller_costs_no_other(tmp_path: Path, monkeypatch: Any) -> None:
    """Version 2 refuses a line that names one which it lacks, so each has a line of its own."""
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    asked = tmp_path / "cgroup.subtree_control"
    os.mkfifo(asked)
    with os.fdopen(os.open(asked, os.O_RDONLY | os.O_NONBLOCK)) as kernel:
        cgroup.Cgroup("ef/lab-nano-a").create()
        assert kernel.read() == "+cpu+memory+pids"


def test_phones_that_cannot_be_built_leave_a_lab_without_them(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(apt.MIRROR_VARIABLE, "http://127.0.0.1:9/debian")        # refuses
    with pytest.raises(ConfigError, match=r"(?s)adbd cannot be built.*--adb 0"):
        adbd_build._fetch(tmp_path)


def test_what_a_lab_device_measures_is_labelled_synthetic(tmp_path: Path) -> None:
    """Joules and temperatures are fixtures; load and memory are this machine's own, from /proc."""
    root = planted(ALL["nano"], tmp_path)
    sources = sampler.open_energy(root, {"idle_w": 1.0, "busy_w": 2.0, "source": "stated"})
    assert sources["jetson_rail"].provenance == "synthetic"
    assert {one.provenance for one in sources["jetson_rail"].read(root, 0)} == {"synthetic"}
    assert sources["modelled"].provenance == "modelled"
    readings = probe.read_all({"thermal": Thermal(), "memory": Memory()}, root)
    assert readings["temp_c"][1].startswith("synthetic: ") and not readings["mem_free_mb"][1].startswith("synthetic")
    (tmp_path / "sys" / SYNTHETIC).unlink()
    assert sampler.open_energy(root, None)["jetson_rail"].provenance == "measured"


def test_the_database_knows_synthetic_readings(tmp_path: Path) -> None:
    context = Context("t", 1, "measured")
    context.begin({"sensors": {"temp_c": "synthetic: /sys/class/thermal", "co_cpu_pct": "/proc/stat"},
                   "energy": {"jetson_rail": {"scope": "rail", "provenance": "synthetic"}}})
    provenances = [context.origin(name).provenance for name in ("temp_c", "co_cpu_pct", "jetson_rail.power_w")]
    assert provenances == ["synthetic", "measured", "synthetic"]
