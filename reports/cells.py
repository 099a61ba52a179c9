"""Summary metrics of a cell's runs -> table cells: the one path from readings to numbers in a table.

Called by reports/tables/ and reports/figures/. A Metric states unit, scale and the fewest samples that a run must have
behind its value; a cell that cannot be filled gets Missing with the reason. Two provenances are never pooled, and what
has another one than its trial (modelled or synthetic joules, temperatures of a fixture) fills no cell.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.query import Query, Row
from reports.stats import TOO_SMALL, MixedProvenanceError, Reading, over_runs, smallest_n
from reports.table import Cell, Column, Missing


@dataclass(frozen=True)
class Metric:
    """A summary metric as a column. `scale` turns the stored value into the column's unit; `smallest` samples a run.

    `played`: the harness makes it so on every device, hence emulated also in a measured trial, as its table says.
    """

    name: str
    column: Column
    scale: float = 1.0
    bounds: tuple[float, float] = (0.0, math.inf)           # what the metric can be; no interval reaches beyond
    smallest: int = 1
    played: bool = False


OTHERS_MOST_PCT = 20.0                          # of all cores; on a quiet host one run in thirty has more beside it
_SHARE = (0.0, 100.0)
_P95, _P99 = smallest_n(0.95), smallest_n(0.99)

ACCURACY = Metric("accuracy", Column("accuracy_pct", "accuracy", "%", 1, about="right answers among those served"),
                  100.0, _SHARE)
ON_TIME = Metric("on_time_accuracy", Column("on_time_accuracy_pct", "on-time accuracy", "%", 1, about=(
    "right and within the deadline, over all arrivals")), 100.0, _SHARE)
LATENCY = Metric("latency_median_ms", Column("latency_median_ms", "latency median", "ms", about="inference alone"))
LATENCY_P95 = Metric("latency_p95_ms", Column("latency_p95_ms", "latency p95", "ms"), smallest=_P95)
RESPONSE_P95 = Metric("response_p95_ms", Column("response_p95_ms", "response p95", "ms", detail=2, about=(
    "from due time to end, waiting included")), smallest=_P95)
MISSES = Metric("miss_pct", Column("miss_pct", "deadline misses", "%", 1, about=(
    "late or unanswered, of the arrivals whose deadline fell within the window")), bounds=_SHARE)
ENERGY = Metric("energy_mj_per_inference", Column("energy_mj_per_inference", "energy per inference", "mJ", detail=1))
MEMORY = Metric("peak_rss_mb", Column("peak_rss_mb", "peak memory", "MiB", 0, detail=1))
SWITCHES = Metric("switches", Column("switches", "switches", "", 0, detail=1))
DECIDE = Metric("decide_median_us", Column("decide_median_us", "decision median", "µs", 0, detail=1))
DECIDE_P99 = Metric("decide_p99_us", Column("decide_p99_us", "decision p99", "µs", 0, detail=3), smallest=_P99)
FEASIBLE = Metric("feasible2_pct", Column("feasible2_pct", "two feasible", "%", 0, detail=3, about=(
    "windows of one second in which two branches or more fitted the deadline at every arrival, by their idle cost")),
                  bounds=_SHARE)
THROUGHPUT = Metric("throughput_hz", Column("throughput_hz", "throughput", "1/s"))
ARRIVALS = Metric("arrivals", Column("arrivals", "arrivals", "", 0))
SERVED = Metric("served", Column("served", "served", "", 0))
EXPIRED = Metric("expired", Column("expired", "expired", "", 0))
SAMPLER = Metric("sampler_cpu_pct", Column("sampler_cpu_pct", "sampler cost", "% of a core", 2))
TEMPERATURE = Metric("temp_max_c", Column("temp_max_c", "hottest", "°C", 1, detail=1),
                     bounds=(-math.inf, math.inf))
LOAD_VALID = Metric("load_valid", Column("load_valid", "load achieved"), played=True)
THROTTLED = Metric("throttled", Column("throttled", "throttled"))
OTHERS = Metric("others_cpu_pct", Column("others_cpu_pct", "others", "% cpu", 1, about=(
    "of all cores, taken by neither the trial nor its load")), bounds=_SHARE)
LOAD_ASKED = Metric("load_asked_cpu_pct", Column("load_asked_cpu_pct", "load asked", "% cpu", 1), played=True)
LOAD_ACHIEVED = Metric("load_achieved_cpu_pct", Column("load_achieved_cpu_pct", "load achieved", "% cpu", 1),
                       played=True)


def disturbed(query: Query, trials: Sequence[Row]) -> list[Row]:
    """Those of the trials in which others took more of the cores than a result should have beside it."""
    return [trial for trial in trials
            if (query.reading(trial, OTHERS.name).value or 0.0) > OTHERS_MOST_PCT]


def readings(query: Query, trials: Sequence[Row], metric: Metric) -> list[Reading]:
    """One a trial, in the column's unit; without value and with the reason where too few samples are behind it.

    What a meter read during an emulated or simulated trial is that trial's, not the device's: it is not "measured".
    """
    found = []
    for trial in trials:
        reading = query.reading(trial, metric.name)
        if reading.provenance == "measured":
            reading = replace(reading, provenance=trial.provenance)
        if reading.n < metric.smallest and (reading.value is not None or reading.reason.startswith(TOO_SMALL)):
            reason = f"{TOO_SMALL}: {metric.column.title} needs {metric.smallest} samples a run"
            reading = replace(reading, value=None, reason=reason)
        elif reading.value is not None:
            reading = replace(reading, value=reading.value * metric.scale)
        found.append(reading)
    return found


def cell(query: Query, trials: Sequence[Row], metric: Metric) -> Cell:
    """The metric over the runs of one cell: an Estimate, or Missing with the reason."""
    trials = [trial for trial in trials if trial.state == "done"] or trials
    return pooled(readings(query, trials, metric), metric, trials[0].provenance)


def pooled(found: Sequence[Reading], metric: Metric, provenance: str) -> Cell:
    """Readings of trials of one `provenance` as a cell; Missing where they have several, or another one."""
    foreign = {reading.provenance for reading in found if reading.value is not None} - {provenance}
    try:
        estimate = over_runs(found, metric.bounds)
    except MixedProvenanceError as error:
        return Missing(str(error))
    if estimate is None:
        return Missing(_why(found))
    if foreign and not metric.played:
        return Missing(f"{' and '.join(foreign)}, so it is no reading of a trial that is {provenance}")
    return estimate


def energy_cells(query: Query, trials: Sequence[Row]) -> tuple[Cell, Cell, str]:
    """(energy that may be compared, modelled energy, "provenance: source"): modelled joules have their own column, and
    what a made-up sensor says is named as a source only."""
    done = [trial for trial in trials if trial.state == "done"] or trials
    found = readings(query, done, ENERGY)
    sources = sorted({_source(reading) for reading in found if reading.value is not None})
    modelled = {reading.provenance for reading in found if reading.value is not None} == {"modelled"}
    filled = pooled(found, ENERGY, "modelled" if modelled else trials[0].provenance)
    other = Missing("joules are modelled, so they are in a column of their own and in no comparison")
    if len(sources) > 1 and not isinstance(filled, Missing):
        filled = Missing(f"runs with different energy sources ({', '.join(sources)}) are never pooled")
    pair = (other, filled) if modelled else (filled, Missing("no power model was used"))
    return (*pair, ", ".join(sources) or "none")


def _source(reading: Reading) -> str:
    """"measured: rapl (soc)"; the modelled source says all with one word."""
    return "modelled" if reading.provenance == "modelled" else f"{reading.provenance}: {reading.source}"


def _why(found: Sequence[Reading]) -> str:
    reasons = list(dict.fromkeys(reading.reason for reading in found if reading.reason))
    return "; ".join(reasons[:2]) or "no reading"
