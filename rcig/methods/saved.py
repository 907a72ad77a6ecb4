"""Distilled sets in files, as runs take them up: to start from, or to keep as they are."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rcig import store
from rcig.errors import StoreError
from rcig.methods.base import Distilled


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file of distilled sets, and its meta."""
    arrays = store.load(path, store.DISTILLED)
    return arrays, json.loads(str(arrays["meta"]))


def of_seed(path: Path, seed: int, shape: tuple[int, ...], classes: int) -> Distilled:
    """The set of that seed, or the file's first where it has none of it.

    Raises StoreError unless its images have this shape, (n, h, w, c), and its labels so many classes.
    """
    arrays, meta = load(path)
    seeds = meta["seeds"]
    images, labels, temperature = (arrays[name][seeds.index(seed) if seed in seeds else 0] for name in store.LEARNED)
    if (images.shape, labels.shape) != (shape, (shape[0], classes)):
        raise StoreError(
            f"{path}: expected images {shape} and {classes} classes, got {images.shape} and {labels.shape[1]};"
            " correct dataset or images_per_class in params.yaml, or name another file"
        )
    return Distilled(jnp.asarray(images), jnp.asarray(labels), jnp.asarray(temperature))
