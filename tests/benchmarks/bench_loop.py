"""The agent's own costs: closed loop beside a bare onnxruntime loop, switches, memory, sampler, gap between two trials.

Loop and bare loop take turns inside one process, over the same samples and a branch of at least 2 ms; the ratio is the
median over the pairs. The gap is that of whole trials through the controller's own Device, from the end of one trial's
last inference to the first warm-up inference of the next, eight branches loaded, cold and with a warm parent.
"""
import json
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from device_agents import trial_folder
from device_agents.adapters.fixed import Fixed
from device_agents.arrivals import open_arrivals
from device_agents.clock import BootClock
from device_agents.conditions import Conditions
from device_agents.engines.onnxruntime_cpu import OnnxruntimeCpu
from device_agents.journal import Journal
from device_agents.load import LoadPlayer
from device_agents.loop import Parts, adapt, adapter_view
from device_agents.residency import Residency
from device_agents.sampler import Sampler, open_energy, open_sensors
from device_agents.samples import Samples
from device_agents.trial_process import SWITCH_INTERVAL_S
from device_agents.wire import BranchBundle, Cost, Order
from harness.device import Device, open_device
from harness.fleet import DeviceSpec
from harness.home import Home
from tests.agent_kit import IDLE, make_home, order_for, put

COMMAND = "make bench"
SHAPE = (1, 32, 32)
BRANCHES = tuple((f"b{number}", 0.9 - number / 100, 2.0, (50 - number, 8)) for number in range(8))
PAIRS, BLOCK_S = 100, 0.2
TRIALS = 12
SWITCHING = '''"""Takes turns: ten inferences on each branch."""
from device_agents.seams import Adapter
from device_agents.wire import Decision


class Turns(Adapter):
    def start(self, view, learned):
        self.names, self.count = [branch.id for branch in view.branches], 0
        return Decision(self.names[0])

    def decide(self, context, last):
        self.count += 1
        return Decision(self.names[self.count // 10 % len(self.names)])
'''


