"""A device's folder with a real bundle in it, for the tests of the agent and its benchmarks. Runs on Python 3.6.

The networks are real ONNX files (opset 13, IR 7), written here byte by byte so that no test of the agent needs the onnx
package: a stack of 3x3 convolutions of some width and depth, pooled, with random weights. Their answers mean nothing;
labels are drawn so that the first branch is always right. Orders are complete and can be changed field by field.
"""
import array
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import textwrap
import time
from typing import Any

from device_agents.wire import (
    Branch,
    BranchBundle,
    Cost,
    LoadTrace,
    Order,
    Trial,
    bundle_to_json,
    canonical_json,
    order_to_json,
)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
IDLE = LoadTrace("idle", ("t_s", "cpu_pct", "mem_mb"), ((0.0, 0.0, 0.0),))
#: id, accuracy, stated idle latency in ms, (channels, layers)
BRANCHES = (("full", 0.95, 8.0, (16, 3)), ("half", 0.9, 4.0, (8, 3)), ("exit", 0.8, 2.0, (8, 1)))
SHAPE, COUNT = (1, 8, 8), 20
SOON_S = 20.0                                   # a deadline of tests, never a measurement


def pem(kind: str, body: str) -> str:
    lines = "\n".join(textwrap.wrap(body, 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"


#: What harness/certificate.py makes for a trial, made once: a pair, and another certificate.
PEER_KEY = pem("PRIVATE KEY",
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg7S2tzm+AbB+64dLbMdu600U5bczWesJpYhkl1Oew7UGhRANCAAS9"
    "N79An1GPQBGewsVE6nvVygdi9VB1JzGFr7uJAUagNzyZB2mxNdTpsFuCtiqjLqlM/xXiXeL4fmJxLrSEHYmb")
PEER_CERTIFICATE = pem("CERTIFICATE",
    "MIIBQjCB6qADAgECAhQqitzMM87QdlH5FHNvpLZuJj+kgDAKBggqhkjOPQQDAjAZMRcwFQYDVQQDDA5lZGdlZmxlZXQgcGVlcjAe"
    "Fw03MDAxMDEwMDAwMDBaFw00OTEyMzEwMDAwMDBaMBkxFzAVBgNVBAMMDmVkZ2VmbGVldCBwZWVyMFkwEwYHKoZIzj0CAQYIKoZI"
    "zj0DAQcDQgAEvTe/QJ9Rj0ARnsLFROp71coHYvVQdScxha+7iQFGoDc8mQdpsTXU6bBbgrYqoy6pTP8V4l3i+H5icS60hB2Jm6MQ"
    "MA4wDAYDVR0TAQH/BAIwADAKBggqhkjOPQQDAgNHADBEAiAHTbiXaBcqsDiTnZZWTZrvn6L8/mmL9H0/ipLpvr6BAAIgKIdpmRuf"
    "+FA87PBnrOBJTN6QmaXv8oBqY5axOf6WNEU=")
OTHER_CERTIFICATE = pem("CERTIFICATE",
    "MIIBQzCB6qADAgECAhRdfDZPwSjOxTdWQVczsOCvSYzgbDAKBggqhkjOPQQDAjAZMRcwFQYDVQQDDA5lZGdlZmxlZXQgcGVlcjAe"
    "Fw03MDAxMDEwMDAwMDBaFw00OTEyMzEwMDAwMDBaMBkxFzAVBgNVBAMMDmVkZ2VmbGVldCBwZWVyMFkwEwYHKoZIzj0CAQYIKoZI"
    "zj0DAQcDQgAE71o9dnZ6LLOCWGfng3k1BhgHZ06pPuelhiJIkGlcAkh624IgmFsX++zj3W1onZ5OUSCaf7BYhOlBJqrnfAN1PqMQ"
    "MA4wDAYDVR0TAQH/BAIwADAKBggqhkjOPQQDAgNIADBFAiBLCFO2MxYfcnahzXBkz9j5lyM26ZGX1b1LBT/+prG48AIhAJaas1Yg"
    "WrqG8PUzkYV0PmqdMqsvWZd3Xuc5RRqKU/Hl")


def make_home(path: str, branches: Any = BRANCHES, shape: tuple = SHAPE, form: str = "onnx") -> BranchBundle:
    """Fill `path`/store with a bundle of these branches, as ONNX files or in the form "evolve"; returns it."""
    store = os.path.join(path, "store")
    os.makedirs(store)
    os.makedirs(os.path.join(path, "trials"))
    rng = random.Random(7)
    numbers = array.array("f", (rng.uniform(-1, 1) for _ in range(COUNT * shape[0] * shape[1] * shape[2])))
    made, models = [], {name: onnx_bytes(*look, shape) for name, _, _, look in branches}
    files = {}
    if form == "evolve":
        weights, models = evolved(branches, models, shape)
        files = {"weights.bin": put(store, weights)}
    for name, accuracy, _, (channels, layers) in branches:
        made.append(Branch(name, put(store, models[name]), accuracy, channels ** 2 * layers, 100, len(models[name]),
                           "float32", name))
    labels = json.dumps([sample % 10 for sample in range(COUNT)]).encode("ascii")
    bundle = BranchBundle("", "kit", "stack", 7, 10, shape, "float32", put(store, numbers.tobytes()),
                          put(store, labels), COUNT, tuple(made), {"form": form} if files else {}, files)
    return bundle._replace(id=put(store, canonical_json(bundle_to_json(bundle)).encode("ascii")))


def put(store: str, data: bytes) -> str:
    """Put bytes into the store; returns their sha256."""
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(store, digest), "wb") as file:
        file.write(data)
    return digest


def order_for(bundle: BranchBundle, attempt: int = 1, token: int = 1, period_ms: Any = None, deadline_ms: Any = None,
              preflight: Any = None, plugins: Any = None, extra: Any = None, costs: Any = None,
              provenance: str = "measured", **trial: Any) -> Order:
    """An order for half a second of `fixed` on the replay engine; `trial` overrides fields of the Trial."""
    values = {
        "id": "t1", "campaign": "kit", "device": "host", "peers": (), "task": "kit", "model": "stack",
        "bundle": bundle.id, "method": "fixed", "label": "fixed-full", "settings": {"branch": "full"}, "learned": None,
        "engine": "replay", "runtime": "replay 1", "knobs": {}, "residency": "all", "trace": IDLE,
        "arrival": {"kind": "closed"}, "deadline": {}, "late": "drop", "duration_s": 0.5, "warmup_s": 0.0,
        "sample_hz": 10.0, "accuracy_floor": None, "slowdown": 1.0, "seed": 7, "repeat": 0, "block": 0}
    values.update(trial)
    return Order(Trial(**values), attempt, token, period_ms, deadline_ms,
                 costs_of(values["engine"]) if costs is None else costs, preflight or {}, provenance, None,
                 plugins or {}, extra or {})


def costs_of(engine: str) -> tuple:
    return tuple(Cost(name, engine, ms, ms, 1.0, 50.0, None, "stated") for name, _, ms, _ in BRANCHES)


def push(home: str, order: Order) -> str:
    """Write trial.json; returns the trial's name."""
    name = f"{order.trial.id}.{order.attempt}"
    os.makedirs(os.path.join(home, "trials", name))
    with open(os.path.join(home, "trials", name, "trial.json"), "w") as file:
        json.dump(order_to_json(order), file)
    return name


def agent_argv(verb: str, home: str, *words: str) -> list:
    return [sys.executable, "-m", "device_agents", verb, "--home", home, *words]


def journal_of(home: str, name: str) -> list:
    with open(os.path.join(home, "trials", name, "trial.jsonl")) as file:
        return [json.loads(line) for line in file]


def call(verb: str, home: str, *words: str, stdin: bytes = b"", env: Any = None) -> Any:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}      # capture_output is younger than Python 3.6
    done = subprocess.run(agent_argv(verb, home, *words), cwd=ROOT, input=stdin, timeout=60,
                          env=dict(os.environ, **(env or {})), **pipes)
    done.said = done.stderr.decode("utf-8")
    assert done.returncode in (0, 1, 2, 3, 4, 5)
    assert done.returncode == 1 or "Traceback" not in done.said or "failed (" in done.said, done.said
    return done


