"""The intervals of the reports against what is known: coverage, exact ranks, and what must be refused."""
import math
import random

import pytest

from reports.stats import MixedProvenanceError, Reading, over_runs, quantile_interval, ratio, smallest_n


def reading(value: float | None, provenance: str = "measured") -> Reading:
    return Reading(value, "ms", 100, "derived", "" if value is not None else "no sensor", provenance)


def test_two_provenances_are_never_pooled() -> None:
    with pytest.raises(MixedProvenanceError, match="emulated, measured"):
        over_runs([reading(1.0), reading(2.0, "emulated")])


def test_a_run_without_a_value_does_not_count_and_none_is_not_zero() -> None:
    estimate = over_runs([reading(4.0), reading(None, "modelled"), reading(2.0)])
    assert estimate is not None
    assert (estimate.value, estimate.n, estimate.low) == (3.0, 2, None)
    assert "n too small" in estimate.reason
    assert over_runs([reading(None)]) is None


@pytest.mark.parametrize("runs", [3, 4, 5])
def test_t_interval_of_few_runs_contains_the_median(runs: int) -> None:
    rng = random.Random(runs)
    for _ in range(300):
        estimate = over_runs([reading(rng.lognormvariate(0, 2)) for _ in range(runs)])
        assert estimate is not None
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low <= estimate.value <= estimate.high


def test_interval_is_clipped_to_what_a_share_can_be() -> None:
    estimate = over_runs([reading(100.0), reading(99.0), reading(97.0)], (0.0, 100.0))
    assert estimate is not None
    assert estimate.high == 100.0


def test_values_beyond_the_bounds_do_not_turn_an_interval_around() -> None:
    estimate = over_runs([reading(-5.0), reading(-4.0), reading(-6.0)], (0.0, 100.0))
    assert estimate is not None and estimate.low is not None and estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high


def test_smallest_n_is_where_the_interval_appears() -> None:
    assert [smallest_n(q) for q in (0.5, 0.9, 0.95, 0.99)] == [6, 29, 59, 299]
    for q in (0.5, 0.95):
        n = smallest_n(q)
        assert quantile_interval([float(i) for i in range(n)], q).low is not None
        short = quantile_interval([float(i) for i in range(n - 1)], q)
        assert short.low is None
        assert str(n) in short.reason


@pytest.mark.parametrize(("q", "n"), [(0.5, 6), (0.5, 25), (0.95, 120), (0.99, 500)])
def test_order_statistics_cover_the_true_quantile(q: float, n: int) -> None:
    rng = random.Random(n)
    truth, hits, rounds = -math.log(1 - q), 0, 600
    for _ in range(rounds):
        estimate = quantile_interval([rng.expovariate(1.0) for _ in range(n)], q)
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low <= truth <= estimate.high
    assert hits / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)


@pytest.mark.parametrize(("runs", "paired"), [(3, True), (5, False), (6, True), (10, False)])
def test_a_against_a_is_called_different_in_at_most_five_percent(runs: int, paired: bool) -> None:
    rng = random.Random(runs)
    rounds, alarms = 250, 0
    for _ in range(rounds):
        sides = [[rng.lognormvariate(1.0, 0.05) for _ in range(runs)] for _ in range(2)]
        estimate = ratio(sides[0], sides[1], paired)
        assert estimate.low is not None and estimate.high is not None
        alarms += not estimate.low <= 1.0 <= estimate.high
    assert alarms / rounds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


def test_a_true_difference_is_found_and_repeats_to_the_bit() -> None:
    control = [10.0, 10.2, 9.9, 10.1, 10.0]
    estimate = ratio([value * 0.9 for value in control], control, paired=True)
    assert estimate == ratio([value * 0.9 for value in control], control, paired=True)
    assert estimate.value == pytest.approx(0.9)
    assert estimate.high is not None and estimate.high < 0.95


def test_ratio_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="equal number"):
        ratio([1.0, 2.0], [1.0], paired=True)
    with pytest.raises(ValueError, match="positive"):
        ratio([0.0, 1.0, 1.0], [1.0, 1.0, 1.0], paired=False)
    assert ratio([1.0, 1.0], [2.0, 2.0], paired=True).low is None
