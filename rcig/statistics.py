"""Statistics of accuracies that respect how they arose, networks nested in distilled seeds; and scores made of them.

Networks trained on one set share its luck, so n networks of k seeds are not n independent numbers: standard errors and
intervals go by the spread of the seeds' means.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

from rcig.errors import StoreError

LEVEL = 0.95
"""of the intervals"""
FEW = 3
"""with fewer seeds than this an interval says little: with two, its half width is 12.7 standard errors"""


class Difference(NamedTuple):
    """Between two sets, over seeds that both have."""

    mean: float
    low: float
    high: float
    """the interval that holds the true mean in LEVEL of all repetitions with new seeds; NaN for one seed"""
    seeds: int


def standard_error(values: pd.DataFrame) -> float:
    """Of the mean over new seeds, for a frame with the columns seed and value, one row per network; NaN for one seed.

    Right for as many networks of every seed: then the spread of the seeds' means holds that of the networks as well.
    """
    means = values.groupby("seed")["value"].mean()
    return float(means.std(ddof=1) / np.sqrt(len(means)))


def label_robust_score(
    *, full_hard: float, distilled_hard: float, distilled: float, random: float, weight: float = 0.5
) -> float:
    """What a set's images are worth without the help of its labels, from 0 to 1 (DD-Ranking, Li et al. 2024).

    From accuracies as fractions: of the full dataset and of the distilled set with hard labels, and of the distilled
    set and a random real subset of its size by the method's own protocol. `weight` is that of the improvement over
    random against the hard labels' loss of accuracy. Raises StoreError for an accuracy outside [0, 1].
    """
    _check_fractions(full_hard, distilled_hard, distilled, random)
    return _ranked(weight * (distilled - random) - (1 - weight) * (full_hard - distilled_hard))


def augmentation_robust_score(
    *,
    distilled_augmented: float,
    random_augmented: float,
    distilled: float,
    random: float,
    weight: float = 0.5,
) -> float:
    """What a set is worth with and without augmentation, from 0 to 1 (DD-Ranking, Li et al. 2024).

    From accuracies as fractions: of the distilled set and a random real subset of its size, by the same protocol with
    augmentation, which `weight` counts, and without. Raises StoreError for an accuracy outside [0, 1].
    """
    _check_fractions(distilled_augmented, random_augmented, distilled, random)
    return _ranked(weight * (distilled_augmented - random_augmented) + (1 - weight) * (distilled - random))


def _ranked(advantage: float) -> float:
    """From [−1, 1] to [0, 1], steeper towards 1."""
    return float((np.exp(advantage) - np.exp(-1)) / (np.exp(1) - np.exp(-1)))


def _check_fractions(*accuracies: float) -> None:
    for value in accuracies:
        if not 0 <= value <= 1:
            raise StoreError(f"expected accuracies as fractions from 0 to 1, got {value}; divide percent by 100")


def paired(first: pd.DataFrame, second: pd.DataFrame) -> Difference:
    """The mean of first − second, seed by seed, for frames with the columns seed and value (one row per network).

    What two methods share at one seed (its initial images) cancels; each seed counts the same, whatever its number of
    networks. The interval is Student's. Raises StoreError where no seed is in both.
    """
    means = [frame.groupby("seed")["value"].mean() for frame in (first, second)]
    found = (means[0] - means[1]).dropna().to_numpy()
    if not len(found):
        given = [sorted(frame["seed"].unique().tolist()) for frame in (first, second)]
        raise StoreError(f"no seed in common: {given[0]} and {given[1]}; distil both with the same seeds")
    half = float("nan")
    if len(found) > 1:
        half = t.ppf((1 + LEVEL) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return Difference(float(found.mean()), float(found.mean() - half), float(found.mean() + half), len(found))


def caution(found: Difference) -> str:
    """What a reader must know before believing the interval; empty where it may stand alone."""
    if found.seeds >= FEW:
        return ""
    return "one seed: no interval" if found.seeds == 1 else f"{found.seeds} seeds: a very wide interval"
