"""How fast is the cable to a device? The time of a command that does nothing, and the rate of a push of 1 MB.

Called by doctor for devices that answered. The transport alone is asked, so that neither Python's start nor the agent
is in the numbers. Refuses a device on which a trial runs: its measured window is silent. Leaves nothing there, but
the agent's folder where no agent could make it yet.
"""
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.device import PUSH_FLOOR_B_S, QUICK_S, AgentTransport, held_trials, open_transport
from harness.errors import EdgefleetError
from harness.fleet import DeviceSpec
from harness.home import Home

CABLES = ("ssh", "adb")
ROUNDS = 5
SIZE_B = 1_000_000
AT_ONCE = 2                                     # more would share this machine's own cores and network
NAME = "link-check"                             # below the agent's home, for a moment

Link = dict[str, Any]                           # rtt_ms, push_mb_s: None where `reason` says why


def check_links(devices: Sequence[DeviceSpec], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Link]:
    """By device, of those that answered and are at the end of a cable."""
    there = [spec for spec in devices if spec.transport in CABLES and spec.name in facts]
    with tempfile.TemporaryDirectory(prefix="edgefleet-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        payload = Path(folder) / NAME
        payload.write_bytes(os.urandom(SIZE_B))     # a link that compresses would look too fast
        answers = pool.map(lambda spec: _check(spec, facts[spec.name], Home(Path(folder)), payload), there)
        return {spec.name: answer for spec, answer in zip(there, answers, strict=True)}


def _check(spec: DeviceSpec, facts: Mapping[str, Any], home: Home, payload: Path) -> Link:
    found: Link = {"rtt_ms": None, "push_mb_s": None, "reason": None}
    if any(one.state == "running" for one in held_trials(facts, ()).values()):
        return {**found, "reason": "a trial runs on it"}
    try:
        with contextlib.closing(open_transport(spec, home)) as transport:
            found["rtt_ms"] = _rtt_ms(transport)
            found["push_mb_s"] = _push_mb_s(transport, payload)
    except EdgefleetError as error:
        found["reason"] = str(error)
    return found


def _rtt_ms(transport: AgentTransport) -> float:
    transport.run(["true"], QUICK_S)            # logs in
    times_s = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        transport.run(["true"], QUICK_S)
        times_s.append(time.monotonic() - began)
    return round(statistics.median(times_s) * 1e3, 2)


def _push_mb_s(transport: AgentTransport, payload: Path) -> float:
    place = f"{transport.agent_home}/{NAME}"
    began = time.monotonic()
    try:
        transport.push([(payload, place)], QUICK_S + SIZE_B / PUSH_FLOOR_B_S)
        return round(SIZE_B / 1e6 / (time.monotonic() - began), 2)
    finally:
        transport.run(["rm", "-f", place], QUICK_S)
