"""Campaign file + fleet file + what is known of devices and bundles -> the plan. The common first step of the verbs.

Called by plan, build, run and status. Reads the store and the bundle cache; asks a device for its runtimes (a read-only
probe) only when told to, or when it was never seen. Writes nothing: who wants to keep the facts stores `facts`.
"""
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from device_agents import registry
from harness.campaign import BundleKey, Cell, Plan, bundle_key, expand, selected
from harness.config import CampaignSpec, load_campaign
from harness.fleet import FLEET_FILE, NO_RUNTIME, DeviceSpec, FleetSpec, host_only, load_fleet
from harness.home import Home
from harness.preparation import Preparation, PreparationKey, file_of, is_whole, needs_preparation, read_preparation
from harness.roll_call import Facts, ask_devices, known_facts, runtime_of
from harness.tuning_traces import tuning_traces
from workloads.bundle import BundleFolder, find_bundle, imported_names, open_bundle
from workloads.recipe import Recipe

Ask = Literal["never", "unseen", "all"]         # which devices are asked for their runtimes


class Waiting(NamedTuple):
    """A row of the campaign whose preparation for a device and a bundle is not made yet."""

    label: str
    device: str
    key: BundleKey
    runtime: str
    file: Path                                  # where it is to be kept


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
    derived: dict[str, BundleFolder]            # bundles that were derived for a row, by id
    prepared: tuple[Preparation, ...]
    waiting: tuple[Waiting, ...]                # preparations that are still to be made
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
            ask: Ask = "all") -> Resolved:
    """Raises ConfigError (files, names), UserError (a trace or a bundle that cannot be read), StoreError.

    `home` None: nothing was ever built or run. A device that does not answer is no error here: what the store
    remembers of it counts, or else its trials have no ids yet.
    """
    campaign = load_campaign(campaign_path, imported_names(home.path) if home else ())
    found = find_fleet(campaign, fleet_path, Path.cwd())
    fleet = load_fleet(found) if found else host_only()
    devices = tuple(fleet.select(campaign.matrix.device, f"{campaign_path} (matrix.device)"))
    expand(campaign, fleet, {}, {}, campaign.plugin_dirs, str(campaign_path))   # all mistakes, before a device is asked
    cells = selected(campaign, fleet, str(campaign_path))
    recipes = {key: Recipe(*key, campaign.training) for key in campaign.matrix.workloads
               if any(bundle_key(cell) == key for cell in cells)}
    bundles = _built(campaign, recipes, home)
    engines = campaign.engines
    known = known_facts(home)
    asked = [one for one in devices if any(_wanted(one, known, engine, ask) for engine in engines)]
    facts, silent = ask_devices(asked, engines, home if ask == "all" else None, campaign.plugin_dirs)
    runtimes = {(one.name, engine): runtime for one in devices for engine in engines
                if (runtime := runtime_of({**known, **facts}.get(one.name), engine)) is not None}
    prepared, waiting = _preparations(campaign, fleet, cells, bundles, runtimes, home)
    plan = expand(campaign, fleet, bundles, runtimes, campaign.plugin_dirs, str(campaign_path), prepared)
    made = tuple(one for one in prepared.values() if one is not None)
    derived = {one.bundle: open_bundle(home.path / "bundles" / one.bundle) for one in made
               if home is not None and one.bundle != one.parent}
    return Resolved(campaign, campaign_path, fleet, found, devices, recipes, bundles, runtimes, facts, silent, derived,
                    made, waiting, plan)


def _preparations(campaign: CampaignSpec, fleet: FleetSpec, cells: Collection[Cell],
                  bundles: Mapping[BundleKey, BundleFolder], runtimes: Mapping[tuple[str, str], str],
                  home: Home | None) -> tuple[dict[PreparationKey, Preparation | None], tuple[Waiting, ...]]:
    """What was prepared, by row, device and bundle, and what is to be: rows that need nothing are in neither."""
    found: dict[PreparationKey, Preparation | None] = {}
    waiting = []
    needing = {label for label in campaign.matrix.method if needs_preparation(campaign, label)}
    traces = tuning_traces(campaign, campaign.trial.duration_s)
    for label, name, key in dict.fromkeys((cell.method, cell.device, bundle_key(cell)) for cell in cells):
        runtime = runtimes.get((name, campaign.engine(label)))
        if label not in needing or key not in bundles or runtime is None or home is None:
            continue
        folder = bundles[key]
        file = file_of(home.path, campaign, label, fleet, name, folder.bundle.id, runtime, traces)
        one = read_preparation(file, label)
        if one is not None and not is_whole(one, home.path):
            one = None                          # what it made was deleted since: it is made again
        found[label, name, folder.bundle.id] = one
        if one is None and runtime != NO_RUNTIME:
            waiting.append(Waiting(label, name, key, runtime, file))
    return found, tuple(waiting)


def known_states(home: Home | None, trial_ids: Collection[str]) -> dict[str, str]:
    """trial id -> its state in the store, for those of `trial_ids` that it has."""
    if home is None or not home.has_results():
        return {}
    from db.store import Store

    with Store.read_only(home.results) as store:
        return store.states(trial_ids)


def _built(campaign: CampaignSpec, recipes: Mapping[BundleKey, Recipe],
           home: Home | None) -> dict[BundleKey, BundleFolder]:
    if home is None:
        for recipe in recipes.values():         # missing data are told also where nothing was ever built
            recipe.digest(campaign.plugin_dirs)
        return {}
    found = {key: find_bundle(home.path, recipe, campaign.plugin_dirs) for key, recipe in recipes.items()}
    return {key: folder for key, folder in found.items() if folder is not None}


def _wanted(spec: DeviceSpec, known: Mapping[str, Facts], engine: str, ask: Ask) -> bool:
    return ask == "all" or (ask == "unseen" and runtime_of(known.get(spec.name), engine) in (None, NO_RUNTIME))
