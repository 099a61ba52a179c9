"""What tables and figures may ask of one campaign: rows of the public tables (docs/schema.md), read only.

Made by build.py, handed to every make(query) and draw(query). Reads small tables at once and long ones (inference,
measurement, event) for a named trial only. Refuses an unknown campaign, with near misses, and never computes: what is
derived comes from the summary table. A row has the attributes that db/schema.py names as columns; a trial also
`training_seed`, that of its network.
"""
import difflib
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from db.store import Store
from device_agents.seams import UserError
from device_agents.wire import PROVENANCES, canonical_json, costed_as, sha256_of
from reports.published import addresses, published
from reports.stats import Reading
from reports.variants import told_apart

Row = SimpleNamespace

#: Fields of a trial's definition in which its repeats differ, and names. The trace counts by name, as generated
#: traces differ from repeat to repeat by design, unless it was edited meanwhile (see Query.definition).
_NOT_THE_CELL = ("id", "campaign", "label", "block", "seed", "repeat", "trace")


#: Fields in which the methods of one cell may differ; a derived bundle counts as its parent.
_THE_METHODS_OWN = ("method", "method_sha256", "settings", "learned", "engine", "runtime", "peers", "link", "residency",
                    "bundle")


#: In names of metrics, before the source of one that is not the chosen one: energy_j.rapl (db/joules.py).
_OF_SOURCE = "."
_KINDS = {"power": "energy", "temp": "temperature", "throttled": "throttling"}


@contextmanager
def opened(database: Path, campaign: str | None = None) -> Iterator["Query"]:
    """A Query on `campaign`, by default the one that ran last. Raises UserError and StoreError."""
    if not database.is_file():
        raise UserError(f"{database}: there is no database yet. Run a campaign first: "
                        "`edgefleet run workloads/campaigns/quickstart.toml`.")
    with Store.read_only(database) as store:
        yield Query(store, campaign)


