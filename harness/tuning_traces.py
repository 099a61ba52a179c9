"""The load traces that a preparation may see: the campaign's own, from seeds that no trial of the evaluation has.

Called by prepare.py and resolve.py. A table, or a generator that ignores its seed, gives the evaluation's trace
whatever the seed: `unseeded` names those, for the log. Pure, as load_trace is; raises what that raises.
"""
import math
from collections.abc import Sequence

from device_agents.wire import LoadTrace
from harness.campaign import derive_seed
from harness.config import CampaignSpec
from workloads.trace_file import load_trace


def tuning_traces(campaign: CampaignSpec, duration_s: float, dimension: str = "tuning") -> list[LoadTrace]:
    """The traces of the matrix, in its order, from a seed of this dimension's own."""
    seed = derive_seed(campaign.seed, f"{dimension}/trace")
    return [load_trace(name, duration_s, seed, campaign.plugin_dirs) for name in campaign.matrix.trace]


def lesson_trace(campaign: CampaignSpec, duration_s: float, number: int) -> LoadTrace:
    """Of a chain's n-th trial: the campaign's traces in turn, each time from another seed."""
    traces = tuning_traces(campaign, duration_s, f"learning/{number}")
    return traces[number % len(traces)]


def unseeded(campaign: CampaignSpec) -> list[str]:
    """Names of the traces that two seeds give alike."""
    pairs = zip(tuning_traces(campaign, campaign.trial.duration_s),
                tuning_traces(campaign, campaign.trial.duration_s, "unseeded"), strict=True)
    return [one.name for one, other in pairs if one.digest() == other.digest()]


def mean_load_pct(traces: Sequence[LoadTrace], duration_s: float) -> float:
    """Co-running load in % of all cores, over time and then over the traces; one without the column asks for none."""
    return math.fsum(_mean_pct(trace, duration_s) for trace in traces) / len(traces) if traces else 0.0


def _mean_pct(trace: LoadTrace, duration_s: float) -> float:
    """A row holds until the next one, the last to the end of the window."""
    if "cpu_pct" not in trace.columns:
        return 0.0
    at = trace.columns.index("cpu_pct")
    times_s = [min(float(row[0] or 0.0), duration_s) for row in trace.rows]
    spans_s = [end - begin for begin, end in zip(times_s, [*times_s[1:], duration_s], strict=True)]
    return math.fsum(float(row[at] or 0.0) * span_s
                     for row, span_s in zip(trace.rows, spans_s, strict=True)) / duration_s
