"""Fixtures shared by the whole session: what is slow to make (a bundle) or to find (an old Python) is there once."""
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What a shell starts with & ignores Ctrl-C, and so would a test session."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def no_outside_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test may find the user's own .edgefleet/ by searching upwards; a test that wants a home sets its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFLEET_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def edgefleet_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state folder of this test's own, exported as EDGEFLEET_HOME."""
    home = tmp_path / ".edgefleet"
    home.mkdir()
    monkeypatch.setenv("EDGEFLEET_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of prepared data sets; skips where there is none."""
    folder = os.environ.get("EDGEFLEET_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("EDGEFLEET_DATA names no folder with the data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def python36() -> Path | None:
    """A real Python 3.6, or None where there is none."""
    return find_python36()


def find_python36() -> Path | None:
    """A Python 3.6, the oldest that the agent supports: $EDGEFLEET_PYTHON36, then PATH, then pyenv's."""
    candidates = [os.environ.get("EDGEFLEET_PYTHON36"), shutil.which("python3.6")]
    candidates += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.6.*/bin/python"))]
    for candidate in filter(None, candidates):
        if _version(candidate) == "3.6":
            return Path(candidate)
    return None


def _version(python: str) -> str:
    """'3.6', or '' when it does not start (pyenv's shims exist for versions that are not selected)."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.fixture(scope="session")
def tiny_model() -> str:
    """The network of `tiny_home`: a plug-in of tests/plugins/, as a user would write one."""
    return "tiny"


@pytest.fixture(scope="session")
def tiny_bundles(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Path:
    """bundles/ with one bundle: digits, `tiny_model`, seed 0, one epoch, policies for every method; read-only."""
    home = tmp_path_factory.mktemp("tiny")
    code = ("import sys, pathlib\n"
            "from device_agents import registry\n"
            "from workloads.build import build_bundle\n"
            "from workloads.recipe import Recipe\n"
            "recipe, plugins = Recipe('digits', sys.argv[2], 0, {'epochs': 1}), sys.argv[3:]\n"
            "methods = registry.names('workloads.methods')\n"
            "build_bundle(pathlib.Path(sys.argv[1]), recipe, methods, lambda progress: None, plugins)")
    subprocess.run([sys.executable, "-c", code, home, tiny_model, PLUGINS], check=True, timeout=280,
                   env={**os.environ, "OMP_NUM_THREADS": "1"})      # one thread: quicker than two that must share
    return home / "bundles"


@pytest.fixture
def tiny_home(tmp_path: Path, tiny_bundles: Path) -> Path:
    """A state folder of this test's own in which the bundle of `tiny_bundles` is built already."""
    home = tmp_path / "tiny"
    home.mkdir()
    shutil.copytree(tiny_bundles, home / "bundles")
    return home
