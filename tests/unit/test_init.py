"""`edgefleet init`: a proposal that loads, from what is there; nothing is ever overwritten."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cable.adb_program import AdbDevice
from harness.fleet import FleetSpec, load_fleet
from harness.inventory import propose, ssh_hosts


def loaded(tmp_path: Path, text: str) -> FleetSpec:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return load_fleet(path)


def test_hosts_and_phones_become_devices_with_tags(tmp_path: Path) -> None:
    phones = [AdbDevice("1A2B", "device", {"model": "Pixel_6"}), AdbDevice("S", "device", {"usb": "1-4"}),
              AdbDevice("S", "device", {"usb": "1-5"})]
    fleet = loaded(tmp_path, propose(["nano.local", "nano-local", "host"], phones))
    assert list(fleet.devices) == ["nano-local", "nano-local-2", "host-2", "pixel_6", "phone-s", "phone-s-2"]
    assert fleet.devices["nano-local"].host == "nano.local"
    assert [one.serial for one in fleet.select(["tag:phone"])] == ["1A2B", "usb:1-4", "usb:1-5"]


def test_without_anything_this_machine_is_the_fleet(tmp_path: Path) -> None:
    assert list(loaded(tmp_path, propose([], [], "No phones: no adb\ntype apt")).devices) == ["host"]


@pytest.mark.parametrize(("state", "fix"), [
    ("unauthorized", "Allow USB debugging"), ("offline", "adb reconnect offline"), ("no permissions", "plugdev"),
    ("recovery", "recovery")])
def test_a_phone_that_is_not_usable_is_commented_with_its_fix(tmp_path: Path, state: str, fix: str) -> None:
    text = propose(["pi"], [AdbDevice("X1", state, {})])
    assert list(loaded(tmp_path, text).devices) == ["pi"]
    assert fix in text and '# serial = "X1"' in text


def test_hosts_are_read_as_ssh_reads_them(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host orin\n  HostName 10.0.0.4\n")
    (tmp_path / "config").write_text(
        "Include more\nHost * !bad\n  User me\nhost=pi4 \"pi5\" *.lab\nHost github.com\n  User git\nMatch user git\n"
        "  User git\nHost pi4\n")
    assert ssh_hosts(tmp_path / "config") == ["orin", "pi4", "pi5"]
    assert ssh_hosts(tmp_path / "none") == []


def test_a_tab_separates_words_too(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host\tnano\n\tHostName\t10.0.0.1\nHost github.com\n\tUser\tgit\nHost = pi\n\n")
    assert ssh_hosts(tmp_path / "config") == ["nano", "pi"]


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Without adb on the PATH, so that no server of this machine is asked."""
    return subprocess.run([sys.executable, "-m", "harness.cli", "init", "--ssh-config", "config", *words], cwd=folder,
                          capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "PATH": "/nowhere", "PYTHONPATH": os.pathsep.join(sys.path)})


def test_the_verb_prints_writes_and_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host nano\n")
    (tmp_path / "fleet.toml.part").write_text("mine, too")
    (tmp_path / "link.toml").symlink_to("nowhere.toml")
    printed = run(tmp_path)
    assert printed.returncode == 0 and "[devices.nano]" in printed.stdout, printed.stderr
    assert "No phones are listed" in printed.stdout and not (tmp_path / "fleet.toml").exists()
    assert run(tmp_path, "--output", "fleet.toml").returncode == 0
    assert (tmp_path / "fleet.toml").read_text() == printed.stdout
    (tmp_path / "fleet.toml").write_text("mine")
    again = run(tmp_path, "--output", "fleet.toml")
    assert again.returncode == 2 and "stays as it is" in again.stderr
    assert (tmp_path / "fleet.toml").read_text() == "mine"
    assert (tmp_path / "fleet.toml.part").read_text() == "mine, too"
    linked = run(tmp_path, "--output", "link.toml")
    assert linked.returncode == 2 and "cannot write link.toml" in linked.stderr
    assert (tmp_path / "link.toml").is_symlink() and not (tmp_path / "nowhere.toml").exists()


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: creating one works, writing to it does not."""
    (tmp_path / "config").write_text("Host nano\n")
    limited = 'ulimit -f 0; exec "$0" -B -m harness.cli init --ssh-config config --output fleet.toml'
    full = subprocess.run(["/bin/sh", "-c", limited, sys.executable], cwd=tmp_path, capture_output=True, text=True,
                          timeout=60, check=False,
                          env={**os.environ, "PATH": "/nowhere", "PYTHONPATH": os.pathsep.join(sys.path)})
    assert full.returncode == 2 and "cannot write fleet.toml" in full.stderr, full.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config"]
