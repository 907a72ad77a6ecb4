"""What networks predict for every test image, and what that says: classes mixed up, and images that are hard."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rcig import store
from rcig.errors import StoreError


class Predictions(NamedTuple):
    predicted: np.ndarray
    """int16 (s, k, n): classes that k networks for each of s seeds say"""
    labels: np.ndarray
    """int16 (n,): the truth"""
    class_names: list[str]

    @property
    def correct(self) -> np.ndarray:
        """bool (s, k, n)"""
        return self.predicted == self.labels


def save(path: Path, predicted: np.ndarray, labels: np.ndarray, class_names: list[str]) -> None:
    narrow = {"predicted": predicted.astype(np.int16), "labels": labels.astype(np.int16)}
    store.save(path, store.PREDICTIONS, **narrow, class_names=class_names)


def read(path: Path) -> Predictions:
    """Raises StoreError for a file that is missing or damaged."""
    arrays = store.load(path, store.PREDICTIONS)
    return Predictions(arrays["predicted"], arrays["labels"], arrays["class_names"].tolist())


def confusion(found: Predictions) -> np.ndarray:
    """(C, C): of the images of class i, the share that is said to be of class j, over all networks.

    Its diagonal is the accuracy by class. A class without images has NaN.
    """
    classes = len(found.class_names)
    pairs = found.labels.astype(int) * classes + found.predicted  # (s, k, n)
    counts = np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(1, keepdims=True)


def missed(reference: Predictions) -> np.ndarray:
    """(n,): how many of the reference networks miss each image."""
    return (~reference.correct).sum((0, 1))


def by_hardness(found: Predictions, reference: Predictions) -> pd.DataFrame:
    """Accuracy of every network on the images that equally many reference networks miss.

    Columns: seed and network (their numbers), missed, images, value. Raises StoreError where the two have other test
    images.
    """
    if not np.array_equal(found.labels, reference.labels):
        raise StoreError("predictions for other test images than the reference networks'; run `dvc repro` for both")
    misses = missed(reference)
    records = [
        (seed, network, count, int((misses == count).sum()), float(correct[misses == count].mean()))
        for seed, network in np.ndindex(*found.predicted.shape[:2])
        for correct in [found.correct[seed, network]]
        for count in np.unique(misses).tolist()
    ]
    return pd.DataFrame(records, columns=["seed", "network", "missed", "images", "value"])


STRATA = {"none": (0.0, 0.0), "up to 25 %": (0.0, 0.25), "25 to 50 %": (0.25, 0.5), "50 to 75 %": (0.5, 0.75)} | {
    "more": (0.75, 1.0)
}
"""Strata of hardness in words and as bounds, of which the lower is no part: how many networks miss an image."""


def hardness(sets: Iterable[Predictions]) -> np.ndarray:
    """(n,): the share of networks that miss each test image, averaged over the sets that they were trained on."""
    return np.mean([(~found.correct).mean((0, 1)) for found in sets], axis=0)


def by_stratum(found: Predictions, score: np.ndarray) -> dict[str, float]:
    """Mean accuracy of the networks on the images of each of STRATA; NaN where there is none."""
    inside = {
        words: (score == 0) if high == 0 else (score > low) & (score <= high) for words, (low, high) in STRATA.items()
    }
    correct = found.correct.mean((0, 1))
    return {words: float(correct[mask].mean()) if mask.any() else float("nan") for words, mask in inside.items()}