class Query:
    """One campaign's rows. Everything is sorted, so that the same database gives the same report.

    Raises UserError for an unknown campaign and for one without a finished trial.
    """

    def __init__(self, store: Store, campaign: str | None = None) -> None:
        self._store = store
        known = self._rows("campaign")
        self.campaign: Row = _choose(known, campaign)
        self.other_campaigns = sorted(row.name for row in known if row.name != self.campaign.name)
        seeds = {row.id: row.seed for row in self._rows("bundle", ("id", "seed"))}
        self.trials: list[Row] = sorted((Row(**row, training_seed=seeds[row["bundle"]])
                                         for row in store.trials(campaign=self.campaign.name)), key=_order)
        hosts = self._hosts()
        for trial in self.trials:
            trial.reason = trial.reason and published(trial.reason, hosts)
        if not any(trial.state == "done" for trial in self.trials):
            raise UserError(_nothing_done(self.campaign.name, self.trials, self.other_campaigns))

    @functools.cached_property
    def devices(self) -> dict[str, Row]:
        """By name, those that the campaign's trials name; measured devices first."""
        rows = self._rows("device", name={trial.device for trial in self.trials})
        return {row.name: row for row in sorted(rows, key=lambda row: (PROVENANCES.index(row.provenance), row.name))}

    def _hosts(self) -> set[str]:
        """How the devices are reached, which is nobody else's business; their names in the fleet are."""
        known = addresses(self.campaign.fleet, *(device.facts for device in self.devices.values()))
        return known - set(self.devices)

    @functools.cached_property
    def bundles(self) -> dict[str, Row]:
        rows = self._rows("bundle", id={trial.bundle for trial in self.trials})
        return {row.id: row for row in sorted(rows, key=lambda row: (row.task, row.model, row.seed, row.id))}

    def bundle_name(self, bundle: str) -> str:
        """For people: "har / har_conv1d, training seed 1, 55a4e73a"."""
        row = self.all_bundles[bundle]
        return f"{row.task} / {row.model}, training seed {row.seed}, {row.id[:8]}"

    @functools.cached_property
    def all_bundles(self) -> dict[str, Row]:
        """Those that the trials run, and those that these were derived from."""
        parents = {bundle.training.get("parent") for bundle in self.bundles.values()} - {None}
        return {**{row.id: row for row in self._rows("bundle", id=parents)}, **self.bundles}

    @functools.cached_property
    def preparations(self) -> dict[tuple[str, str, str], Row]:
        """By label, device and the bundle that it started from."""
        return {(row.label, row.device, row.bundle): row
                for row in self._rows("preparation", campaign=self.campaign.name)}

    @functools.cached_property
    def branches(self) -> dict[str, list[Row]]:
        """Of each bundle, the most costly (MACs) first."""
        return {bundle: sorted(self._rows("branch", bundle=bundle), key=lambda row: (-row.macs, row.id))
                for bundle in self.bundles}

    @functools.cached_property
    def costs(self) -> list[Row]:
        """Idle costs of the campaign's bundles on its devices, with the runtimes and knobs that its trials used."""
        used = {(trial.device, trial.bundle, *costed_as(trial.engine, trial.runtime),
                 canonical_json(trial.definition["knobs"])) for trial in self.trials}
        return [row for row in self._rows("cost", device=list(self.devices), bundle=list(self.bundles))
                if (row.device, row.bundle, row.engine, row.runtime, row.knobs) in used]

    @functools.cached_property
    def attempts(self) -> dict[str, list[Row]]:
        """Of each trial, in order."""
        found: dict[str, list[Row]] = {trial.id: [] for trial in self.trials}
        for row in self._rows("attempt"):
            if row.trial in found:
                found[row.trial].append(row)
        return found

    @functools.cached_property
    def _readings(self) -> dict[str, dict[str, Reading]]:
        found: dict[str, dict[str, Reading]] = {trial.id: {} for trial in self.trials}
        for row in self._rows("summary"):
            if row.trial in found:
                found[row.trial][row.metric] = Reading(row.value, row.unit, row.n, row.source, row.reason or "",
                                                       row.provenance)
        return found

    @functools.cached_property
    def foreign(self) -> dict[str, set[str]]:
        """Provenances of readings that are not their trial's own, and of what: {"modelled": {"energy"}}.

        What a meter measures during an emulated or simulated trial is that trial's own.
        """
        found: dict[str, set[str]] = {}
        for trial in self.trials:
            for metric, reading in self._readings[trial.id].items():
                if reading.value is not None and reading.provenance not in ("measured", trial.provenance) \
                        and _OF_SOURCE not in metric:
                    kind = metric.partition("_")[0]
                    found.setdefault(reading.provenance, set()).add(_KINDS.get(kind, kind))
        return found

    def reading(self, trial: Row, metric: str) -> Reading:
        """The trial's summary metric; without a value, and with the reason, where it has none."""
        if trial.state != "done":
            why = f"{trial.state}: {trial.reason or trial.error}" if trial.reason or trial.error else trial.state
            return Reading(None, "", 0, "", f"no run is done ({why})", trial.provenance)
        absent = Reading(None, "", 0, "", f"{metric} was not derived", trial.provenance)
        return self._readings[trial.id].get(metric, absent)

    @functools.cached_property
    def cells(self) -> list[list[Row]]:
        """Trials in groups of what repeats: one definition but for seed and repeat. Only these may be pooled."""
        found: dict[str, list[Row]] = {}
        for trial in self.trials:
            key = sha256_of([trial.trace, trial.label, trial.provenance, trial.processor, self.definition(trial)])
            found.setdefault(key, []).append(trial)
        return list(found.values())

    @functools.cached_property
    def network_keys(self) -> tuple[str, ...]:
        """What of a network varies in the campaign; without it, rows of one device, trace and method look alike."""
        return tuple(key for key in ("task", "model", "training_seed")
                     if len({getattr(trial, key) for trial in self.trials}) > 1)

    def network(self, trial: Row) -> tuple[Any, ...]:
        """The trial's values of `network_keys`."""
        return tuple(getattr(trial, key) for key in self.network_keys)

    @property
    def row_keys(self) -> tuple[str, ...]:
        """Attributes of a trial that name the place of a row, before its method."""
        return ("device", "trace", "provenance", *self.network_keys)

    def variants(self, columns: Sequence[str] = ()) -> dict[str, str]:
        """Trial id -> what tells its cell from others with its `row_keys`, `columns` and label; "" for most."""
        cells = [(tuple(getattr(group[0], key) for key in (*self.row_keys, *columns, "label")),
                  {**self.definition(group[0]), "processor": group[0].processor}) for group in self.cells]
        return {trial.id: text for group, text in zip(self.cells, told_apart(cells)) for trial in group}

    def definition(self, trial: Row) -> dict[str, Any]:
        """What defines the trial's cell: its definition without names, seed and repeat; of a trace that was edited
        meanwhile also the content, so that no run under the older load is pooled or paired with one under the newer."""
        found = {key: value for key, value in trial.definition.items() if key not in _NOT_THE_CELL}
        return {**found, "trace": trial.trace_digest[:8]} if (trial.trace, trial.duration_s) in self._edited else found

    @functools.cached_property
    def _edited(self) -> set[tuple[str, float]]:
        """Traces, by name and duration, that gave one seed two loads."""
        loads = {(trial.trace, trial.duration_s, trial.seed, trial.trace_digest) for trial in self.trials}
        return {key[:2] for key, count in Counter(load[:3] for load in loads).items() if count > 1}

    def parent(self, trial: Row) -> str:
        """The bundle whose rates, deadlines and training the trial shares: its own, or the one it was derived from."""
        return str(self.bundles[trial.bundle].training.get("parent") or trial.bundle)

    def shared(self, trial: Row) -> dict[str, Any]:
        """The trial's definition without what belongs to its method."""
        return {key: value for key, value in self.definition(trial).items() if key not in _THE_METHODS_OWN}

    def place(self, trial: Row) -> str:
        """Hash of all that trials of different methods must share to be set beside each other."""
        shared = {**self.shared(trial), "bundle": self.parent(trial)}
        return sha256_of([trial.trace, trial.provenance, trial.processor, shared])

    def inferences(self, trial: Row, columns: Sequence[str] = ()) -> list[Row]:
        """Of the measured window, in order."""
        return self._rows("inference", columns, trial=trial.id, phase="window")

    def window_loads(self, trial: Row) -> list[Row]:
        """Lines that tell of a branch loaded within the measured window, in order, of the attempt that counts."""
        last = max((row.attempt for row in self._rows("event", ("attempt",), trial=trial.id, kind="start")), default=0)
        return sorted(self._rows("event", ("seq", "t_ns", "body"), trial=trial.id, attempt=last, kind="load",
                                 phase="window"), key=lambda row: row.seq)

    def measurements(self, trial: Row, metric: str) -> list[Row]:
        """Readings of the measured window, in order."""
        return self._rows("measurement", ("t_ns", "value", "unit", "source", "provenance"), trial=trial.id,
                          metric=metric, phase="window")

    def _rows(self, table: str, columns: Sequence[str] = (), **equals: Any) -> list[Row]:
        return [Row(**row) for row in self._store.read(table, columns, **equals)]


