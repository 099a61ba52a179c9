"""Databases for the tests of reports: fake journals of tests/fakes.py through the real ingest and derive.

Two devices (one measured, one emulated), two traces, three methods, three repeats; of these one trial failed and one
was skipped. `folder` is filled once and reused.
"""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from db.derive import derive_trial
from db.ingest import ingest_journal
from db.store import Store
from device_agents.wire import Trial, canonical_json, sha256_of
from tests.fakes import sample_bundle, sample_costs, sample_order, sample_trace, sample_trial, write_journal

DEVICES = (("board", 1.0), ("slow-class", 3.0))
METHODS = ("adascale", "fixed-full", "fixed-small")


def write_database(folder: Path, devices: Sequence[tuple[str, float]] = DEVICES, repeats: int = 3,
                   traces: Sequence[str] = ("idle", "ramp"), inferences: int = 80, energy: str = "counter",
                   spoil: bool = True, campaign: str = "quickstart", now_s: float = 100.0, **trial: Any) -> Path:
    """Make or extend `folder`/results.sqlite by one campaign and return its path."""
    path = folder / "results.sqlite"
    trials = [sample_trial(**{
        "campaign": campaign, "device": device, "slowdown": slowdown, "trace": sample_trace(trace), "label": label,
        "method": label.partition("-")[0], "method_sha256": sha256_of(label.partition("-")[0]),
        "settings": {"branch": label}, "seed": 100 + repeat, "repeat": repeat, "block": repeat, **trial})
        for device, slowdown in devices for trace in traces for label in METHODS for repeat in range(repeats)]
    with Store.open(path) as store:
        _save_surroundings(store, devices, campaign, now_s)
        store.add_trials(trials, {device: _provenance(slowdown) for device, slowdown in devices})
        for number, one in enumerate(trials):
            if spoil and number == 0:
                store.skip(one.id, "no onnxruntime here: pip install onnxruntime", "DeviceUnsupported", "device")
            else:
                _attempt(store, folder, one, inferences, energy, "failed" if spoil and number == 4 else "done")
    return path


def _provenance(slowdown: float) -> str:
    return "measured" if slowdown == 1.0 else "emulated"


def _save_surroundings(store: Store, devices: Sequence[tuple[str, float]], campaign: str, now_s: float) -> None:
    bundle = sample_bundle()
    store.save_campaign(campaign, {"name": campaign, "repeats": 3}, {}, now_s=now_s)
    store.save_bundle(bundle)
    for device, slowdown in devices:
        facts = {"machine": "aarch64", "cores": 4, "mem_total_mb": 3792, "kernel": "6.1.0", "python": "3.11.2",
                 "hostname": "secret-host-name", "engines": {"onnxruntime_cpu": {"runtime": "onnxruntime 1.31.1"}},
                 "energy": {"rapl": {"scope": "soc", "provenance": "measured"}}}
        provenance = _provenance(slowdown)
        store.save_device(device, "local", None, slowdown, provenance, facts, now_s=now_s)
        trial = sample_trial()
        store.save_costs(device, bundle.id, trial.engine, trial.runtime, canonical_json(trial.knobs),
                         sample_costs(bundle, slowdown, provenance), now_s=now_s)


def _attempt(store: Store, folder: Path, trial: Trial, inferences: int, energy: str, ending: str) -> None:
    order = sample_order(trial)
    journal = folder / "journals" / f"{trial.id}.1.jsonl"
    write_journal(journal, order, inferences=inferences, ending=ending, energy=energy)
    store.begin_attempt(trial.id, 1, 1, order.period_ms, order.deadline_ms, started_s=200.0)
    found = ingest_journal(store, journal, trial.id, 1)
    store.finish_attempt(trial.id, 1, found.state, found.error, found.blame, found.message, journal.name, 210.0,
                         trial_state=found.state)
    derive_trial(store, trial.id)
