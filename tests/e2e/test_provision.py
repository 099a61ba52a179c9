"""`device provision` on several devices, some of which fail: the others get their runtime, and each has its line.

The devices are folders of this machine; the package index is a folder, too, and the one that it falls back to refuses
connections. The runtimes are wheels that only say their version, so that nothing is downloaded.
"""
import fcntl
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from harness.runtimes import wheels
from tests.e2e.spine import edgefleet

OLD_PYTHON = """#!/bin/sh
echo '{"version": [3, 8, 1], "flags": "", "libc": "glibc 2.31", "bits": 64, "implementation": "cpython",
       "executable": "/usr/bin/python3.8"}'
"""
FLEET = """
[devices.good-a]
python = "%(python)s"
[devices.good-b]
python = "%(python)s"
[devices.unsupported]
python = "/no/python3"
[devices.unfetched]
python = "%(old)s"
[devices.unreachable]
transport = "ssh"
host = "127.0.0.1"
port = 9
user = "nobody"
"""


@pytest.fixture
def fleet(tmp_path: Path, edgefleet_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two devices for whose Python the index has wheels, and three that fail, each for a reason of its own."""
    index = tmp_path / "index"
    index.mkdir()
    for name, version in zip(("onnxruntime", "numpy"), wheels.pins((sys.version_info[0], sys.version_info[1]))):
        write_wheel(index, name, version)
    for name, text in (("FIND_LINKS", str(index)), ("INDEX_URL", "http://127.0.0.1:9/simple"), ("RETRIES", "0"),
                       ("CONFIG_FILE", "/dev/null"), ("EXTRA_INDEX_URL", "")):
        monkeypatch.setenv(f"PIP_{name}", text)
    old = tmp_path / "python3.8"
    old.write_text(OLD_PYTHON)
    old.chmod(old.stat().st_mode | stat.S_IXUSR)
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET % {"python": sys.executable, "old": old})
    return path


def write_wheel(folder: Path, name: str, version: str) -> None:
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"__version__ = {version!r}\n")
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_devices_that_fail_keep_the_others_from_nothing(fleet: Path, edgefleet_home: Path) -> None:
    done = edgefleet("device", "provision", "--fleet", fleet, home=edgefleet_home)
    lines = {words[0]: line for line in done.stdout.splitlines() if (words := line.split())}
    assert done.returncode == 3, done.stderr
    for name in ("good-a", "good-b"):
        assert "wheels" in lines[name] and "onnxruntime" in lines[name], done.stdout + done.stderr
        assert (edgefleet_home / "devices" / name / "runtime/current/bin/python3").exists()
    assert "no Python" in lines["unsupported"] and "Install a Python" in lines["unsupported"]
    assert "no package index answers" in lines["unfetched"]
    assert "127.0.0.1" in lines["unreachable"]
    assert not (edgefleet_home / "devices/unfetched/runtime").exists()
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(("name", "code"), [("good-*", 0), ("unfetched", 2), ("unsupported", 3)])
def test_the_exit_code_says_what_failed(name: str, code: int, fleet: Path, edgefleet_home: Path) -> None:
    assert edgefleet("device", "provision", name, "--fleet", fleet, home=edgefleet_home).returncode == code


def test_a_device_that_runs_a_trial_is_not_pushed_to(fleet: Path, edgefleet_home: Path) -> None:
    there = edgefleet_home / "devices/good-a"
    there.mkdir(parents=True)
    with (there / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = edgefleet("device", "provision", "good-a", "--fleet", fleet, home=edgefleet_home)
    assert done.returncode == 3 and "a trial runs on it" in done.stdout, done.stdout + done.stderr
    assert [path.name for path in there.iterdir()] == ["lock"]
