"""What a dataset holds, and what whitening does to it, in numbers and in pixels."""

import hashlib
from typing import Any

import numpy as np

from rcig import whiten
from rcig.data import splits
from rcig.data.settings import Dataset
from rcig.data.splits import Split
from rcig.whiten import Whitening

RANKS = 200
"""eigenvalues kept, at most, evenly spaced in the logarithm of their rank"""


def measured(train: Split, test: Split, dataset: Dataset, whitening: Whitening) -> dict[str, Any]:
    """Images by class and part, and what the whitening is."""
    eigenvalues = whitening.eigenvalues
    return {
        "counts": {
            part: np.bincount(split.labels, minlength=dataset.classes).tolist()
            for part, split in (("train", train), ("test", test))
        },
        "duplicates": duplicates(train, test),
        "held_out": int(splits.held_out_mask(train.labels, dataset.held_out).sum()),
        "shape": list(train.images.shape[1:]),
        "whitening": dataset.whitening,
        "mean": whitening.mean.tolist(),
        "std": whitening.std.tolist(),
        "spectrum": spectrum(eigenvalues),
        "ridge": float(whiten.ZCA_REGULARISATION * eigenvalues.mean()) if eigenvalues.size else None,
    }


def duplicates(train: Split, test: Split) -> int:
    """Test images that are training images too, pixel by pixel."""
    digests = [hashlib.sha256(image).digest() for image in test.images]
    wanted = set(digests)
    found = {digest for image in train.images if (digest := hashlib.sha256(image).digest()) in wanted}
    return sum(digest in found for digest in digests)


def visible(x: np.ndarray) -> np.ndarray:
    """Whitened images as uint8: grey is 0, and the largest deviation of each image reaches black or white."""
    largest = np.abs(x).max((1, 2, 3), keepdims=True)
    return np.round(127.5 + 127.5 * x / largest).astype(np.uint8)


def spectrum(eigenvalues: np.ndarray) -> list[list[float]]:
    """[rank from 1, eigenvalue] pairs."""
    if not len(eigenvalues):
        return []
    ranks = np.unique(np.round(np.geomspace(1, len(eigenvalues), RANKS)).astype(int))
    return [[int(rank), float(eigenvalues[rank - 1])] for rank in ranks]
