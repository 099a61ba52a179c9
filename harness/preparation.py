"""What was prepared for one row of a campaign on one device: tuned settings, derived bundle, learned input, the bill.

Made by prepare.py, kept as one JSON file in the home under the hash of what it follows from, read by resolve.py. What
it holds enters the trial's id through settings, bundle and learned input, so a result says what it was prepared with.
"""
import ast
import base64
import functools
import gzip
import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import workloads
from device_agents import registry
from device_agents.seams import UserError
from device_agents.wire import LoadTrace, Trial, canonical_json, sha256_of
from harness.config import CampaignSpec
from harness.errors import AgentFailed
from harness.fleet import FleetSpec
from workloads.bundle import MANIFEST, digest_of, write_file
from workloads.recipe import load_plugin, plugin_path
from workloads.seams import Method

WORKLOADS = Path(workloads.__path__[0])
PreparationKey = tuple[str, str, str]           # label, device, bundle that it starts from


class Preparation(NamedTuple):
    """`budget`: passes flops search_s finetune_epochs device_s bytes, what is known of them. `tuning`: every draw."""

    label: str
    adapter: str
    device: str
    parent: str                                 # bundle
    bundle: str                                 # to run: the parent, or one derived from it
    settings: dict[str, Any]
    learned: str | None
    budget: dict[str, float]
    tuning: tuple[dict[str, Any], ...]
    log: tuple[str, ...]


def method_of(adapter: str, plugin_dirs: Sequence[str]) -> Method | None:
    """The offline half of that name; None when the method has none. Raises UserError for a file that is no method."""
    try:
        plugin_path("methods", adapter, plugin_dirs)
    except UserError:
        return None
    method: Method = load_plugin("methods", adapter, Method, plugin_dirs)()
    return method


def needs_preparation(campaign: CampaignSpec, label: str) -> bool:
    """Whether trials of this row wait for something that depends on the device."""
    method = method_of(campaign.method(label).adapter, campaign.plugin_dirs)
    if method is None:
        return False
    return bool(method.per_device or method.training_trials or (campaign.tuning and method.space))


def file_of(home: Path, campaign: CampaignSpec, label: str, fleet: FleetSpec, device: str, parent: str,
            runtime: str, traces: Sequence[LoadTrace]) -> Path:
    """Where it is kept: named by all that it follows from, the facts of the device and its peers among them.

    `traces` are those that it may see; they count by their content, as in a trial's id.
    """
    spec = campaign.method(label)
    facts = [fleet.devices[name].model_dump(mode="json", exclude_none=True) for name in (device, *spec.peers)]
    halves = [plugin_path("methods", spec.adapter, campaign.plugin_dirs),
              Path(registry.file_of("device_agents.adapters", spec.adapter, campaign.plugin_dirs))]
    method = method_of(spec.adapter, campaign.plugin_dirs)
    scored = twin_files() if campaign.tuning and method and method.space else set()
    sources = sorted(sha256(path.read_bytes()).hexdigest() for path in reached_from(halves) | scored)
    digest = sha256_of({
        "method": spec.model_dump(mode="json", exclude_none=True), "parent": parent, "devices": facts,
        "runtime": runtime, "seed": campaign.seed, "sources": sources,
        "traces": [(trace.name, trace.digest()) for trace in traces],
        "trial": campaign.trial.model_dump(mode="json", exclude_none=True),
        "tuning": campaign.tuning.model_dump(mode="json", exclude_none=True) if campaign.tuning else None})
    return home / "prepared" / f"{digest}.json"


@functools.cache
def twin_files() -> set[Path]:
    """What decides how settings are scored: the search, and of the agent all that runs on the virtual clock."""
    replay = Path(registry.file_of("device_agents.engines", "replay"))
    agent = replay.parents[1]
    return {Path(__file__).with_name("tuning.py"), *reached_from([agent / "simulation.py", replay], agent)}


def reached_from(files: Iterable[Path], room: Path = WORKLOADS) -> set[Path]:
    """These files and all of the room that they import, at the top or inside a function, directly or not."""
    found, left = set[Path](), list(files)
    while left:
        path = left.pop()
        if path in found:
            continue
        found.add(path)
        left += [file for parts in _modules_in(path.read_text(encoding="utf-8"), room.name)
                 if (file := room.joinpath(*parts).with_suffix(".py")).is_file()]
    return found


@functools.cache                                # a plan asks for the same few files dozens of times
def _modules_in(text: str, package: str) -> tuple[tuple[str, ...], ...]:
    """What an import in this text may mean below the package: a module, or a name in one."""
    asked: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            parts = tuple(str(node.module).split(".")[1:])
            asked += [parts, *((*parts, alias.name) for alias in node.names)]
    return tuple(asked)


def read_preparation(path: Path, label: str) -> Preparation | None:
    """None when it was never made. Raises UserError for a file that cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        value.update(tuning=tuple(value["tuning"]), log=tuple(value["log"]), label=label)
        return Preparation(**value)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no preparation ({error}); delete it and run again") from None


def is_whole(made: Preparation, home: Path) -> bool:
    """Whether the home still has the bundle and the learned artifact that the preparation names."""
    return ((home / "bundles" / made.bundle / MANIFEST).is_file()
            and (made.learned is None or digest_of(learned_path(home, made.learned)) == made.learned))


def write_preparation(path: Path, made: Preparation) -> None:
    write_file(path, (canonical_json(made._asdict()) + "\n").encode("ascii"))


def learned_path(home: Path, digest: str) -> Path:
    """Artifacts that methods learned, by sha256."""
    return home / "learned" / digest


def write_learned(home: Path, content: bytes) -> str:
    digest = sha256(content).hexdigest()
    write_file(learned_path(home, digest), content)
    return digest


def learned_in(journal_gz: bytes, trial: Trial) -> bytes:
    """The artifact that a trial's adapter left in its journal. Raises AgentFailed where there is none."""
    for line in gzip.decompress(journal_gz).splitlines():
        if b'"learned"' in line and (value := json.loads(line))["kind"] == "learned":
            content = base64.b64decode(value["base64"])
            if sha256(content).hexdigest() == value["sha256"]:
                return content
    raise AgentFailed(f"{trial.device}: a training trial of {trial.method} left nothing learned; does its adapter's "
                      "learned() return bytes?", blame="user")
