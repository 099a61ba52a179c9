"""Labs come and go, side by side, and leave nothing."""
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.lab import box, faults, lab
from harness.lab.network import namespaces
from harness.transports.ssh import SshTransport
from tests import lab_kit

pytestmark = pytest.mark.skipif(bool(lab_kit.no_namespaces()), reason=lab_kit.no_namespaces() or "-")


def traces_of(tag: str, folder: Path) -> list[str]:
    """Whatever still bears the lab's name: namespaces, links, mounts, control groups, sockets, processes."""
    found = [name for name in namespaces() if name.startswith(tag)]
    found += [line for line in subprocess.getoutput("ip -o link").splitlines() if tag in line]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{tag}")]
    found += [str(path) for path in Path("/run").glob(f"{tag}*")]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in process.read_bytes():
                found.append(process.read_bytes().decode())
        except OSError:
            continue
    return found


def test_two_labs_side_by_side_leave_nothing(tmp_path: Path) -> None:
    with lab_kit.running(tmp_path / "one", 1, 0) as (first, _), lab_kit.running(tmp_path / "two", 1, 0) as second:
        assert first.tag != second[0].tag and first.network.subnet != second[0].network.subnet
        faults.inject(first, "lab-nano-a", "freeze")
        faults.inject(first, "lab-nano-a", "slow-link")
        made = SshTransport(second[1]["lab-nano-a"], tmp_path)
        assert made.run(["hostname"], 20.0).stdout == b"lab-nano-a\n"
        made.close()
        assert traces_of(first.tag, tmp_path / "one") != []
    for one in (first, second[0]):
        assert traces_of(one.tag, one.folder) == []
        assert not one.folder.exists()


def test_labs_that_start_at_once_have_networks_of_their_own(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    try:
        with ThreadPoolExecutor(len(folders)) as pool:
            made = list(pool.map(lambda folder: lab.up(folder, 1, 0, tmp_path, print), folders))
        assert len({one.network.subnet for one in made}) == len(folders)
    finally:
        for folder in folders:
            lab.down(folder)


def test_a_lab_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    """The second board has no disk space that could be had."""
    monkeypatch.setattr(lab, "DISK_MB", -1)
    with pytest.raises(ConfigError):
        lab.up(tmp_path / "lab", 2, 0, tmp_path, print)
    tag = lab.Lab((tmp_path / "lab").resolve(), "namespaces", 0, ()).tag
    assert traces_of(tag, tmp_path / "lab") == [] and not (tmp_path / "lab").exists()


def test_down_deletes_nothing_through_a_mount(tmp_path: Path) -> None:
    """A folder of this machine's that somebody mounted inside the lab's."""
    mine, there = tmp_path / "mine", tmp_path / "lab" / "devices" / "loop-a" / "my data"
    mine.mkdir()
    (mine / "kept").write_text("kept")
    made = lab.up(tmp_path / "lab", 1, 0, tmp_path, print, unprivileged=True)
    there.mkdir()
    subprocess.run(["mount", "--bind", mine, there], check=True)
    try:
        with pytest.raises(ConfigError, match=r"my data is still mounted.*lab down"):
            lab.down(made.folder)
        assert (mine / "kept").exists() and (made.folder / lab.STATE).exists()
    finally:
        subprocess.run(["umount", there], check=True)
    lab.down(made.folder)
    assert not made.folder.exists()


def test_a_mount_point_becomes_no_lab(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        with pytest.raises(ConfigError, match="is a mount point"):
            lab.up(tmp_path, 1, 0, tmp_path, print, unprivileged=True)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_what_does_not_end_inside_a_device_is_ended(tmp_path: Path, monkeypatch: Any) -> None:
    with lab_kit.running(tmp_path / "lab", 1, 0) as (made, _):
        device = made.box("lab-nano-a")
        monkeypatch.setattr(box, "ENTER_S", 1.0)
        with pytest.raises(ConfigError, match=r"lab-nano-a: sleep does not end within 1 s.* restore"):
            device.enter("sleep", "654")
        give_up = time.monotonic() + 5.0
        while device.processes("654"):
            assert time.monotonic() < give_up
            time.sleep(0.05)


def test_an_unknown_fault_or_device_is_told_with_those_that_are(tmp_path: Path) -> None:
    with lab_kit.running(tmp_path / "lab", 1, 0) as (made, _):
        with pytest.raises(ConfigError, match="Did you mean 'freeze'"):
            faults.inject(made, "lab-nano-a", "freze")
        with pytest.raises(ConfigError, match="lab-nano-a"):
            faults.inject(made, "lab-nano-x", "cut")
