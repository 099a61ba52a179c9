"""Content on a device: what travels once, what is collected, and what a device that is full says about it."""
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.device import open_device
from harness.home import Home
from harness.lab.lab import Lab


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Path]:
    made = {}
    for number in range(5):
        path = tmp_path / f"c{number}"
        path.write_bytes(os.urandom(6_000_000 if number == 0 else 20_000))
        made[hashlib.sha256(path.read_bytes()).hexdigest()] = path
    return made


def test_content_travels_once_and_is_collected(lab: Lab, name: str, devices: Any, content: Any, tmp_path: Path) -> None:
    device = open_device(devices[name], Home(tmp_path))
    assert device.push(content) == sum(path.stat().st_size for path in content.values())
    before = lab.network.packets_in(name)
    assert device.push(content) == 0
    assert lab.network.packets_in(name) - before < 60       # questions and answers, no content
    assert device.push({**content, **more(tmp_path)}) == 10
    removed, kept_mb = device.collect_garbage(30.0, 1.0)
    assert removed >= 1 and kept_mb <= 1.0
    device.close()
    done = subprocess.run([sys.executable, "-m", "harness.cli", "device", "gc", name, "--fleet", lab.fleet,
                           "--max-age-days", "0"], capture_output=True, text=True, check=False,
                          env={**os.environ, "EDGEFLEET_HOME": str(tmp_path / "home")})
    assert done.returncode == 0 and name in done.stdout and "0.0" in done.stdout, done.stderr


def more(folder: Path) -> dict[str, Path]:
    (folder / "more").write_bytes(b"ten bytes.")
    return {hashlib.sha256(b"ten bytes.").hexdigest(): folder / "more"}


def test_what_was_damaged_over_there_is_brought_again(
        lab: Lab, name: str, devices: Any, content: Any, tmp_path: Path) -> None:
    """Presence is by name; a push verifies what it brought by content."""
    device = open_device(devices[name], Home(tmp_path))
    device.push(content)
    digest = min(content)
    store = f"{device._transport.agent_home.replace('~', '/home/device')}/store"
    assert lab.box(name).enter("rm", f"{store}/{digest}").returncode == 0
    assert device.push(content) == content[digest].stat().st_size
    device.close()
