"""A device that is alive: a Transport and the agent that lives behind it. The only place that speaks the agent's verbs.

Made by `open_device`, used by the runner, plan and doctor. Every method is one round trip (push: two). It refuses to
keep state about trials: what a device holds is asked of the device, by trial id.
"""
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from device_agents import registry
from device_agents.wire import Cost, Order, Serving, canonical_json, order_to_json
from harness.agent_zip import AgentZip, build_agent
from harness.cable.shell_device import NOT_FOUND
from harness.errors import (
    AgentCrashed,
    AgentFailed,
    ConfigError,
    DeviceNotReady,
    DeviceUnreachable,
    DeviceUnsupported,
    EdgefleetError,
)
from harness.fleet import DeviceSpec
from harness.home import Home
from harness.runtimes import telemetry
from harness.seams import Completed, Transport

QUICK_S = 60.0                                  # deadline of a verb that only looks
SERVE_S = 120.0                                 # until a peer has imported the runtime and loaded the branches
PUSH_FLOOR_B_S = 50_000                         # slowest link that a push is given time for
AGENT_FOLDERS = ("adapters", "engines", "sensors", "energy")
PROVISIONED = "runtime/current/bin/python3"     # below the agent's home, where `device provision` was here

PIECE_B = 1 << 20                               # of a journal that is unpacked at a time

_BY_EXIT: dict[int, type[EdgefleetError]] = {3: DeviceUnsupported, 4: DeviceNotReady, 5: AgentCrashed}
_KILLED = 128                                   # a shell's exit status for what a signal ended; Python's is negative


class Waited(NamedTuple):
    """How a trial ended on the device: done | failed | crashed | running (deadline passed) | unknown (never seen)."""

    state: str
    journal_gz: bytes


class Held(NamedTuple):
    """A trial folder that the device still has."""

    attempt: int
    state: str                                  # running | done | failed | crashed


class AgentTransport(Transport, Protocol):
    """What a file in transports/ offers: a Transport that knows where the agent lives and which Python runs it."""

    agent_home: str
    python: str


def open_device(spec: DeviceSpec, home: Home) -> "Device":
    """Connects lazily. Raises ConfigError for a transport that cannot be made from the spec."""
    return Device(spec, open_transport(spec, home), build_agent(home.cache), home.cache)


def open_probed(spec: DeviceSpec, home: Home,
                plugins: Mapping[str, tuple[str, Path]] | None = None) -> "tuple[Device, dict[str, Any]]":
    """Connected, with its facts. Raises as `Device.probe` does, and then nothing stays open."""
    device = open_device(spec, home)
    try:
        return device, device.probe(plugins)
    except BaseException:
        device.close()
        raise


def open_transport(spec: DeviceSpec, home: Home) -> AgentTransport:
    """The cable alone, for what comes before an agent."""
    spec = spec.model_copy(update={"env": {**telemetry.OFF, **spec.env}})
    module = registry.load_module("harness.transports", spec.transport)
    made = [value for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__ and name.endswith("Transport")]
    if len(made) != 1:
        raise ConfigError(f"{module.__file__} must hold exactly one class named ...Transport, found {len(made)}")
    return cast(AgentTransport, made[0](spec, home.device(spec.name)))


