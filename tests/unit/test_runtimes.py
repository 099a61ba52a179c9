"""Which runtime fits which device, and how it is put together; nothing here needs a network."""
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from harness import apt
from harness.errors import ConfigError, DeviceNotReady, DeviceUnsupported
from harness.fleet import DeviceSpec
from harness.runtimes import aarch64_bundle, install, wheels
from harness.runtimes.machine import Platform, ask
from harness.runtimes.provision import BUNDLE, WHEELS, choose, fetch, remove
from harness.transports.local import LocalTransport

NANO = Platform("aarch64", (3, 6), "m", 64, (2, 27), "/usr/bin/python3.6")


@pytest.mark.parametrize(("machine", "kind"), [
    (NANO, WHEELS),
    (Platform("x86_64", (3, 13), "", 64, (2, 36), "/usr/bin/python3"), WHEELS),
    (Platform("aarch64"), BUNDLE),                                              # a phone
    (Platform("aarch64", (3, 11), "", 32, (2, 36)), BUNDLE),                    # 32-bit system on a 64-bit kernel
    (Platform("aarch64", (3, 11), "", 64, None), BUNDLE),                       # musl, bionic
])
def test_every_device_gets_what_fits_it(machine: Platform, kind: str) -> None:
    assert choose("d", machine) == kind


@pytest.mark.parametrize(("machine", "words"), [
    (Platform("armv7l", (3, 9), "", 32, (2, 31)), "no wheels for 32-bit processors"),
    (Platform("armv8l"), "no Python"),
    (Platform("riscv64", (3, 12), "", 64, (2, 39)), "no wheels for riscv64"),
    (Platform("x86_64"), "Install a Python"),
    (Platform("x86_64", (3, 12), "", 64, None), "not glibc"),
])
def test_a_device_that_nobody_builds_for_is_told_plainly(machine: Platform, words: str) -> None:
    with pytest.raises(DeviceUnsupported, match=words):
        choose("d", machine)


def test_an_old_nano_gets_the_last_runtime_of_its_python() -> None:
    assert wheels.pins((3, 6)) == ("1.10.0", "1.19.5")
    assert NANO.abi == "cp36m"
    tags = wheels.platform_tags("aarch64", (2, 27))
    assert tags[0] == "manylinux_2_27_aarch64" and tags[-1] == "manylinux2014_aarch64"
    assert "manylinux_2_28_aarch64" not in tags
    assert "manylinux1_x86_64" in wheels.platform_tags("x86_64", (2, 36))


def test_a_new_python_gets_the_controller_s_own_versions() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    numpy = pytest.importorskip("numpy")
    assert wheels.pins((3, 12)) == (onnxruntime.__version__, numpy.__version__)


@pytest.mark.parametrize(("said", "error", "words"), [
    ("NewConnectionError: Failed to establish\nERROR: No matching distribution found", ConfigError, "network"),
    ("ERROR: Could not install: [Errno 28] No space left on device", ConfigError, "free some space"),
    ("ERROR: No matching distribution found for numpy==1", DeviceUnsupported, "no wheels of numpy==1"),
    ("ERROR: something else", ConfigError, "something else"),
])
def test_what_pip_says_becomes_one_clear_sentence(said: str, error: type[Exception], words: str) -> None:
    found = wheels._meaning(said, ["numpy==1"], "nano")
    assert isinstance(found, error) and words in str(found)


