"""Cables: pushes beside `ssh cat` and `adb push`, small files beside one large, commands, connections, many devices.

Runs against a lab of its own (root; real sshd and adbd in network namespaces); without root against sshd on loopback,
without phones. Ours and theirs take turns on the same link. Payload that travels in a second push is counted on the
device's port, packets and all.
"""
import gzip
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil

from device_agents.wire import Cost
from harness.device import Device, open_device
from harness.fleet import DeviceSpec
from harness.home import Home
from harness.lab import faults
from harness.lab.wire import Shape
from harness.transports.adb import AdbTransport
from harness.transports.ssh import SshTransport
from tests import lab_kit
from tests.agent_kit import make_home, order_for

COMMAND = "make bench"
SIZE_B = 50_000_000
CABLE_MBIT = 200.0                              # as of a phone on USB 2 or Wi-Fi; the lab's wire keeps it
ROUNDS = 7
MANY = 20
TRIALS = 10
SHAPE = (1, 32, 32)
BRANCHES = tuple((f"b{number}", 0.9 - number / 100, 2.0, (56 - number, 8)) for number in range(8))
THERE = "/var/tmp/edgefleet-bench"


def main() -> None:
    loopback = bool(lab_kit.no_namespaces())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        phones = 0 if lab_kit.no_phone() else 1
        with lab_kit.running(folder / "lab", 1, phones, loopback=loopback) as (lab, specs):
            board = next(spec for spec in specs.values() if spec.transport == "ssh")
            files = payload(folder)
            ssh_figures(board, files, folder)
            second_push(open_device(board, Home(folder)), files)
            gap_figure(board, folder)
            for spec in specs.values():
                if spec.transport == "adb":
                    gap_figure(spec, folder)
                    environment = {**os.environ, **lab.adb_environment()}
                    adb_figures(spec, files, environment, folder)
                    faults.inject(lab, spec.name, "slow-link", Shape(rate_mbit=CABLE_MBIT, queue_kb=1024))
                    cable_figures(spec, files, environment, folder)
        with lab_kit.running(folder / "many", MANY, 0, loopback=loopback) as (_, specs):
            many_figures(list(specs.values()), folder)


def figure(name: str, value: float, target: str, unit: str, note: str = "") -> None:
    row = {"figure": name, "value": round(value, 4), "target": target, "unit": unit, "command": COMMAND, "note": note}
    print(json.dumps(row), flush=True)