def answer(verb: str, home: str, *words: str, stdin: bytes = b"") -> Any:
    done = call(verb, home, *words, stdin=stdin)
    assert done.returncode == 0, done.said
    return json.loads(done.stdout.decode("utf-8"))


def begun(home: str, name: str) -> int:
    """Wait until the trial's window is open; returns the process id of the trial."""
    give_up = time.monotonic() + SOON_S
    while time.monotonic() < give_up:
        try:
            if any(line["phase"] == "window" for line in journal_of(home, name)):
                with open(os.path.join(home, "lock")) as file:
                    return int(json.load(file)["pid"])
        except (OSError, ValueError):
            pass
        time.sleep(0.02)
    raise AssertionError("the trial did not begin: " + read(home, name, "stderr.log"))


def read(home: str, name: str, file_name: str) -> str:
    path = os.path.join(home, "trials", name, file_name)
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        return file.read()


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def eventually(condition: Any) -> bool:
    give_up = time.monotonic() + SOON_S
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def children_of(pid: int) -> list:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    if int(file.read().rpartition(")")[2].split()[1]) == pid:
                        found.append(int(entry))
            except OSError:
                pass
    return found


def onnx_bytes(channels: int, layers: int, shape: tuple, classes: int = 10) -> bytes:
    """A ModelProto: `layers` x (Conv 3x3 + Relu), GlobalAveragePool, Flatten, Gemm."""
    nodes, last = [], "x"
    for number in range(layers):
        nodes.append(_node("Conv", [last, f"w{number}"], f"c{number}", [_ints("kernel_shape", (3, 3)),
                                                                            _ints("pads", (1, 1, 1, 1))]))
        nodes.append(_node("Relu", [f"c{number}"], f"r{number}", []))
        last = f"r{number}"
    nodes += [_node("GlobalAveragePool", [last], "p", []), _node("Flatten", ["p"], "f", []),
              _node("Gemm", ["f", "g", "b"], "y", [])]
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, b"stack")
    graph += b"".join(_bytes(5, _tensor(*one)) for one in tensors(channels, layers, shape, classes))
    graph += _bytes(11, _value("x", (1, *shape))) + _bytes(12, _value("y", (1, classes)))
    return _number(1, 7) + _bytes(7, graph) + _bytes(8, _bytes(1, b"") + _number(2, 13))


