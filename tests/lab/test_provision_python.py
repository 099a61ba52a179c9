"""`device provision` with real wheels: a bare Python behind a real sshd gets onnxruntime, and a trial runs with it.

Needs a package index, and skips with the reason where none answers.
"""
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.fleet import DeviceSpec
from harness.runtimes import wheels
from harness.runtimes.machine import ask
from harness.transports.local import LocalTransport
from tests import lab_kit
from tests.e2e.spine import edgefleet, query, write_campaign


@pytest.fixture(params=["this", "3.6"])
def bare_python(request: Any, python36: Path | None, tmp_path: Path) -> Path:
    """A Python without any package, as a board has it."""
    if request.param == "3.6" and python36 is None:
        pytest.skip("there is no Python 3.6")
    base = Path(sys.executable).resolve() if request.param == "this" else python36
    folder = tmp_path / "bare"
    (folder / "bin").mkdir(parents=True)
    assert base is not None
    (folder / "bin/python3").symlink_to(base.resolve())
    (folder / "pyvenv.cfg").write_text(f"home = {base.resolve().parent}\n")
    return folder / "bin/python3"


def fill_cache(python: Path, home: Path) -> None:
    """Fetch what the verb will want, or skip."""
    machine = ask(LocalTransport(DeviceSpec(name="here"), home), str(python))
    try:
        wheels.fetch("here", machine, home / "cache/runtimes")
    except ConfigError as error:
        pytest.skip(str(error))


def test_a_bare_python_gets_a_runtime_and_runs_a_trial(bare_python: Path, tiny_home: Path, tmp_path: Path) -> None:
    if lab_kit.no_sshd():
        pytest.skip(lab_kit.no_sshd())
    fill_cache(bare_python, tiny_home)
    with lab_kit.running(tmp_path / "lab", 1, 0, loopback=True) as (_, devices):
        [spec] = devices.values()
        fleet = (f'[devices.nano]\ntransport = "ssh"\nhost = "{spec.host}"\nport = {spec.port}\n'
                 f'ssh_config = "{spec.ssh_config}"\npython = "{bare_python}"\nhome = "{tmp_path}/far/agent"\n')
        campaign = write_campaign(tmp_path, "tiny", fleet, repeats=1)
        flags = ("--fleet", tmp_path / "fleet.toml")
        without = edgefleet("doctor", *flags, home=tiny_home)
        assert without.returncode == 3 and "edgefleet device provision nano" in without.stdout, without.stderr
        done = edgefleet("device", "provision", *flags, home=tiny_home)
        assert done.returncode == 0, done.stdout + done.stderr
        ran = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert query(tiny_home, "select distinct state from trial") == [("done",)]
        [(runtime,)] = query(tiny_home, "select distinct runtime from trial")
        assert runtime.partition(" ")[2] in done.stdout
        gone = edgefleet("device", "provision", "nano", "--remove", *flags, home=tiny_home)
        assert gone.returncode == 0 and "removed" in gone.stdout
        assert edgefleet("doctor", *flags, home=tiny_home).returncode == 3


def test_without_a_package_index_one_sentence_says_so(tiny_home: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """And nothing is kept that a later attempt would take for wheels."""
    for name, text in (("INDEX_URL", "http://127.0.0.1:9/simple"), ("EXTRA_INDEX_URL", ""), ("FIND_LINKS", ""),
                       ("CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(f"PIP_{name}", text)
    (tmp_path / "fleet.toml").write_text("[devices.host]\n")
    done = edgefleet("device", "provision", "--fleet", tmp_path / "fleet.toml", home=tiny_home)
    told = done.stdout + done.stderr
    assert done.returncode == 2 and "no package index answers" in told, told
    assert "Traceback" not in told
    assert not list((tiny_home / "cache/runtimes").rglob("*.whl")) and not list(tiny_home.rglob("*.part"))
