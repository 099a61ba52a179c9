"""agent.pyz is a function of its sources, runs from anywhere, and its cache heals."""
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import device_agents
from harness.agent_zip import build_agent, pack

SOURCES = Path(device_agents.__file__).parent


def write_package(folder: Path) -> Path:
    package = folder / "device_agents"
    (package / "engines").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "engines" / "__init__.py").write_text("")
    (package / "engines" / "replay.py").write_text("WHAT = 'replay'\n")
    (package / "__main__.py").write_text(
        "from device_agents.engines.replay import WHAT\n\n\ndef main():\n    print(WHAT)\n    return 3\n")
    return package


def test_named_by_its_own_hash(tmp_path: Path) -> None:
    agent = build_agent(tmp_path)
    assert hashlib.sha256(agent.path.read_bytes()).hexdigest() == agent.sha256
    assert agent.path.name == f"agent-{agent.sha256[:12]}.pyz"


def test_same_bytes_from_another_folder_umask_and_date(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "device_agents"
    old = os.umask(0o077)
    try:
        shutil.copytree(SOURCES, copy, copy_function=shutil.copyfile)
    finally:
        os.umask(old)
    for path in copy.rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (0, 1_500_000_000))
    assert pack(copy) == pack(SOURCES)


def test_only_sources_are_packed(tmp_path: Path) -> None:
    package = write_package(tmp_path)
    before = pack(package)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "replay.cpython-311.pyc").write_bytes(b"\0")
    (package / "notes.txt").write_text("not cargo")
    assert pack(package) == before


def test_a_changed_source_changes_the_name(tmp_path: Path) -> None:
    package = write_package(tmp_path)
    before = pack(package)
    (package / "engines" / "replay.py").write_text("WHAT = 'other'\n")
    assert pack(package) != before


def test_identical_file_is_left_alone_and_a_damaged_one_is_mended(tmp_path: Path) -> None:
    first = build_agent(tmp_path / "new" / "cache")
    inode = first.path.stat().st_ino
    assert build_agent(first.path.parent) == first
    assert first.path.stat().st_ino == inode
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:-40])
    assert build_agent(first.path.parent) == first
    assert first.path.read_bytes() == whole
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]     # no .part is left behind


def test_holds_every_module_and_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_agent(tmp_path).path) as archive:
        packed = set(archive.namelist())
    expected = {f"device_agents/{path.relative_to(SOURCES).as_posix()}" for path in SOURCES.rglob("*.py")}
    assert packed == expected | {"__main__.py"}


def test_runs_and_passes_the_exit_code_on(tmp_path: Path, python36: Path | None) -> None:
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(pack(write_package(tmp_path)))
    for python in filter(None, (Path(sys.executable), python36)):
        done = subprocess.run([python, archive], capture_output=True, cwd="/", timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"replay\n", b"")


def test_modules_import_from_inside_the_archive_on_old_python(tmp_path: Path, python36: Path | None) -> None:
    if python36 is None:
        pytest.skip("no python3.6 on this machine (set EDGEFLEET_PYTHON36 to one)")
    code = ("import sys; sys.path.insert(0, sys.argv[1])\n"
            "from device_agents import registry, seams, wire\n"
            "print(wire.__file__.startswith(sys.argv[1]), registry.names('device_agents.engines'))")
    agent = build_agent(tmp_path)
    done = subprocess.run([python36, "-c", code, agent.path], stdout=subprocess.PIPE, cwd="/", timeout=60, check=True)
    assert done.stdout.decode().startswith("True [")


def test_a_python_that_is_too_old_is_told_so_and_not_by_a_syntax_error(tmp_path: Path) -> None:
    agent = build_agent(tmp_path)
    code = "import runpy, sys; sys.version_info = (3, 5, 2); runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, agent.path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "edgefleet agent: needs Python >= 3.6, and this is 3.5\n")