def _order(trial: Row) -> tuple[Any, ...]:
    return (trial.task, trial.model, PROVENANCES.index(trial.provenance), trial.device, trial.trace,
            trial.training_seed, trial.label, trial.repeat, trial.id)


def _nothing_done(campaign: str, trials: Sequence[Row], others: Sequence[str]) -> str:
    states = Counter(trial.state for trial in trials)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no trials"
    reason = next((f" The first says: {str(trial.reason).rstrip('.')}." for trial in trials if trial.reason), "")
    elsewhere = f" Other campaigns in the database: {', '.join(others)}." if others else ""
    return (f"the campaign {campaign!r} has nothing to report: no trial of it is done ({counted}).{reason} "
            f"See `edgefleet status`, then continue with `edgefleet run`.{elsewhere}")


def _choose(campaigns: Sequence[Row], name: str | None) -> Row:
    if not campaigns:
        raise UserError("the database holds no campaign yet. Run one first: "
                        "`edgefleet run workloads/campaigns/quickstart.toml`.")
    if name is None:                            # training chains are told by the '/', which no campaign's name may have
        return max(campaigns, key=lambda row: ("/" not in row.name, row.last_run_s, row.name))
    names = sorted(row.name for row in campaigns)
    for row in campaigns:
        if row.name == name:
            return row
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(f"no campaign {name!r} in the database.{hint} There is: {', '.join(names)}.")