def tensors(channels: int, layers: int, shape: tuple, classes: int = 10) -> list:
    """(name, shape, raw float32) of the network's random weights, in the file's order."""
    rng = random.Random(channels * 100 + layers)
    shapes = [(f"w{number}", (channels, channels if number else shape[0], 3, 3)) for number in range(layers)]
    shapes += [("g", (channels, classes)), ("b", (classes,))]
    made = []
    for name, sizes in shapes:
        count = 1
        for size in sizes:
            count *= size
        made.append((name, sizes, struct.pack(f"<{count}f", *(rng.gauss(0.0, 0.2) for _ in range(count)))))
    return made


def evolved(branches: Any, models: dict, shape: tuple) -> tuple:
    """All weights in one file, and a recipe a branch that cuts its ONNX file apart; see onnxruntime_evolve.py."""
    parent = b"".join(raw for *_, look in branches for _, _, raw in tensors(*look, shape))
    recipes = {}
    for name, _, _, look in branches:
        layers, pieces, at, model = [], [], 0, models[name]
        for _, sizes, raw in tensors(*look, shape):
            strides, end = [1], model.index(raw, at)
            for size in reversed(sizes[1:]):
                strides.insert(0, strides[0] * size)
            layers.append({"weight": [parent.index(raw) // 4, sizes, strides]})
            pieces.append(model[at:end])
            at = end + len(raw)
        pieces.append(model[at:])
        recipes[name] = recipe_bytes({"weights": hashlib.sha256(parent).hexdigest(), "layers": layers,
                                      "holes": [(number, 0) for number in range(len(layers))]}, b"", pieces)
    return parent, recipes


def recipe_bytes(head: dict, statistics: bytes, pieces: list) -> bytes:
    """A recipe's file. `head` has weights, layers and holes."""
    head = dict(head, format="edgefleet-evolve-1", statistics=len(statistics) // 4, pieces=[len(one) for one in pieces])
    return canonical_json(head).encode("ascii") + b"\n" + statistics + b"".join(pieces)


def _node(kind: str, inputs: Any, output: str, attributes: Any) -> bytes:
    return (b"".join(_bytes(1, name.encode("ascii")) for name in inputs) + _bytes(2, output.encode("ascii"))
            + _bytes(4, kind.encode("ascii")) + b"".join(_bytes(5, attribute) for attribute in attributes))


def _ints(name: str, values: Any) -> bytes:
    return _bytes(1, name.encode("ascii")) + b"".join(_number(8, value) for value in values) + _number(20, 7)


def _tensor(name: str, shape: Any, data: bytes) -> bytes:
    dimensions = b"".join(_number(1, size) for size in shape)
    return dimensions + _number(2, 1) + _bytes(8, name.encode("ascii")) + _bytes(9, data)


def _value(name: str, shape: Any) -> bytes:
    dimensions = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _bytes(1, name.encode("ascii")) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, dimensions)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
