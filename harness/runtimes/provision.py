"""Give a device an inference runtime of its own, in the agent's private folder: which kind, and its journey.

Called by the verb `device provision`. `choose` decides from what the device is; wheels.py or aarch64_bundle.py make the
files on this machine; they travel to the device's store by sha256 and install.py makes a runtime of them over there.
From then on device.py starts the agent with it. Refuses a device for which nobody publishes a runtime, and says so.
"""
import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from harness.cable.push_stream import room
from harness.device import PROVISIONED, PUSH_FLOOR_B_S, QUICK_S, AgentTransport
from harness.errors import DeviceError, DeviceNotReady, DeviceUnreachable, DeviceUnsupported
from harness.runtimes import aarch64_bundle, install, under_lock, wheels
from harness.runtimes.machine import Platform, ask
from harness.seams import Completed

WHEELS, BUNDLE = "wheels", "bundle"
INSTALL_S = 900.0
REMOVE_S = 120.0                                # some thousand files on a worn card
_SIZES = 'for one; do wc -c < "$one" 2>/dev/null || echo 0; done'
_FETCHING = threading.Lock()                    # one cache, many devices


class Provisioned(NamedTuple):
    """What a device has now."""

    kind: str
    runtime: str
    pushed_b: int


def choose(device: str, machine: Platform) -> str:
    """WHEELS for a device with a Python that they fit, else BUNDLE for 64-bit ARM. Raises DeviceUnsupported."""
    reason = wheels.refusal(machine)
    if reason is None and machine.python is not None and (machine.python in wheels.PINS
                                                          or machine.python >= wheels.OWN_SINCE):
        return WHEELS
    if machine.machine == "aarch64":
        return BUNDLE
    todo = ("Install a Python 3.6 or newer there, or set `python` of this device in fleet.toml"
            if machine.machine in wheels.MACHINES else
            "No runtime can be provisioned for it; a 64-bit system on the same board would do, where there is one")
    raise DeviceUnsupported(f"{device}: {reason}. {todo}.")


def provision(device: str, transport: AgentTransport, cache: Path, say: Callable[[str], None]) -> Provisioned:
    """Raises DeviceError (unreachable, unsupported, full, busy) and ConfigError (no network or room here)."""
    machine = ask(transport, transport.python)
    kind = choose(device, machine)
    say(f"{device}: {machine.machine}, {'Python ' + machine.version if machine.python else 'no usable Python'}: {kind}")
    kind, files = fetch(device, kind, machine, cache, say)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}
    base = machine.executable if kind == WHEELS else ""
    name = f"{kind}-{hashlib.sha256(' '.join([base, *digests]).encode()).hexdigest()[:12]}"
    _locked(device, transport, "check")
    home = transport.agent_home
    python, pushed_b = f"{home}/runtime/{name}/bin/python3", 0
    if transport.run(["sh", "-c", '"$1" -I -S -c ""', "sh", python], QUICK_S).rc:        # else it is there already
        pushed_b = _bring(transport, digests)
        python = transport.python if kind == WHEELS else _unpack(device, transport, name, digests)
    done = transport.run([python, "-I", "-S", "-c", _source(install), home, name, kind, *digests], INSTALL_S)
    if done.rc:
        raise _failure(device, done)
    found = json.loads(done.stdout)
    return Provisioned(kind, f"onnxruntime {found['onnxruntime']}, numpy {found['numpy']}", pushed_b)


def fetch(device: str, kind: str, machine: Platform, cache: Path,
          say: Callable[[str], None]) -> tuple[str, list[Path]]:
    """The files, and of what kind they are: a C library or a Python that no wheel fits may still take the bundle."""
    with _FETCHING:
        if kind == WHEELS:
            try:
                return kind, wheels.fetch(device, machine, cache)
            except DeviceUnsupported as error:
                if machine.machine != "aarch64":
                    raise
                say(f"{error}. It gets a Python of its own")
        return BUNDLE, [aarch64_bundle.archive(cache, say)]


def remove(device: str, transport: AgentTransport) -> bool:
    """Take a provisioned runtime away; whether there was one. Raises DeviceError: unreachable, busy, may not."""
    home = transport.agent_home
    there = transport.run(["ls", f"{home}/{PROVISIONED}"], QUICK_S).rc == 0
    if not _locked(device, transport, "remove"):
        done = transport.run(["rm", "-rf", f"{home}/runtime"], QUICK_S)
        if done.rc:
            raise _failure(device, done, "removed")
    return there


def _locked(device: str, transport: AgentTransport, verb: str) -> bool:
    """Whether some Python did it: where none starts, no agent runs that could hold the lock. Raises DeviceNotReady."""
    for python in (f"{transport.agent_home}/{PROVISIONED}", transport.python):
        try:
            done = transport.run([python, "-I", "-S", "-c", _source(under_lock), transport.agent_home, verb], REMOVE_S)
        except DeviceUnsupported:               # how a local device says that there is no such program
            continue
        if done.rc in (under_lock.BUSY, under_lock.CANNOT_WRITE):
            raise _failure(device, done, "removed" if verb == "remove" else "installed")
        if done.rc == 0:
            return True
    return False


def _bring(transport: AgentTransport, digests: dict[str, Path]) -> int:
    """Push what the device's store lacks; the bytes that travelled."""
    there = {f"{transport.agent_home}/store/{digest}": path for digest, path in digests.items()}
    sizes = transport.run(["sh", "-c", _SIZES, "sh", *there], QUICK_S).stdout.split()
    lacking = [(path, place) for (place, path), size in zip(there.items(), sizes, strict=True)
               if int(size) != path.stat().st_size]
    size_b = sum(path.stat().st_size for path, _ in lacking)
    transport.push(lacking, QUICK_S + size_b / PUSH_FLOOR_B_S)
    return size_b


def _unpack(device: str, transport: AgentTransport, name: str, digests: dict[str, Path]) -> str:
    """The bundle's own Python in NAME.part, unpacked by the shell, because there is no Python yet."""
    [(digest, path)] = digests.items()
    with path.open("rb") as file:
        file.seek(-4, 2)
        unpacked_b = int.from_bytes(file.read(), "little")      # how a gzip file ends
    script = ('set -e; umask 077; part="$1/runtime/$2.part"; rm -rf "$part"; mkdir -p "$part"; cd "$part"; '
              f'{room(".", unpacked_b)}'
              'gzip -dc < "$1/store/$3" | tar -xof -; [ -x bin/python3 ]')
    done = transport.run(["sh", "-c", script, "sh", transport.agent_home, name, digest], INSTALL_S)
    if done.rc:
        transport.run(["rm", "-rf", f"{transport.agent_home}/runtime/{name}.part"], QUICK_S)
        raise _failure(device, done)
    return f"{transport.agent_home}/runtime/{name}.part/bin/python3"


def _failure(device: str, done: Completed, what: str = "installed") -> DeviceError:
    words = done.stderr.decode("utf-8", "replace").strip()
    last = words.splitlines()[-1] if words else f"exit status {done.rc}, no message"
    if done.rc == install.NO_ROOM or "No space left" in words:
        return DeviceNotReady(f"{device}: its disk is full: {last}. Free some space there, or type: "
                              f"edgefleet device gc {device}")
    kinds: dict[int, type[DeviceError]] = {install.BUSY: DeviceNotReady, install.DAMAGED: DeviceUnreachable}
    return kinds.get(done.rc, DeviceUnsupported)(f"{device}: the runtime cannot be {what}: {last}")


def _source(module: ModuleType) -> str:
    """Of what runs over there."""
    return Path(str(module.__file__)).read_text(encoding="utf-8")