class Device:
    """`spec` are its passive facts. Every method raises DeviceUnreachable, DeviceUnsupported or DeviceNotReady."""

    def __init__(self, spec: DeviceSpec, transport: AgentTransport, agent: AgentZip, cache: Path) -> None:
        self.spec = spec
        self._transport, self._agent, self._cache = transport, agent, cache
        self._deployed = False

    def deploy(self) -> None:
        """Make sure that this very agent is on the device. A device that already answers with it gets nothing."""
        if self._deployed:
            return
        greeting = self._greet()
        if greeting.rc in NOT_FOUND:
            raise DeviceUnsupported(f"{self.spec.name}: there is no {self._transport.python} to start the agent with; "
                                    f"type: edgefleet device provision {self.spec.name}")
        if greeting.rc != 0:
            self._transport.push([(self._agent.path, self._remote(self._agent.path.name))], QUICK_S)
            self._call("list", deadline_s=QUICK_S)
        self._deployed = True

    def _greet(self) -> Completed:
        """The first call, by the provisioned Python where there is one: only the device knows."""
        stated, self._transport.python = self._transport.python, self._remote(PROVISIONED)
        try:
            done = self._transport.run(self._argv("list"), QUICK_S)
            if done.rc not in NOT_FOUND:
                return done
        except DeviceUnsupported:               # how a local device says that there is none
            pass
        self._transport.python = stated
        return self._transport.run(self._argv("list"), QUICK_S)

    def probe(self, plugins: Mapping[str, tuple[str, Path]] | None = None) -> dict[str, Any]:
        """Facts: see the agent's verb `probe`. Leaves nothing on the device but the agent, and what `plugins` (see
        plugin_files) has of engines: they are asked for their runtimes, too."""
        self.deploy()
        engines = {name: one for name, one in (plugins or {}).items() if name.startswith("engines/")}
        if not engines:
            return cast(dict[str, Any], self._json("probe"))
        self.push(dict(engines.values()))
        told = canonical_json({name: digest for name, (digest, _) in engines.items()}).encode()
        return cast(dict[str, Any], self._json("probe", "--plugins", stdin=told))

    def push(self, files: Mapping[str, Path]) -> int:
        """Bring the content that the device lacks, by sha256; the bytes that travelled. Verified over there."""
        self.deploy()
        wanted = canonical_json(sorted(files)).encode()
        lacking = cast(list[str], self._json("missing", stdin=wanted))
        if not lacking:
            return 0
        size_b = sum(files[digest].stat().st_size for digest in lacking)
        deadline_s = QUICK_S + size_b / PUSH_FLOOR_B_S
        self._transport.push([(files[digest], self._remote(f"store/{digest}")) for digest in lacking], deadline_s)
        torn = self._json("missing", "--verify", stdin=canonical_json(sorted(lacking)).encode(), deadline_s=deadline_s)
        if torn:
            raise DeviceUnreachable(f"{self.spec.name}: {len(torn)} of {len(lacking)} pushed files arrived damaged "
                                    f"({torn[0][:12]}...); check the link and its disk")
        return size_b

    def profile(self, order: Order, deadline_s: float) -> tuple[Cost, ...]:
        """Idle cost of each branch of the order's bundle, on this very device."""
        costs = self._json("profile", stdin=canonical_json(order_to_json(order)).encode(), deadline_s=deadline_s)
        return tuple(Cost(**cost) for cost in costs)

    def start(self, order: Order, stored: Sequence[tuple[str, int]] = ()) -> None:
        """Push trial.json and let the agent detach itself. Returns when it holds the device's lock.

        `stored`: (trial id, attempt) of journals that are safe here; their folders go, without a round trip of its own.
        """
        name = _folder(order.trial.id, order.attempt)
        local = self._cache / f"{self.spec.name}.trial.json"
        local.touch(mode=0o600)                 # it may hold the key to a peer
        local.write_text(json.dumps(order_to_json(order)), encoding="utf-8")
        self._transport.push([(local, self._remote(f"trials/{name}/trial.json"))], QUICK_S)
        warm = ["--warm-s", f"{self.spec.warm_s:g}"] if self.spec.warm_s else []
        gone = [word for trial in stored for word in ("--clean", _folder(*trial))]
        self._call("run", name, "--detach", *warm, *gone, deadline_s=QUICK_S)

    def serve(self, serving: Serving) -> int:
        """Be a peer of the trial that `serving` names; the port. Returns when everything is loaded there."""
        answer = self._json("serve", stdin=canonical_json(dict(serving._asdict())).encode(), deadline_s=SERVE_S)
        return int(answer["port"])

    def wait(self, trial_id: str, attempt: int, deadline_s: float) -> Waited:
        """Block on the device's own lock; nothing travels until the trial ends. Brings the journal along."""
        words = (_folder(trial_id, attempt), "--collect", "--timeout-s", f"{deadline_s:.1f}")
        out = self._call("wait", *words, deadline_s=deadline_s + QUICK_S).stdout
        head, _, journal = out.partition(b"\n")
        told = self._parse("wait", head)
        if told["state"] not in ("done", "failed", "crashed") or not told.get("sha256"):
            return Waited(told["state"], b"")
        self._check_journal(journal, told)
        return Waited(told["state"], journal)

    def stop(self, trial_id: str, attempt: int) -> None:
        """End a trial that is overdue, or the `serve` for it, so that the device is free again."""
        self._call("stop", _folder(trial_id, attempt), deadline_s=QUICK_S)

    def trials(self) -> dict[tuple[str, int], str]:
        """State of every trial that it holds, by trial id and attempt."""
        self.deploy()
        return {(one["id"], one["attempt"]): one["state"] for one in self._json("list")}

    def clean(self, trials: Iterable[tuple[str, int]]) -> None:
        """Remove folders of trials whose journals are safe here."""
        self._call("clean", *(_folder(*trial) for trial in trials), deadline_s=QUICK_S)

    def collect_garbage(self, max_age_days: float, max_mb: float | None) -> tuple[int, float]:
        """Remove content unused for so long, then the longest unused beyond `max_mb`: (files removed, MiB kept)."""
        self.deploy()
        limit = () if max_mb is None else ("--max-mb", str(max_mb))
        answer = self._json("gc", "--max-age-days", str(max_age_days), *limit)
        return len(answer["removed"]), float(answer["kept_mb"])

    def close(self) -> None:
        self._transport.close()

    def _check_journal(self, journal_gz: bytes, told: dict[str, Any]) -> None:
        """Piece by piece: what unpacks to more than was told is not read on."""
        digest, size_b, told_b = hashlib.sha256(), 0, told.get("bytes")
        try:
            with gzip.open(io.BytesIO(journal_gz)) as file:
                while isinstance(told_b, int) and size_b <= told_b and (piece := file.read(PIECE_B)):
                    digest.update(piece)
                    size_b += len(piece)
            whole = size_b == told_b and digest.hexdigest() == told["sha256"]
        except (OSError, EOFError, zlib.error):
            whole = False
        if not whole:
            raise DeviceUnreachable(f"{self.spec.name}: the journal arrived damaged; it is still on the device")

    def _remote(self, name: str) -> str:
        return f"{self._transport.agent_home}/{name}"

    def _argv(self, verb: str, *words: str) -> list[str]:
        agent = self._remote(self._agent.path.name)
        return [self._transport.python, agent, verb, "--home", self._transport.agent_home, *words]

    def _json(self, verb: str, *words: str, stdin: bytes = b"", deadline_s: float = QUICK_S) -> Any:
        return self._parse(verb, self._call(verb, *words, stdin=stdin, deadline_s=deadline_s).stdout)

    def _call(self, verb: str, *words: str, deadline_s: float, stdin: bytes = b"") -> Completed:
        done = self._transport.run(self._argv(verb, *words), deadline_s, stdin)
        if done.rc != 0:
            words_said = done.stderr.decode("utf-8", "replace").strip()
            last = words_said.splitlines()[-1] if words_said else f"exit status {done.rc}, no message"
            killed = done.rc >= _KILLED or done.rc < 0
            raise (AgentCrashed if killed else _BY_EXIT.get(done.rc, AgentFailed))(
                f"{self.spec.name}: {verb}: {last}" + (", killed; is its memory enough?" if killed else ""))
        return done

    def _parse(self, verb: str, text: bytes) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise DeviceUnreachable(f"{self.spec.name}: {verb} answered no JSON but {text[:60]!r}; does its login "
                                    "shell print something?") from None


def plugin_files(plugin_dirs: Sequence[str]) -> dict[str, tuple[str, Path]]:
    """"adapters/mine" -> (sha256, file) of the user's plug-ins that run on a device."""
    found: dict[str, tuple[str, Path]] = {}
    for directory in plugin_dirs:
        for folder in AGENT_FOLDERS:
            for path in sorted((Path(directory) / folder).glob("*.py")):
                if path.name != "__init__.py":
                    found[f"{folder}/{path.stem}"] = (hashlib.sha256(path.read_bytes()).hexdigest(), path)
    return found


def held_trials(facts: Mapping[str, Any], collected: Container[tuple[str, int]]) -> dict[str, Held]:
    """The newest attempt of every trial that a probed device still holds and that was not collected, by trial id."""
    held: dict[str, Held] = {}
    for entry in facts.get("trials", ()):
        if (entry["id"], entry["attempt"]) in collected:
            continue
        if entry["id"] not in held or held[entry["id"]].attempt < entry["attempt"]:
            held[entry["id"]] = Held(entry["attempt"], entry["state"])
    return held


def _folder(trial_id: str, attempt: int) -> str:
    return f"{trial_id}.{attempt}"