@pytest.fixture
def empty_index(tmp_path: Path, monkeypatch: Any) -> None:
    """A package index without a package, which needs no network."""
    (tmp_path / "index").mkdir()
    for name, text in (("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path / "index")), ("CONFIG_FILE", "/dev/null"),
                       ("EXTRA_INDEX_URL", "")):
        monkeypatch.setenv(f"PIP_{name}", text)


def test_where_no_wheel_fits_arm_still_takes_the_bundle(empty_index: None, tmp_path: Path) -> None:
    archive = tmp_path / aarch64_bundle.archive_name()
    archive.touch()
    said: list[str] = []
    assert fetch("nano", WHEELS, NANO, tmp_path, said.append) == (BUNDLE, [archive])
    assert "no wheels of onnxruntime==1.10.0" in said[0]
    with pytest.raises(DeviceUnsupported, match=r"nano: Python 3\.6 on x86_64"):
        fetch("nano", WHEELS, NANO._replace(machine="x86_64"), tmp_path, said.append)
    assert not list(tmp_path.rglob("*.part"))


def test_a_real_python_is_asked_and_a_missing_one_is_none(tmp_path: Path) -> None:
    transport = LocalTransport(DeviceSpec(name="here"), tmp_path)
    found = ask(transport, sys.executable)
    assert found.python == sys.version_info[:2] and found.executable == str(Path(sys.executable).resolve())
    assert ask(transport, str(tmp_path / "no-python")).python is None
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho rubbish\n")
    broken.chmod(0o755)
    assert ask(transport, str(broken)).python is None


def test_the_mirror_is_this_machine_s_or_the_stated_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(apt.MIRROR_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=r"names no mirror of Debian.*set EDGEFLEET_DEBIAN_MIRROR"):
        apt.mirror(tmp_path)
    (tmp_path / "sources.list").write_text("deb [arch=amd64] http://ubuntu.example/ubuntu noble main\n"
                                           "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main\n")
    assert apt.mirror(tmp_path) == "http://mirror.example/debian"
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "# a mirror\nTypes: deb\nURIs: https://other.example/debian-security\nSuites: bookworm-security\n\n"
        "Types: deb\nURIs: https://other.example/debian\nSuites: bookworm bookworm-updates\n")
    assert apt.mirror(tmp_path) == "https://other.example/debian"
    monkeypatch.setenv(apt.MIRROR_VARIABLE, "http://own.example/debian")
    assert apt.mirror(tmp_path) == "http://own.example/debian"


def test_a_machine_without_apt_says_what_is_missing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"not installed: apt, dpkg.*Debian or Ubuntu"):
        apt.fetch(["libc6"], "arm64", tmp_path)


def test_the_archive_is_a_function_of_its_files() -> None:
    files = {"b": (0o755, b"two"), "a/x": (0o644, b"one")}
    data = aarch64_bundle.packed(files)
    assert data == aarch64_bundle.packed(dict(reversed(files.items())))
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        assert [(one.name, one.mode) for one in archive] == [("a/x", 0o644), ("b", 0o755)]


def test_packages_that_lack_what_it_needs_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"lack bin/python3.11"):
        aarch64_bundle.contents([], [])


# --- the far end ---------------------------------------------------------------------------------------------------


