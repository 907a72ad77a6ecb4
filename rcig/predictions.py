"""What networks predict for every test image, and what that says: classes mixed up, and images that are hard."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rcig import store


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

    Columns: seed and network (their numbers), missed, images, value. Raises ValueError where the two have other test
    images.
    """
    if not np.array_equal(found.labels, reference.labels):
        raise ValueError("predictions for other test images than the reference networks'; run `dvc repro` for both")
    misses = missed(reference)
    records = [
        (seed, network, count, int((misses == count).sum()), float(correct[misses == count].mean()))
        for seed, network in np.ndindex(*found.predicted.shape[:2])
        for correct in [found.correct[seed, network]]
        for count in np.unique(misses).tolist()
    ]
    return pd.DataFrame(records, columns=["seed", "network", "missed", "images", "value"])
