"""Campaign file + fleet file + what is known of devices and bundles -> the plan. The common first step of the verbs.

Called by plan, build, run and status. Reads the store and the bundle cache; asks a device for its runtimes (a read-only
probe) only when told to, or when it was never seen. Writes nothing: who wants to keep the facts stores `facts`.
"""
import tempfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

from device_agents import registry
from harness.campaign import NO_RUNTIME, BundleKey, Plan, expand
from harness.config import CampaignSpec, load_campaign
from harness.errors import ConfigError, DeviceUnsupported, EdgefleetError
from harness.fleet import DeviceSpec, FleetSpec, host_only, load_fleet
from harness.home import Home
from workloads.bundle import BundleFolder, find_bundle
from workloads.recipe import Recipe

FLEET_FILE = "fleet.toml"
Facts = dict[str, Any]                          # what a probe says, see `probe` in the agent
Ask = Literal["never", "unseen", "all"]         # which devices are asked for their runtimes


class Resolved(NamedTuple):
    """Everything that a verb needs to know before it acts."""

    campaign: CampaignSpec
    campaign_path: Path
    fleet: FleetSpec
    fleet_path: Path | None                     # None: no file, this machine alone
    devices: tuple[DeviceSpec, ...]             # those that the campaign selects
    recipes: dict[BundleKey, Recipe]
    bundles: dict[BundleKey, BundleFolder]      # those that are built, by the same keys
    runtimes: dict[tuple[str, str], str]        # (device, engine) -> runtime or NO_RUNTIME
    facts: dict[str, Facts]                     # device -> what it said now; those that were asked and answered
    silent: dict[str, str]                      # device -> why it did not answer
    plan: Plan

    @property
    def methods_with_policy(self) -> list[str]:
        """Plug-in names of those of the campaign's methods that have an offline half, so need a policy in a bundle."""
        offline = registry.names("workloads.methods", self.campaign.plugin_dirs)
        return sorted({self.campaign.method(label).adapter for label in self.campaign.matrix.method} & set(offline))


def find_fleet(campaign: CampaignSpec, fleet_path: Path | None, folder: Path) -> Path | None:
    """The stated file, else the campaign's, else fleet.toml in `folder` (where the user stands), else None."""
    if fleet_path or campaign.fleet:
        return fleet_path or campaign.fleet
    beside = folder / FLEET_FILE
    return beside if beside.is_file() else None


def resolve(campaign_path: Path, fleet_path: Path | None = None, home: Home | None = None,
            ask: Ask = "unseen") -> Resolved:
    """Raises ConfigError (files, names), UserError (a trace or a bundle that cannot be read), StoreError.

    `home` None: nothing was ever built or run. A device that does not answer is no error here: what the store
    remembers of it counts, or else its trials have no ids yet.
    """
    campaign = load_campaign(campaign_path)
    found = find_fleet(campaign, fleet_path, Path.cwd())
    fleet = load_fleet(found) if found else host_only()
    devices = tuple(fleet.select(campaign.matrix.device, f"{campaign_path} (matrix.device)"))
    recipes = {key: Recipe(*key, campaign.training) for key in _bundle_keys(campaign)}
    bundles = {key: folder for key, recipe in recipes.items() if home and (folder := find_bundle(home.path, recipe))}
    engine = campaign.trial.engine
    known = known_facts(home)
    asked = [one for one in devices if _wanted(one, known, engine, ask)]
    facts, silent = ask_devices(asked, [engine], home if ask == "all" else None)
    runtimes = {(one.name, engine): runtime for one in devices
                if (runtime := runtime_of({**known, **facts}.get(one.name), engine)) is not None}
    plan = expand(campaign, fleet, bundles, runtimes, campaign.plugin_dirs, str(campaign_path))
    return Resolved(campaign, campaign_path, fleet, found, devices, recipes, bundles, runtimes, facts, silent, plan)


def runtime_of(facts: Mapping[str, Any] | None, engine: str) -> str | None:
    """The runtime that a probe's facts name for `engine`, NO_RUNTIME when the device lacks it, None when not known."""
    answer = (facts or {}).get("engines", {}).get(engine)
    return None if answer is None else answer.get("runtime") or NO_RUNTIME


def known_facts(home: Home | None) -> dict[str, Facts]:
    """device -> the facts of its last probe, from the store. Empty without a store."""
    if home is None or not home.results.is_file():
        return {}
    from db.store import Store

    with Store.read_only(home.results) as store:
        return {row["name"]: row["facts"] for row in store.devices()}


def known_states(home: Home | None, trial_ids: Collection[str]) -> dict[str, str]:
    """trial id -> its state in the store, for those of `trial_ids` that it has."""
    if home is None or not home.results.is_file():
        return {}
    from db.store import Store

    with Store.read_only(home.results) as store:
        return store.states(trial_ids)


def ask_devices(devices: Sequence[DeviceSpec], engines: Sequence[str],
                home: Home | None) -> tuple[dict[str, Facts], dict[str, str]]:
    """Probe all devices at once: answers by device, and the reasons of those that gave none.

    Without a home nothing is left behind on this machine.
    """
    if not devices:
        return {}, {}
    with ExitStack() as stack:
        if home is None:
            home = Home(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgefleet-"))))
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=min(16, len(devices))))
        answers = list(pool.map(lambda spec: _ask(spec, engines, home), devices))
    facts = {spec.name: answer for spec, answer in zip(devices, answers) if isinstance(answer, dict)}
    return facts, {spec.name: answer for spec, answer in zip(devices, answers) if isinstance(answer, str)}


def _ask(spec: DeviceSpec, engines: Sequence[str], home: Home) -> Facts | str:
    from harness.device import open_device

    try:
        device = open_device(spec, home)
        try:
            return device.probe(engines)
        finally:
            device.close()
    except DeviceUnsupported as error:          # no Python at all: the device is there and cannot run anything
        return {"engines": {engine: {"runtime": None, "reason": str(error)} for engine in engines}}
    except ConfigError:
        raise
    except EdgefleetError as error:
        return str(error)


def _wanted(spec: DeviceSpec, known: Mapping[str, Facts], engine: str, ask: Ask) -> bool:
    return ask == "all" or (ask == "unseen" and runtime_of(known.get(spec.name), engine) is None)


def _bundle_keys(campaign: CampaignSpec) -> list[BundleKey]:
    matrix = campaign.matrix
    return [(task, model, seed) for task in matrix.task for model in matrix.model for seed in matrix.training_seed]
