"""Which trials share a panel of a figure, and what it is called. Called by reports/figures/.

A panel holds methods that may be set beside each other: one device, one network, one set of what a campaign states for
all. A network that a method derived counts as its parent, an engine that a method brings as the campaign's. The name
tells only what varies, as all of it would fit over no panel; so does the name of a cell in it.
"""
from collections.abc import Callable, Mapping, Sequence

from device_agents.wire import canonical_json
from reports.query import Query, Row
from reports.variants import told_apart


def panels(query: Query, seeds_apart: bool = True) -> dict[str, str]:
    """Trial id -> name of its panel, less the trace. Without `seeds_apart` the seeds of a network share a panel."""
    networks = len({(trial.task, trial.model) for trial in query.trials})
    kinds: dict[tuple[str, ...], list[Row]] = {}
    for trial in query.trials:
        kinds.setdefault((trial.device, trial.provenance, trial.task, trial.model), []).append(trial)
    names: dict[str, str] = {}
    for (device, provenance, task, model), trials in kinds.items():
        name = f"{device} ({provenance})" + (f", {task} / {model}" if networks > 1 else "")
        told = _told(query, trials, seeds_apart)
        names.update({trial.id: ", ".join(filter(None, [name, *(word(trial) for word in told)])) for trial in trials})
    return names


def labels(query: Query, panel: Mapping[str, str]) -> list[str]:
    """Of each of query.cells its method's label, with what tells it from other cells of that label in its panel."""
    firsts = [group[0] for group in query.cells]
    told = told_apart([((panel[first.id], first.trace, first.label, *query.network(first)), query.definition(first))
                       for first in firsts])
    return [f"{first.label}, {text}" if text else str(first.label) for first, text in zip(firsts, told)]


def _told(query: Query, trials: Sequence[Row], seeds_apart: bool) -> list[Callable[[Row], str]]:
    """What else a name must say about trials of one device and network to tell its panels apart."""
    told: list[Callable[[Row], str]] = []
    if seeds_apart and "training_seed" in query.network_keys:
        told.append(lambda trial: f"training seed {trial.training_seed}")
    if len({query.parent(trial) for trial in trials}) > len({trial.training_seed for trial in trials}):
        told.append(lambda trial: query.parent(trial)[:8])
    if len({(trial.label, trial.runtime) for trial in trials}) > len({trial.label for trial in trials}):
        told.append(lambda trial: str(trial.runtime))
    shared = {trial.id: {key: canonical_json(value) for key, value in query.shared(trial).items()} for trial in trials}

    def of(key: str) -> Callable[[Row], str]:
        return lambda trial: f"{key} {shared[trial.id][key]}" if key in shared[trial.id] else ""

    keys = sorted({key for found in shared.values() for key in found})
    return told + [of(key) for key in keys if len({found.get(key) for found in shared.values()}) > 1]
