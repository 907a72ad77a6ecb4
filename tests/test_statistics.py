"""Paired differences: against naive loops, and in simulations of what they claim."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rcig.statistics import augmentation_robust_score, caution, label_robust_score, paired, standard_error


def frame(values: np.ndarray) -> pd.DataFrame:
    """(seeds, networks) -> one row per network."""
    seeds = np.repeat(np.arange(len(values)), values.shape[1])
    return pd.DataFrame({"seed": seeds, "value": values.ravel()})


def zero(seeds: int) -> pd.DataFrame:
    """What leaves the other frame as it is."""
    return frame(np.zeros((seeds, 1)))


def test_a_difference_against_loops() -> None:
    first, second = np.random.default_rng(0).random((2, 4, 3))
    found = paired(frame(first).sample(frac=1, random_state=0), frame(second))
    differences = [statistics.fmean(a) - statistics.fmean(b) for a, b in zip(first, second, strict=True)]
    assert found.mean == pytest.approx(statistics.fmean(differences))
    low, high = stats.t.interval(0.95, 3, found.mean, statistics.stdev(differences) / 2)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.seeds == 4


def test_seeds_count_the_same_whatever_their_number_of_networks() -> None:
    table = pd.DataFrame({"seed": [0, 0, 0, 1], "value": [0.5, 0.5, 0.5, 0.9]})
    assert paired(table, zero(2)).mean == pytest.approx(0.7)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say_where_seeds_differ(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    values = 0.7 + 0.05 * rng.normal(size=(800, seeds, 1)) + 0.02 * rng.normal(size=(800, seeds, 5))
    held = pooled = 0
    for sample in values:
        found = paired(frame(sample), zero(seeds))
        held += found.low <= 0.7 <= found.high
        low, high = stats.t.interval(0.95, sample.size - 1, sample.mean(), stats.sem(sample.ravel()))
        pooled += low <= 0.7 <= high
    assert abs(held / 800 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 800)
    assert pooled / 800 < 0.8, "networks taken for independent would have promised too much"


def test_a_paired_difference_is_free_of_what_both_share() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(6, 1))
    first, second = (frame(shared + shift + 0.01 * rng.normal(size=(6, 4))) for shift in (0.1, 0.0))
    found = paired(first, second)
    assert found.mean == pytest.approx(0.1, abs=0.02)
    assert found.low > 0.05
    assert found.high - found.low < 0.1 < stats.sem(first.groupby("seed")["value"].mean())
    means = [[group["value"].mean() for _, group in table.groupby("seed")] for table in (first, second)]
    expected = stats.ttest_rel(*means).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_pairs_are_the_seeds_that_both_have() -> None:
    first = pd.DataFrame({"seed": [0, 1, 7], "value": [0.5, 0.6, 0.0]})
    second = pd.DataFrame({"seed": [1, 0, 8], "value": [0.4, 0.3, 1.0]})
    found = paired(first, second)
    assert (found.mean, found.seeds) == (pytest.approx(0.2), 2)
    with pytest.raises(ValueError, match=r"no seed in common: \[7\] and \[8\]; distil both with the same seeds"):
        paired(first[2:], second[2:])


def test_one_seed_has_no_interval_and_says_so() -> None:
    one = paired(frame(np.array([[0.5, 0.7]])), zero(1))
    assert one.mean == pytest.approx(0.6)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert caution(one) == "one seed: no interval"
    assert caution(paired(frame(np.array([[0.5], [0.7]])), zero(2))) == "2 seeds: a very wide interval"
    assert caution(paired(frame(np.array([[0.5], [0.7], [0.6]])), zero(3))) == ""


def test_the_standard_error_against_loops_and_its_claim() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((4, 3))
    means = [statistics.fmean(networks) for networks in values]
    assert standard_error(frame(values)) == pytest.approx(statistics.stdev(means) / 2)
    assert math.isnan(standard_error(frame(values[:1])))
    # Deviation 2 between seeds and 1 between networks: the mean of 4 × 3 has the variance 2²/4 + 1/12.
    draws = 2 * rng.normal(size=(3000, 4, 1)) + rng.normal(size=(3000, 4, 3))
    squares = [standard_error(frame(draw)) ** 2 for draw in draws]
    expected = 1 + 1 / 12
    assert statistics.fmean(squares) == pytest.approx(expected, rel=4 * math.sqrt(2 / 3 / 3000))
    assert draws.mean((1, 2)).var() == pytest.approx(expected, rel=4 * math.sqrt(2 / 3000))


def test_robust_scores_at_their_ends_and_by_hand() -> None:
    best = label_robust_score(full_hard=0, distilled_hard=1, distilled=1, random=0)
    worst = label_robust_score(full_hard=1, distilled_hard=0, distilled=0, random=1)
    assert (worst, best) == pytest.approx((0, 1))
    neutral = (1 - math.exp(-1)) / (math.e - math.exp(-1))
    assert label_robust_score(full_hard=0.7, distilled_hard=0.7, distilled=0.4, random=0.4) == pytest.approx(neutral)
    found = label_robust_score(full_hard=0.8, distilled_hard=0.5, distilled=0.6, random=0.2, weight=0.25)
    expected = math.exp(0.25 * 0.4 - 0.75 * 0.3)
    assert found == pytest.approx((expected - math.exp(-1)) / (math.e - math.exp(-1)))
    found = augmentation_robust_score(
        distilled_augmented=0.6, random_augmented=0.3, distilled=0.5, random=0.4, weight=0.75
    )
    expected = math.exp(0.75 * 0.3 + 0.25 * 0.1)
    assert found == pytest.approx((expected - math.exp(-1)) / (math.e - math.exp(-1)))


def test_percent_instead_of_fractions() -> None:
    with pytest.raises(ValueError, match="as fractions from 0 to 1, got 47; divide percent by 100"):
        label_robust_score(full_hard=0.8, distilled_hard=47, distilled=0.6, random=0.2)
