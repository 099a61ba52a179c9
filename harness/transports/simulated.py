"""A device that is not there: answers the agent's verbs in this process and runs trials on a virtual clock.

Made by device.open_device for `transport = "simulated"`. The one place in the controller that may run the agent's loop;
journey, files and journals are a real device's, every number is `simulated`, the same order gives the same bytes.
fleet.toml states the costs: simulate = { full_ms = 20.0 } (latency in proportion to MACs) or { latency_ms = { full =
20.0, ... } }; further keys (contention, jitter, load_ms, mem_mb) go to the agent's replay engine.
"""
import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from device_agents import registry, store, trial_folder
from device_agents.engines.replay import Replay
from device_agents.simulation import simulate
from device_agents.trial_folder import BadOrder, TrialFolder
from device_agents.wire import BranchBundle, Cost, order_from_json, sha256_of
from harness.errors import ConfigError
from harness.fleet import DeviceSpec
from harness.seams import Completed
from harness.transports.local import LocalTransport

_OVERHEAD_SHARE = 0.05                          # of the full branch's latency that no branch goes below


class SimulatedTransport:
    """`home` is where the device's files are kept, as for a local device."""

    def __init__(self, spec: DeviceSpec, home: Path) -> None:
        if not spec.simulate or not {"full_ms", "latency_ms"} & set(spec.simulate):
            raise ConfigError(f"{spec.name}: a simulated device states its costs: simulate = {{ full_ms = 20.0 }}")
        self._spec, self._files = spec, LocalTransport(spec, home)
        self.agent_home, self.python = self._files.agent_home, "python3"
        self._verbs: dict[str, Callable[[Sequence[str], bytes], bytes]] = {
            "list": self._list, "probe": self._probe, "missing": self._missing,
            "profile": self._profile, "run": self._run, "wait": self._wait, "clean": self._clean}

    def run(self, argv: Sequence[str], deadline_s: float, stdin: bytes = b"") -> Completed:  # noqa: ARG002  no waiting
        """`argv` is [python, agent, verb, "--home", folder, words...], as device.py makes it."""
        verb, words = argv[2], argv[5:]
        try:
            return Completed(0, self._verbs[verb](words, stdin), b"")
        except BadOrder as error:
            return Completed(2, b"", str(error).encode())

    def push(self, files: Sequence[tuple[Path, str]], deadline_s: float) -> None:
        self._files.push(files, deadline_s)

    def pull(self, source: str, destination: Path, deadline_s: float) -> None:
        self._files.pull(source, destination, deadline_s)

    def close(self) -> None:
        """Nothing is open."""

    def _list(self, _words: Sequence[str], _stdin: bytes) -> bytes:
        return json.dumps(trial_folder.trials(self.agent_home)).encode()

    def _probe(self, _words: Sequence[str], stdin: bytes) -> bytes:
        refusal = {"runtime": None, "reason": 'a simulated device runs no network: set engine = "replay" in [trial]'}
        # Other stated costs are another device: they must change the ids of its trials, as a new runtime would.
        runtime = f"{Replay.runtime()} {sha256_of(self._spec.simulate)[:8]}"
        engines = {name: {"runtime": runtime, "reason": ""} if name == "replay" else refusal
                   for name in [*registry.names("device_agents.engines"), *_theirs(stdin)]}
        return json.dumps({"machine": "simulated", "engines": engines, "sensors": {}, "energy": {},
                           "trials": trial_folder.trials(self.agent_home)}).encode()

    def _missing(self, words: Sequence[str], stdin: bytes) -> bytes:
        folder = Path(trial_folder.prepare(self.agent_home)) / "store"
        return json.dumps(store.missing(str(folder), json.loads(stdin), "--verify" in words)).encode()

    def _profile(self, _words: Sequence[str], stdin: bytes) -> bytes:
        order = order_from_json(json.loads(stdin))
        bundle = trial_folder.read_bundle(str(Path(self.agent_home) / "store"), order.trial.bundle)
        return json.dumps([cost._asdict() for cost in stated_costs(self._spec, bundle)]).encode()

    def _run(self, words: Sequence[str], _stdin: bytes) -> bytes:
        gone = [words[n + 1] for n, word in enumerate(words[:-1]) if word == "--clean"]
        self._clean(gone, b"")
        simulate(self.agent_home, words[0])
        return b""

    def _wait(self, words: Sequence[str], _stdin: bytes) -> bytes:
        folder = TrialFolder(self.agent_home, words[0])
        journal = Path(folder.journal).read_bytes() if Path(folder.journal).is_file() else b""
        head = {"state": folder.state(), "bytes": len(journal), "sha256": hashlib.sha256(journal).hexdigest()}
        return json.dumps(head).encode() + b"\n" + gzip.compress(journal, 1, mtime=0)

    def _clean(self, words: Sequence[str], _stdin: bytes) -> bytes:
        return json.dumps(store.clean([TrialFolder(self.agent_home, name) for name in words])).encode()


def _theirs(plugins: bytes) -> list[str]:
    """Names of a user's engines, out of what a probe is told on standard input."""
    return [name.partition("/")[2] for name in json.loads(plugins or b"{}")]


def stated_costs(spec: DeviceSpec, bundle: BranchBundle) -> list[Cost]:
    """Idle cost of every branch, as fleet.toml states it. Raises BadOrder for a branch that has none."""
    stated: dict[str, Any] = dict(spec.simulate or {})
    most = max(branch.macs for branch in bundle.branches)
    costs = []
    for branch in bundle.branches:
        latency_ms = stated.get("latency_ms", {}).get(branch.id)
        if latency_ms is None and "full_ms" in stated:
            share = _OVERHEAD_SHARE + (1 - _OVERHEAD_SHARE) * branch.macs / most
            latency_ms = stated["full_ms"] * share
        if latency_ms is None:
            raise BadOrder(f"simulate.latency_ms of {spec.name} names no cost for branch {branch.id!r}")
        load_ms = stated.get("load_ms", {}).get(branch.id, 0.0)
        costs.append(Cost(branch.id, "replay", latency_ms, latency_ms, load_ms, None, None, "stated", "simulated"))
    return costs
