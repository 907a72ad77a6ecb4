"""Distilled sets in files, as runs take them up: to start from, or to keep as they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rcig import store, whiten
from rcig.errors import StoreError
from rcig.methods.base import Distilled
from rcig.whiten import Whitening

LOOKED_AT = 20
"""images of each set whose pixels are compared"""


def of_seed(path: Path, seed: int, shape: tuple[int, ...], classes: int, whitening: Whitening) -> Distilled:
    """The set of that seed, or the file's first where it has none of it.

    Raises StoreError unless its images have this shape, (n, h, w, c), and this whitening, and its labels so many
    classes.
    """
    arrays, meta = store.load_distilled(path)
    seeds = meta["seeds"]
    images, labels, temperature = (arrays[name][seeds.index(seed) if seed in seeds else 0] for name in store.LEARNED)
    if (images.shape, labels.shape) != (shape, (shape[0], classes)):
        raise StoreError(
            f"{path}: expected images {shape} and {classes} classes, got {images.shape} and {labels.shape[1]};"
            " correct dataset or images_per_class in params.yaml, or name another file"
        )
    check_whitening(path, arrays, meta, whitening)
    return Distilled(jnp.asarray(images), jnp.asarray(labels), jnp.asarray(temperature))


def check_whitening(
    path: Path | str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], whitening: Whitening
) -> None:
    """Raise StoreError for sets of other statistics, and for sets of another whitening by the same.

    The file holds its images twice, whitened and as pixels, which says by which whitening: the same one leads from the
    images to the pixels again, but for a step of rounding on another machine.
    """
    fix = "correct dataset in params.yaml, or distil the set again"
    for name in ("mean", "std"):
        expected = getattr(whitening, name)
        if name in meta and not np.array_equal(np.float32(meta[name]), expected):
            raise StoreError(
                f"{path}: its images were whitened with {name} {meta[name]}, the dataset has {expected.tolist()}; {fix}"
            )
    for images, pixels in zip(arrays["images"][:, :LOOKED_AT], arrays["pixels"][:, :LOOKED_AT], strict=True):
        again = whiten.to_pixels(whitening, images)
        if np.abs(again.astype(int) - pixels).max() > 1:
            raise StoreError(
                f"{path}: its pixels are not its images by the whitening of the dataset, which was another then; {fix}"
            )
