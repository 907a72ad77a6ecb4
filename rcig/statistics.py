"""Differences of accuracies that respect how they arose: networks nested in distilled seeds.

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


class Difference(NamedTuple):
    mean: float
    low: float
    high: float
    """the interval that holds the true mean in LEVEL of all repetitions with new seeds; NaN for one seed"""
    seeds: int


def paired(first: pd.DataFrame, second: pd.DataFrame) -> Difference:
    """The mean of first − second, seed by seed, for frames with the columns seed and value (one row per network).

    What two methods share at one seed (its initial images) cancels; each seed counts the same, whatever its number of
    networks. The interval is Student's. Raises ValueError where no seed is in both.
    """
    means = [frame.groupby("seed")["value"].mean() for frame in (first, second)]
    found = (means[0] - means[1]).dropna().to_numpy()
    if not len(found):
        given = [sorted(frame["seed"].unique().tolist()) for frame in (first, second)]
        raise ValueError(f"no seed in common: {given[0]} and {given[1]}; distil both with the same seeds")
    half = float("nan")
    if len(found) > 1:
        half = t.ppf((1 + LEVEL) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return Difference(float(found.mean()), float(found.mean() - half), float(found.mean() + half), len(found))


def caution(found: Difference) -> str:
    """What a reader must know before believing the interval; empty where it may stand alone."""
    if found.seeds >= FEW:
        return ""
    return "one seed: no interval" if found.seeds == 1 else f"{found.seeds} seeds: a very wide interval"