def stored_wheel(home: Path, name: str, version: str, extra: str = "") -> str:
    """A wheel in the device's store, with half of it in .data/purelib; its sha256."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr(f"{name}-{version}.data/purelib/{name}.py", f"__version__ = {version!r}\n{extra}\n")
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    (home / "store").mkdir(parents=True, exist_ok=True)
    (home / "store" / digest).write_bytes(buffer.getvalue())
    return digest


def far_end(python: str, home: Path, name: str, *digests: str) -> "subprocess.CompletedProcess[str]":
    code = Path(install.__file__).read_text()
    return subprocess.run([python, "-I", "-S", "-c", code, str(home), name, "wheels", *digests], capture_output=True,
                          text=True, timeout=60, check=False)


@pytest.fixture(params=["this", "3.6"])
def python(request: Any, python36: Path | None) -> str:
    if request.param == "this":
        return sys.executable
    if python36 is None:
        pytest.skip("there is no Python 3.6")
    return str(python36)


def test_wheels_become_a_private_environment(python: str, tmp_path: Path) -> None:
    home = tmp_path / "H"
    digests = [stored_wheel(home, "numpy", "1.2"), stored_wheel(home, "onnxruntime", "3.4")]
    done = far_end(python, home, "one", *digests)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"onnxruntime": "3.4", "numpy": "1.2"}
    started = home / "runtime/current/bin/python3"
    code = "import sys, numpy; print(numpy.__version__, sys.prefix)"
    said = subprocess.run([started, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["1.2", str(home / "runtime/current")]
    assert not list((home / "store").iterdir())
    digests = [stored_wheel(home, "numpy", "5.6"), stored_wheel(home, "onnxruntime", "7.8")]
    assert far_end(python, home, "two", *digests).returncode == 0
    assert sorted(path.name for path in (home / "runtime").iterdir()) == ["current", "two"]


@pytest.mark.parametrize(("spoil", "code", "words"), [
    ("damage", install.DAMAGED, "arrived damaged"), ("import", install.NO_START, "cannot be imported there"),
    ("lock", install.BUSY, "a trial runs")])
def test_what_fails_leaves_the_old_runtime(spoil: str, code: int, words: str, tmp_path: Path) -> None:
    home = tmp_path / "H"
    good = [stored_wheel(home, "numpy", "1.2"), stored_wheel(home, "onnxruntime", "3.4")]
    assert far_end(sys.executable, home, "old", *good).returncode == 0
    extra = "import no_such_library" if spoil == "import" else ""
    bad = [stored_wheel(home, "numpy", "2.2"), stored_wheel(home, "onnxruntime", "4.4", extra)]
    if spoil == "damage":
        (home / "store" / bad[0]).write_bytes(b"torn")
    with (home / "lock").open("a") as lock:
        if spoil == "lock":
            import fcntl
            fcntl.flock(lock, fcntl.LOCK_EX)
        done = far_end(sys.executable, home, "new", *bad)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert sorted(path.name for path in (home / "runtime").iterdir()) == ["current", "old"]
    assert (home / "runtime/current").resolve().name == "old"


def provisioned(home: Path, **spec: Any) -> LocalTransport:
    """A device that has a runtime: this very Python."""
    (home / "runtime/wheels-1/bin").mkdir(parents=True)
    (home / "runtime/wheels-1/bin/python3").symlink_to(sys.executable)
    (home / "runtime/current").symlink_to("wheels-1")
    return LocalTransport(DeviceSpec(name="d", home=str(home), **spec), home)


def test_a_runtime_is_not_taken_from_under_a_trial(tmp_path: Path) -> None:
    transport = provisioned(tmp_path)
    with (tmp_path / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeviceNotReady, match=r"d: .* cannot be removed: a trial runs on it"):
            remove("d", transport)
        assert (tmp_path / "runtime/current/bin/python3").exists()
    assert remove("d", transport) and not (tmp_path / "runtime").exists()
    assert not remove("d", transport)


def test_a_runtime_that_stays_is_not_called_removed(tmp_path: Path) -> None:
    """No Python starts there, so the shell removes it, and may not."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "rm").write_text("#!/bin/sh\necho 'rm: read-only file system' >&2\nexit 1\n")
    (programs / "rm").chmod(0o755)
    transport = provisioned(tmp_path / "home", python="/no/python3", env={"PATH": f"{programs}:/usr/bin:/bin"})
    (tmp_path / "home/runtime/wheels-1/bin/python3").unlink()
    (tmp_path / "home/runtime/wheels-1/bin/python3").touch(mode=0o644)
    with pytest.raises(DeviceUnsupported, match="cannot be removed: rm: read-only file system"):
        remove("d", transport)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_package_that_is_none_is_told_in_one_message(tmp_path: Path) -> None:
    bad = tmp_path / "libc6.deb"
    bad.write_bytes(b"!<arch>\nno package")
    with pytest.raises(ConfigError, match=r"libc6\.deb cannot be unpacked"):
        list(apt.members(bad))
