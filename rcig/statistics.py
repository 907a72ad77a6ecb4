"""Means and differences of accuracies that respect how they arose: networks nested in distilled seeds.

Networks trained on one set share its luck, so n networks of k seeds are not n independent numbers: standard errors and
intervals go by the spread of the seeds' means.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

LEVEL = 0.95
"""of the intervals"""
FEW = 3
"""with fewer seeds than this an interval says little: with two, its half width is 12.7 standard errors"""


class Estimate(NamedTuple):
    mean: float
    std: float
    """over all networks of all seeds; NaN for one"""
    error: float
    """standard error of the mean; NaN for one seed"""
    low: float
    high: float
    """the interval that holds the true mean in LEVEL of all repetitions with new seeds; NaN for one seed"""
    seeds: int
    networks: int
    """of all seeds together"""


def estimate(values: pd.Series, seeds: pd.Series) -> Estimate:
    """The mean over `values` of networks, whose distilled seeds are `seeds`; each seed counts the same.

    Raises ValueError where there is no value.
    """
    if not len(values):
        raise ValueError("no values to average; run the evaluation first")
    means = values.groupby(seeds.to_numpy()).mean().to_numpy()
    std = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return Estimate(float(means.mean()), std, *_interval(means), len(means), len(values))


def paired(first: pd.DataFrame, second: pd.DataFrame) -> Estimate:
    """The mean of first − second, seed by seed, for frames with the columns seed and value.

    What two methods share at one seed (its initial images) cancels. Raises ValueError where no seed is in both.
    """
    means = [frame.groupby("seed")["value"].mean() for frame in (first, second)]
    difference = (means[0] - means[1]).dropna().to_numpy()
    if not len(difference):
        given = [sorted(frame["seed"].unique().tolist()) for frame in (first, second)]
        raise ValueError(f"no seed in common: {given[0]} and {given[1]}; distil both with the same seeds")
    std = float(difference.std(ddof=1)) if len(difference) > 1 else float("nan")
    interval = _interval(difference)
    return Estimate(float(difference.mean()), std, *interval, len(difference), len(first) + len(second))


def _interval(means: np.ndarray) -> tuple[float, float, float]:
    """(standard error, lower bound, upper bound) of the mean of independent numbers, by Student's t."""
    if len(means) < 2:
        return (float("nan"),) * 3
    error = means.std(ddof=1) / np.sqrt(len(means))
    half = t.ppf((1 + LEVEL) / 2, len(means) - 1) * error
    return float(error), float(means.mean() - half), float(means.mean() + half)


def caution(found: Estimate) -> str:
    """What a reader must know before believing the interval; empty where it may stand alone."""
    if found.seeds >= FEW:
        return ""
    return "one seed: no interval" if found.seeds == 1 else f"{found.seeds} seeds: a very wide interval"
