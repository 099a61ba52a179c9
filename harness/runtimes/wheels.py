"""The onnxruntime and numpy wheels that fit a device's Python, fetched here by pip and kept in the cache.

Called by provision.py. The newest versions that a Python has wheels of are pinned below; for Python 3.11 and newer they
are the controller's own, so that a device runs what the controller exports for. Refuses, in plain words, a processor or
C library for which nobody publishes wheels (32-bit ARM, musl).
"""
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import ConfigError, DeviceUnsupported
from harness.runtimes.machine import Platform

PINS = {                                        # (onnxruntime, numpy) by Python version
    (3, 6): ("1.10.0", "1.19.5"),
    (3, 7): ("1.14.1", "1.21.6"),
    (3, 8): ("1.19.2", "1.24.4"),
    (3, 9): ("1.19.2", "2.0.2"),
    (3, 10): ("1.23.2", "2.2.6"),
}
OWN_SINCE = (3, 11)                             # from here on, the versions of the controller
MACHINES = ("x86_64", "aarch64")
FETCH_S = 600.0
_OLD_NAMES = {"x86_64": ((17, "manylinux2014"), (12, "manylinux2010"), (5, "manylinux1")),
              "aarch64": ((17, "manylinux2014"),)}
_NO_NETWORK = ("NewConnectionError", "ConnectTimeoutError", "Failed to establish", "name resolution", "ProxyError",
               "Connection refused", "Network is unreachable", "timed out", "NameResolutionError")


def refusal(machine: Platform) -> str | None:
    """Why no wheels fit this device, None when they do."""
    if machine.python is None:
        return "it has no Python 3.6 or newer"
    if machine.machine.startswith("arm") or machine.bits != 64:
        return f"onnxruntime has no wheels for 32-bit processors or a 32-bit Python ({machine.machine})"
    if machine.machine not in MACHINES:
        return f"onnxruntime has no wheels for {machine.machine}"
    if machine.glibc is None:
        return "its C library is not glibc, and onnxruntime has no wheels for others"
    return None


def pins(python: tuple[int, int]) -> tuple[str, str]:
    """The versions of onnxruntime and numpy for this Python."""
    if python >= OWN_SINCE:
        return importlib.metadata.version("onnxruntime"), importlib.metadata.version("numpy")
    return PINS[python]


def fetch(device: str, machine: Platform, cache: Path) -> list[Path]:
    """The two wheels, from the cache or by pip. Raises ConfigError (no network, no room), DeviceUnsupported."""
    reason = refusal(machine)
    if reason is not None:
        raise DeviceUnsupported(f"{device}: {reason}")
    assert machine.python is not None and machine.glibc is not None
    onnxruntime, numpy = pins(machine.python)
    return download([f"onnxruntime=={onnxruntime}", f"numpy=={numpy}"], machine, cache,
                    f"{device}: Python {machine.version} on {machine.machine}, glibc {machine.glibc[0]}."
                    f"{machine.glibc[1]}")


def download(requirements: Sequence[str], machine: Platform, cache: Path, who: str) -> list[Path]:
    """Wheels of exactly these `name==version`, none of their dependencies. `who` is named in a refusal."""
    assert machine.glibc is not None
    name = "_".join([*requirements, machine.abi, machine.machine, f"glibc{machine.glibc[1]}"]).replace("==", "-")
    folder = cache / "wheels" / name
    if not folder.is_dir():
        part = folder.with_name(f"{name}.{os.getpid()}.part")
        try:
            part.mkdir(parents=True, exist_ok=True)
            _pip(requirements, machine, part, who)
            part.replace(folder)
        except OSError as error:
            raise ConfigError(f"cannot keep wheels in {cache}: {error.strerror}") from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return sorted(folder.glob("*.whl"))


def platform_tags(machine: str, glibc: tuple[int, int]) -> list[str]:
    """Every manylinux tag that runs with this glibc, the newest first; pip adds none by itself."""
    oldest = _OLD_NAMES[machine][-1][0]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc[1], oldest - 1, -1)]
    return tags + [f"{name}_{machine}" for minor, name in _OLD_NAMES[machine] if glibc[1] >= minor]


def _pip(requirements: Sequence[str], machine: Platform, folder: Path, who: str) -> None:
    assert machine.python is not None and machine.glibc is not None
    if importlib.util.find_spec("pip") is None:
        raise ConfigError(f"{sys.executable} has no pip to fetch wheels with; type: {sys.executable} -m ensurepip")
    tags = [word for tag in platform_tags(machine.machine, machine.glibc) for word in ("--platform", tag)]
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *tags,
            "--python-version", machine.version, "--implementation", "cp", "--abi", machine.abi,
            "--dest", str(folder), "--timeout", "30", "--retries", "2", "--disable-pip-version-check", *requirements]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"pip fetched no wheels within {FETCH_S:.0f} s; check the network") from None
    if done.returncode:
        raise _meaning(done.stdout.decode("utf-8", "replace"), requirements, who)


def _meaning(text: str, requirements: Sequence[str], who: str) -> ConfigError | DeviceUnsupported:
    if "No space left" in text:
        return ConfigError("no room for wheels on this machine; free some space (pip's temporary folder counts, too)")
    if any(sign in text for sign in _NO_NETWORK):
        return ConfigError(f"cannot fetch {' and '.join(requirements)}: no package index answers. Check the network "
                           "(or pip's configuration) and type the same command again")
    if "No matching distribution" in text:
        return DeviceUnsupported(f"{who}: there are no wheels of {' and '.join(requirements)} for it. Set `python` in "
                                 "fleet.toml to one that has onnxruntime, or install it there by hand")
    return ConfigError(f"pip failed: {' / '.join(text.strip().splitlines()[-3:])}")
