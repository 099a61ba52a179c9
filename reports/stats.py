"""Statistics that respect runs: the repeat is the unit, never the single inference.

Called by the tables. A cell is the median over a cell's runs with a 95 % interval; a comparison is a ratio with a
cluster bootstrap over runs; a tail quantile of one run comes with a distribution-free interval. Refuses to pool two
provenances (MixedProvenanceError) and to print an interval that so few runs cannot carry (a reason stands there).
"""
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95
RESAMPLES = 4999
TOO_SMALL = "n too small"
Array = NDArray[np.float64]


class MixedProvenanceError(ValueError):
    """Two provenances were about to be pooled. The message names them."""


@dataclass(frozen=True)
class Reading:
    """One metric of one run, from the summary table, over `n` samples. `value` None: `reason` says why."""

    value: float | None
    unit: str
    n: int
    source: str
    reason: str
    provenance: str


@dataclass(frozen=True)
class Estimate:
    """A number over `n` runs (or samples) with its interval. `low` and `high` are None where `reason` says why."""

    value: float
    low: float | None
    high: float | None
    n: int
    how: str
    reason: str = ""


def over_runs(readings: Sequence[Reading], bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate | None:
    """Median over runs; None when no run has a value. Raises MixedProvenanceError.

    Interval: order statistics for six runs or more (exact coverage, no assumption about the shape); Student's t about
    the mean for three to five, which always contains the median there, as |mean - median| is never above the standard
    deviation; none below three. Clipped to `bounds`, never to less than the values themselves.
    """
    known = [reading for reading in readings if reading.value is not None]
    found = sorted({reading.provenance for reading in known})
    if len(found) > 1:
        raise MixedProvenanceError(f"runs of {len(found)} provenances ({', '.join(found)}) are never pooled")
    values = [float(reading.value) for reading in known if reading.value is not None]
    if not values:
        return None
    if len(values) < 3:
        return Estimate(_quantile(values, 0.5), None, None, len(values), "median", TOO_SMALL + ": below 3 runs")
    if len(values) >= 6:
        return quantile_interval(values, 0.5)
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(special.stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * error
    # A value beyond the bounds is a device's nonsense; it may not turn the interval around.
    low, high = max(mean - half, min(bounds[0], *values)), min(mean + half, max(bounds[1], *values))
    return Estimate(_quantile(values, 0.5), low, high, len(values), "median, t interval over runs")


def quantile_interval(values: Sequence[float], q: float, level: float = LEVEL) -> Estimate:
    """Quantile `q` (0.5 and above) of `values` with a distribution-free interval between two of them.

    Where too few values carry one, it is absent with TOO_SMALL: at 95 % it takes 6 values for the median, 29 for p90,
    59 for p95 and 299 for p99. Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    value, ranks = _quantile(ordered, q), _ranks(len(ordered), q, level)
    if ranks is None:
        reason = f"{TOO_SMALL}: {smallest_n(q, level)} needed"
        return Estimate(value, None, None, len(ordered), "quantile", reason)
    return Estimate(value, ordered[ranks[0] - 1], ordered[ranks[1] - 1], len(ordered), "order statistics")


@functools.cache
def smallest_n(q: float, level: float = LEVEL) -> int:
    """The fewest values that carry a distribution-free interval for quantile `q` (0.5 and above)."""
    count = 1
    while _ranks(count, q, level) is None:
        count += 1
    return count


@functools.cache
def _ranks(count: int, q: float, level: float) -> tuple[int, int] | None:
    """Ranks r < s (from 1) with P(B < r) + P(B >= s) <= 1 - level for B binomial(count, q); None where none exist.

    Half of the error goes to each side, unless the largest value alone needs more than its half.
    """
    if not 0.5 <= q < 1.0:
        raise ValueError("q must be at least 0.5 and below 1")
    error, beyond_largest = 1 - level, q**count
    if beyond_largest > error:
        return None
    above, ranks = max(error / 2, beyond_largest), np.arange(count + 1)
    # P(B >= rank) falls and P(B < rank) rises with the rank; rank 0 stands for "below the smallest value"
    high = int(np.argmax(special.bdtrc(ranks - 1, count, q) <= above + 1e-12))
    low = int(np.flatnonzero(np.append(0.0, special.bdtr(ranks[:-1], count, q)) <= error - above)[-1])
    return (low, high) if low >= 1 else None


def ratio(treated: Sequence[float], control: Sequence[float], paired: bool, seed: int = 0) -> Estimate:
    """Geometric mean of `treated` over that of `control`, one value a run.

    `paired`: value i of both sides ran in the same block, so that pairs are the clusters; otherwise runs of each side.
    Interval: from six runs a side a cluster bootstrap, its percentiles widened for few runs (Hesterberg 2015, "expanded
    percentile interval", The American Statistician 69(4)); from three to five Student's t (paired, else Welch) on the
    logarithms, as no bootstrap leaves the range of its values, which five pairs overshoot in 6 % of A/A comparisons
    and three in 25 %. Same input and seed, same interval. Raises ValueError for values that are not positive and for
    pairs of unequal number.
    """
    if paired and len(treated) != len(control):
        raise ValueError("paired runs must be of equal number")
    if min([*treated, *control], default=0.0) <= 0.0:
        raise ValueError("a ratio needs positive values on both sides")
    over, under = np.log(np.asarray(treated, float)), np.log(np.asarray(control, float))
    middle, runs = float(over.mean() - under.mean()), min(len(over), len(under))
    if runs < 3:
        return Estimate(math.exp(middle), None, None, runs, "ratio", TOO_SMALL + ": below 3 runs")
    if runs < 6:
        half = _t_half_width([over - under] if paired else [over, under])
        return Estimate(math.exp(middle), math.exp(middle - half), math.exp(middle + half), runs, "t over runs")
    low, high = _bootstrap_bounds([over - under] if paired else [over, -under], seed)
    return Estimate(math.exp(middle), math.exp(low), math.exp(high), runs, "cluster bootstrap over runs")


def _t_half_width(samples: Sequence[Array]) -> float:
    """Half the interval of a mean (one sample) or of a difference of means (two: Welch's degrees of freedom)."""
    squares = [float(sample.var(ddof=1)) / len(sample) for sample in samples]
    total = sum(squares)
    if total == 0.0:
        return 0.0
    freedom = total**2 / sum(square**2 / (len(sample) - 1) for square, sample in zip(squares, samples))
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(total)


def _bootstrap_bounds(samples: Sequence[Array], seed: int) -> tuple[float, float]:
    """Interval of the sum of the samples' means: whole runs are resampled, each sample by itself."""
    rng, runs = np.random.default_rng(seed), min(len(sample) for sample in samples)
    sums = sum(sample[rng.integers(0, len(sample), (RESAMPLES, len(sample)))].mean(axis=1) for sample in samples)
    widened = -math.sqrt(runs / (runs - 1)) * float(special.stdtrit(runs - 1, (1 + LEVEL) / 2))
    tail = float(special.ndtr(widened))
    low, high = np.quantile(np.asarray(sums), (tail, 1 - tail))
    return float(low), float(high)


def _quantile(values: Sequence[float], q: float) -> float:
    """Linear between neighbours, as numpy's default."""
    return float(np.quantile(np.asarray(values, float), q))
