"""Which devices answer, and what can they run? One read-only probe of each, all at once.

Called by resolve.py and doctor. What a device said last is in the store (`known_facts`). Refuses to raise for a device
that is silent: its reason is an answer, too. Keeps nothing.
"""
import errno
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, DeviceUnsupported, EdgefleetError
from harness.fleet import NO_RUNTIME, DeviceSpec
from harness.home import Home, find_home

AT_ONCE = 16                                    # devices that are asked at the same time
Facts = dict[str, Any]                          # what a probe says, see the agent's probe.py


def runtime_of(facts: Mapping[str, Any] | None, engine: str) -> str | None:
    """The runtime that a probe's facts name for `engine`, NO_RUNTIME when the device lacks it, None when not known."""
    answer = (facts or {}).get("engines", {}).get(engine)
    return None if answer is None else answer.get("runtime") or NO_RUNTIME


def known_facts(home: Home | None) -> dict[str, Facts]:
    """device -> the facts of its last probe, from the store. Empty without a store."""
    if home is None or not home.has_results():
        return {}
    from db.store import Store

    with Store.read_only(home.results) as store:
        return {row["name"]: row["facts"] for row in store.devices()}


def ask_devices(devices: Sequence[DeviceSpec], engines: Sequence[str], home: Home | None,
                plugin_dirs: Sequence[str] = ()) -> tuple[dict[str, Facts], dict[str, str]]:
    """Probe all devices at once: answers by device, and the reasons of those that gave none.

    Engines of `plugin_dirs` are pushed, to be asked. Without a home nothing is left behind on this machine.
    """
    if not devices:
        return {}, {}
    with ExitStack() as stack:
        if home is None:
            devices = [_with_its_runtime(spec) for spec in devices]
            home = Home(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgefleet-"))))
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=min(AT_ONCE, len(devices))))
        answers = list(pool.map(lambda spec: _ask(spec, engines, home, plugin_dirs), devices))
    facts = {spec.name: answer for spec, answer in zip(devices, answers) if isinstance(answer, dict)}
    return facts, {spec.name: answer for spec, answer in zip(devices, answers) if isinstance(answer, str)}


def _with_its_runtime(spec: DeviceSpec) -> DeviceSpec:
    """A local device is asked in another folder than its own, so that it must be told of its provisioned Python."""
    from harness.device import PROVISIONED

    home = find_home(Path.cwd())
    if spec.transport != "local" or spec.home is not None or home is None:
        return spec
    python = Home(home).device(spec.name) / PROVISIONED
    return spec.model_copy(update={"python": str(python)}) if python.exists() else spec


def _ask(spec: DeviceSpec, engines: Sequence[str], home: Home, plugin_dirs: Sequence[str]) -> Facts | str:
    from harness.device import open_device, plugin_files

    try:
        device = open_device(spec, home)
        try:
            facts, answered_ns = device.probe(plugin_files(plugin_dirs)), time.time_ns()
        finally:
            device.close()
        unknown = {engine: {"runtime": None, "reason": f"its agent has no engine {engine}"} for engine in engines}
        return {**facts, "answered_ns": answered_ns, "engines": {**unknown, **facts.get("engines", {})}}
    except DeviceUnsupported as error:          # no Python at all: the device is there and cannot run anything
        return {"engines": {engine: {"runtime": None, "reason": str(error)} for engine in engines}}
    except ConfigError:
        raise
    except EdgefleetError as error:
        return str(error)
    except Exception as error:                  # whatever it is, the other devices go on
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise                               # but for this machine's disk: no device's trouble
        return f"unexpected {type(error).__name__}: {error}; if this device is in order, it is a bug of edgefleet"