def payload(folder: Path) -> dict[str, list[Path]]:
    """The same bytes as one file and as two hundred."""
    one = folder / "one"
    one.write_bytes(os.urandom(SIZE_B))
    many = []
    for number in range(200):
        many.append(folder / f"part{number}")
        many[-1].write_bytes(os.urandom(SIZE_B // 200))
    return {"one": [one], "many": many}


def seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turns(*works: Callable[[], Any]) -> list[list[float]]:
    """Seconds of each work in each round, taking turns; one round before is not counted."""
    rounds = [[seconds(work) for work in works] for _ in range(ROUNDS + 1)][1:]
    return [list(column) for column in zip(*rounds)]


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Of rates: above 1 we are faster. The median over the rounds."""
    return statistics.median(their_s / our_s for our_s, their_s in zip(ours, theirs))


def rate_mb_s(times_s: list[float]) -> float:
    return SIZE_B / 1e6 / statistics.median(times_s)


def ssh_figures(spec: DeviceSpec, files: dict[str, list[Path]], folder: Path) -> None:
    made = SshTransport(spec, folder)
    made.run(["mkdir", "-p", THERE], 20.0)
    control = folder / "control"                # their connection is open already, like ours
    theirs = ["ssh", "-F", str(spec.ssh_config), "-p", str(spec.port), "-o", f"ControlPath={control}",
              "-o", "ControlMaster=auto", "-o", "ControlPersist=60", str(spec.host), f"cat > {THERE}/theirs"]

    def ssh_cat() -> None:
        with files["one"][0].open("rb") as source:
            subprocess.run(theirs, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    pushed, cats, smalls = in_turns(lambda: push(made, files["one"]), ssh_cat, lambda: push(made, files["many"]))
    subprocess.run([*theirs[:-2], "-O", "exit", str(spec.host)], capture_output=True, check=False)
    figure("push of 50 MB over ssh, rate beside `ssh cat`", ratio(pushed, cats), ">= 0.9", "x",
           f"{rate_mb_s(pushed):.0f} and {rate_mb_s(cats):.0f} MB/s on open connections, checked whole and renamed")
    figure("push of 200 files over ssh, time beside one file of their size", 1 / ratio(smalls, pushed), "<= 1.3", "x")
    execs_s = [seconds(lambda: made.run(["true"], 20.0)) for _ in range(60)][10:]
    figure("ssh exec of `true` on an open connection", statistics.median(execs_s) * 1e3, "<= 5", "ms",
           f"lowest {min(execs_s) * 1e3:.1f}")
    connects_s = []
    for _ in range(15):
        made.close()
        whole_s = seconds(lambda: made.run(["true"], 20.0))
        connects_s.append(whole_s - statistics.median(execs_s))
    figure("ssh connect and log in", statistics.median(connects_s) * 1e3, "<= 60", "ms",
           f"lowest {min(connects_s) * 1e3:.1f}")
    made.close()


def adb_pushes(spec: DeviceSpec, made: AdbTransport, files: dict[str, list[Path]],
               environment: dict[str, str]) -> list[list[float]]:
    """Seconds of: our push of one file, adb's, our push of many."""
    theirs = ["adb", "-s", str(spec.serial), "push", str(files["one"][0]), f"{THERE}/theirs"]

    def adb_push() -> None:
        subprocess.run(theirs, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)

    made.run(["mkdir", "-p", THERE], 20.0)
    return in_turns(lambda: push(made, files["one"]), adb_push, lambda: push(made, files["many"]))


def adb_figures(spec: DeviceSpec, files: dict[str, list[Path]], environment: dict[str, str], folder: Path) -> None:
    made = AdbTransport(spec, folder)
    pushed, adbs, smalls = adb_pushes(spec, made, files, environment)
    figure("push of 50 MB over adb, rate beside `adb push`", ratio(pushed, adbs), ">= 0.9", "x",
           f"{rate_mb_s(pushed):.0f} and {rate_mb_s(adbs):.0f} MB/s, checked whole and renamed")
    figure("push of 200 files over adb, time beside one file of their size", 1 / ratio(smalls, pushed), "<= 1.3", "x")
    execs_s = [seconds(lambda: made.run(["true"], 20.0)) for _ in range(30)][5:]
    figure("adb shell `true`", statistics.median(execs_s) * 1e3, "", "ms", "a process of adb each")


def cable_figures(spec: DeviceSpec, files: dict[str, list[Path]], environment: dict[str, str], folder: Path) -> None:
    """The same where the cable, and not this machine's memory, is what takes the time."""
    pushed, adbs, smalls = adb_pushes(spec, AdbTransport(spec, folder), files, environment)
    link = f"on a link of {CABLE_MBIT:.0f} Mbit/s"
    figure(f"push of 50 MB over adb {link}, rate beside `adb push`", ratio(pushed, adbs), ">= 0.9", "x",
           f"{rate_mb_s(pushed):.1f} and {rate_mb_s(adbs):.1f} MB/s")
    figure(f"push of 200 files over adb {link}, time beside one file of their size", 1 / ratio(smalls, pushed),
           "<= 1.3", "x")


def gap_figure(spec: DeviceSpec, folder: Path) -> None:
    """From the end of one trial's last inference to the first of the next, eight branches loaded, warm parent."""
    made = folder / spec.name
    bundle = make_home(str(made), BRANCHES, SHAPE)
    device = open_device(spec, Home(folder))
    device.push({path.name: path for path in (made / "store").iterdir()})
    costs = tuple(Cost(branch.id, "onnxruntime_cpu", 2.0, 2.0, 1.0, 60.0, None, "stated") for branch in bundle.branches)
    journals = []
    for number in range(TRIALS):
        order = order_for(bundle, engine="onnxruntime_cpu", knobs={"threads": 1}, costs=costs, id=f"gap{number}",
                          settings={"branch": "b0"}, duration_s=0.2)
        device.start(order)
        waited = device.wait(order.trial.id, order.attempt, 60.0)
        lines = gzip.decompress(waited.journal_gz).splitlines()
        journals.append([line for line in map(json.loads, lines) if line["kind"] == "inference"])
    device.clean([(f"gap{number}", 1) for number in range(TRIALS)])
    device.close()
    gaps = [(other[0]["t_ns"] - one[-1]["t_ns"]) / 1e9 - one[-1]["latency_ms"] / 1e3
            for one, other in pairwise(journals[1:])]
    figure(f"gap between two trials over {spec.transport}", statistics.median(gaps), "<= 0.35", "s",
           f"median of {len(gaps)}, 8 branches loaded, warm parent; lowest {min(gaps):.3f}")


def push(made: Any, paths: list[Path]) -> None:
    made.push([(path, f"{THERE}/{path.name}") for path in paths], 120.0)


def second_push(device: Device, files: dict[str, list[Path]]) -> None:
    """Calls of the transport stand for round trips; there is no other way to the device."""
    content = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files["many"]}
    device.push(content)
    device.close()
    again = open_device(device.spec, Home(files["one"][0].parent))
    calls: list[str] = []
    transport = again._transport
    for name in ("run", "push"):
        setattr(transport, name, _counted(getattr(transport, name), name, calls))
    size_b = again.push(content)
    again.close()
    figure("second push of the same 200 files, payload", size_b, "<= 0", "bytes")
    figure("second push of the same 200 files, round trips", len(calls), "<= 3", "", " · ".join(calls))


def _counted(work: Callable[..., Any], name: str, calls: list[str]) -> Callable[..., Any]:
    def counting(*words: Any, **named: Any) -> Any:
        calls.append(name)
        return work(*words, **named)

    return counting


def many_figures(specs: list[DeviceSpec], folder: Path) -> None:
    """Agent deployed and everything asked that doctor asks, on all devices at once."""
    home = Home(folder)
    before_b = psutil.Process().memory_info().rss
    devices = [open_device(spec, home) for spec in specs]
    threads = [threading.Thread(target=device.probe) for device in devices]

    def all_at_once() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    figure(f"{len(specs)} idle devices to agent deployed and probed", seconds(all_at_once), "<= 15", "s")
    used_mb = (psutil.Process().memory_info().rss - before_b) / 2**20 / len(specs)
    figure("memory of the controller a device", used_mb, "<= 15", "MiB", f"{len(specs)} connections open")
    for device in devices:
        device.close()


if __name__ == "__main__":
    main()