def main() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with tempfile.TemporaryDirectory() as folder:
        loop_figures(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        process_figures(Path(folder))


def figure(name: str, value: float, target: str, unit: str, note: str = "") -> None:
    row = {"figure": name, "value": round(value, 4), "target": target, "unit": unit, "command": COMMAND, "note": note}
    print(json.dumps(row), flush=True)


def loop_figures(folder: Path) -> None:
    """Ratio and difference of one inference in the loop and in a bare loop, over the full branch."""
    bundle = make_home(str(folder / "H"), BRANCHES, SHAPE)
    order = order_of(bundle, settings={"branch": "b0"})
    clock, store = BootClock(), str(folder / "H" / "store")
    engine, journal = OnnxruntimeCpu(), Journal(str(folder / "trial.jsonl"), clock)
    engine.open(bundle, store, {})
    residency = Residency("all", bundle, engine, clock, journal)
    residency.start("b0", {})
    run, outputs, name = engine._sessions["b0"]
    samples = Samples(bundle, store, 7)
    inputs = [engine._samples[samples.next()] for _ in range(bundle.count)]
    adapter = Fixed()
    first = adapter.start(adapter_view(order, bundle), None)
    bare_us: list[float] = []
    ours_us: list[float] = []
    for _ in range(PAIRS):
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < BLOCK_S:
            run(outputs, {name: inputs[count % len(inputs)]})
            count += 1
        bare_us.append((time.perf_counter() - begun) / count * 1e6)
        sampler = Sampler("", 10.0, clock, journal, open_sensors(), open_energy("", None), lambda: ([], []), None)
        load = LoadPlayer(IDLE, 1, clock=clock, journal=journal)
        parts = Parts(order, bundle, store, journal, clock, engine, adapter, sampler, load)
        sampler.start()
        t0_ns = clock.now_ns()
        arrivals = open_arrivals({"kind": "closed"}, None, IDLE, "", t0_ns, t0_ns + int(BLOCK_S * 1e9), clock)
        begun = time.perf_counter()
        counts = adapt(parts, first, arrivals, Conditions(order, t0_ns), residency, samples)
        ours_us.append((time.perf_counter() - begun) / counts["inferences"] * 1e6)
        sampler.stop()
    journal.close("done")
    note = f"branch of {statistics.median(bare_us) / 1e3:.2f} ms, {PAIRS} interleaved pairs, sampler at 10 Hz"
    ratios = [bare / ours for bare, ours in zip(bare_us, ours_us)]
    figure("closed loop, throughput beside a bare onnxruntime loop", statistics.median(ratios), ">= 0.97", "x", note)
    added = [ours - bare for bare, ours in zip(bare_us, ours_us)]
    figure("closed loop, added to an inference", statistics.median(added), "<= 60", "us", note)


def process_figures(folder: Path) -> None:
    """Whole trials on a local device."""
    home = Home(folder)
    starts = (("cold start of the agent", 0.0, "<= 0.25"), ("forked by a warm parent", 20.0, "<= 0.15"))
    for note, warm_s, target in starts:
        device = open_device(DeviceSpec(name=f"local{int(warm_s)}", warm_s=warm_s), home)
        bundle = make_home(str(home.device(device.spec.name)), BRANCHES, SHAPE)
        journals = [journal_of(device, order_of(bundle, id=f"t{number}", settings={"branch": "b0"}, duration_s=0.2))
                    for number in range(TRIALS)]
        gaps = [gap_s(one, other) for one, other in pairwise(journals)]
        figure(f"gap between two trials, {note}", statistics.median(gaps), target, "s",
               f"median of {len(gaps)}, 8 branches loaded; lowest {min(gaps):.3f}, highest {max(gaps):.3f}")
    device = open_device(DeviceSpec(name="turns"), home)
    agent_home = home.device("turns")
    bundle = make_home(str(agent_home), BRANCHES, SHAPE)
    plugin = put_plugin(agent_home)
    turns = {"method": "turns", "settings": {}, "plugins": plugin, "duration_s": 24.0}
    resident = journal_of(device, order_of(bundle, id="all", **turns))
    done = resident[-1]
    first, fifth = switch_costs_ms(resident, 0), switch_costs_ms(resident, 4)
    figure("first inference after a switch between resident branches, p99 of what it takes longer",
           percentile(first, 0.99), "<= 1", "ms",
           f"median {statistics.median(first):.3f} ms of {len(first)} switches; the fifth inference after each, where "
           f"nothing was switched, has p99 {percentile(fifth, 0.99):.2f} ms: that much is the machine's own")
    loading = switch_costs_ms(journal_of(device, order_of(bundle, id="one", residency="one", **turns)), 0)
    figure("first inference after a switch that must load, median of what it takes longer", statistics.median(loading),
           "", "ms", f"p99 {percentile(loading, 0.99):.2f} ms; residency one, {len(loading)} switches")
    figure("agent with onnxruntime and eight branches resident, peak RSS", done["peak_rss_mb"], "<= 100", "MiB")
    figure("sampler at 10 Hz, of one core", done["sampler_cpu_pct"], "< 1", "%")


def order_of(bundle: BranchBundle, **changes: Any) -> Order:
    costs = tuple(Cost(branch.id, "onnxruntime_cpu", 2.0, 2.0, 1.0, 60.0, None, "stated") for branch in bundle.branches)
    return order_for(bundle, engine="onnxruntime_cpu", knobs={"threads": 1}, costs=costs, **changes)


def put_plugin(agent_home: Path) -> dict[str, str]:
    return {"adapters/turns": put(str(agent_home / "store"), SWITCHING.encode())}


def journal_of(device: Device, order: Order) -> list[dict[str, Any]]:
    """Run the order as the runner does, and read what it wrote."""
    device.deploy()
    device.start(order)
    device.wait(order.trial.id, order.attempt, 60.0)
    folder = trial_folder.TrialFolder(device._transport.agent_home, f"{order.trial.id}.{order.attempt}")
    return [json.loads(line) for line in Path(folder.journal).read_text().splitlines()]


def gap_s(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> float:
    last = [line for line in one if line["kind"] == "inference"][-1]
    first = next(line for line in other if line["kind"] == "inference")
    return (first["t_ns"] - last["t_ns"]) / 1e9 - last["latency_ms"] / 1e3


def switch_costs_ms(journal: list[dict[str, Any]], number: int) -> list[float]:
    """Of the inference `number` after every switch of the window: switch and latency, less the median of the others."""
    window = [line for line in journal if line["kind"] == "inference" and line["phase"] == "window"]
    costs, place = [], 1
    while place < len(window):
        branch = window[place]["branch"]
        if branch == window[place - 1]["branch"]:
            place += 1
            continue
        run = [line for line in window[place:place + 10] if line["branch"] == branch]
        if len(run) > 5:
            usual = statistics.median(line["latency_ms"] for line in run[1:])
            costs.append(run[number]["switch_ms"] + run[number]["latency_ms"] - usual)
        place += len(run)
    return costs


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    main()
