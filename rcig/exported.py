"""The folder that `rcig.export` writes: what lies in it, and how it becomes a set again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.linalg import inv

from rcig import store, whiten
from rcig.errors import StoreError
from rcig.sets import DistilledSet
from rcig.store import Schema
from rcig.whiten import Whitening

RECIPE, SET, WHITENING, SCRIPT = "recipe.json", "set.npz", "whitening.npz", "pytorch.py"
ARRAYS = Schema(
    "set of an export",
    {
        "images": ("float32", "n h w c"),
        "labels": ("float32", "n k"),
        "pixels": ("uint8", "n h w c"),
        "meta": ("str", ""),
    },
)
HALF = Schema(
    "whitening of an export",
    {
        "mean": ("float32", "c"),
        "std": ("float32", "c"),
        "mean_image": ("float32", "h w c"),
        "forward": ("float32", "m"),
        "eigenvalues": ("float32", "d"),
    },
)
"""`forward` is the lower triangle of the symmetric matrix, row by row"""
FIX = "export it again"


def halved(whitening: Whitening) -> dict[str, np.ndarray]:
    """The arrays of HALF."""
    return {
        "mean": whitening.mean,
        "std": whitening.std,
        "mean_image": whitening.mean_image,
        "forward": whitening.forward[np.tril_indices(len(whitening.forward))],
        "eigenvalues": whitening.eigenvalues,
    }


def whole(arrays: Mapping[str, np.ndarray]) -> Whitening:
    """The whitening of the arrays of HALF; its inverse is computed anew."""
    size = len(arrays["eigenvalues"])
    forward = np.zeros((size, size), np.float32)
    rows, columns = np.tril_indices(size)
    forward[rows, columns] = forward[columns, rows] = arrays["forward"]
    inverse = inv(forward.astype(float)).astype(np.float32) if size else forward
    return Whitening(arrays["mean"], arrays["std"], arrays["mean_image"], forward, inverse, arrays["eigenvalues"])


def read(folder: Path) -> DistilledSet:
    """The set of an export, with its whitening where that was exported.

    Raises StoreError for a folder that is damaged, or holds numbers that no export has.
    """
    arrays = _load(folder / SET, ARRAYS)
    store.check_finite(folder / SET, arrays, ("images", "labels"))
    meta = store.read_meta(folder / SET, arrays["meta"], {"class_names": arrays["labels"].shape[1]}, FIX)
    whitening = None
    if (folder / WHITENING).exists():
        half = _load(folder / WHITENING, HALF)
        store.check_finite(folder / WHITENING, half, tuple(half))
        size = len(half["eigenvalues"])
        if len(half["forward"]) != size * (size + 1) // 2:
            raise StoreError(f"{folder / WHITENING}: {len(half['forward'])} numbers are no half of {size}²; {FIX}")
        whitening = whole(half)
        if not any(whiten.fits(whitening, kind, arrays["images"].shape[1:]) for kind in get_args(whiten.Kind)):
            raise StoreError(f"{folder / WHITENING}: is not for images {arrays['images'].shape[1:]}; {FIX}")
    return DistilledSet(arrays["images"], arrays["labels"], arrays["pixels"], meta, whitening)


def _load(path: Path, schema: Schema) -> dict[str, Any]:
    arrays = store.load_arrays(path, FIX)
    store.check(schema, arrays, str(path), FIX)
    return arrays
