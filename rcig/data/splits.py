"""Labelled images that may be larger than memory, and stratified choices among them, fixed by a seed."""

from typing import NamedTuple

import numpy as np

from rcig.errors import ParamsError


class Split(NamedTuple):
    images: np.ndarray
    """uint8 (n, h, w, c), perhaps a memory map"""
    labels: np.ndarray
    """int32 (n,)"""


class View(NamedTuple):
    """Some examples of a split, whose images are read when they are asked for."""

    split: Split
    members: np.ndarray
    """(m,) their positions in the split"""

    @property
    def labels(self) -> np.ndarray:
        """int32 (m,)"""
        return self.split.labels[self.members]

    def take(self, positions: np.ndarray) -> Split:
        """The examples at these positions of the view, read into memory."""
        index = self.members[positions]
        return Split(np.asarray(self.split.images[index]), self.split.labels[index])


def whole(split: Split) -> View:
    return View(split, np.arange(len(split.labels)))


def held_out_mask(labels: np.ndarray, fraction: float) -> np.ndarray:
    """Marks the held-out part of a training split: the same fraction of every class -> bool (n,).

    The choice depends on labels and fraction alone, so every stage of every experiment agrees on it. Raises ParamsError
    where it leaves nothing on either side.
    """
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen = np.random.default_rng([20230221, int(label)]).permutation(members)
        mask[chosen[: round(fraction * len(members))]] = True
    if mask.all() or not mask.any():
        raise ParamsError(
            f"held_out: {fraction:g} of every class holds out {mask.sum()} of {len(labels)} training images; correct"
            " the dataset's held_out, or give more images"
        )
    return mask


def test_mask(labels: np.ndarray, fraction: float) -> np.ndarray:
    """Marks the test part of a dataset that has none: this fraction of every class, one image at least -> bool (n,).

    The choice depends on labels and fraction alone. A class of one image has none that is marked.
    """
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        mask[np.random.default_rng([20261126, int(label)]).permutation(members)[:count]] = True
    return mask


def chunk(members: np.ndarray, size: int, index: int) -> np.ndarray:
    """The chunk of that number, from 0, of disjoint chunks of `size` members, in ascending order.

    Members are shuffled beforehand, always alike. Raises ParamsError where there are too few for it.
    """
    if (index + 1) * size > len(members):
        raise ParamsError(
            f"chunk {index} of {size} images does not fit into {len(members)} (numbers start at 0);"
            " lower chunk, or use smaller seeds"
        )
    shuffled = np.random.default_rng(20230221).permutation(members)
    return np.sort(shuffled[index * size : (index + 1) * size])


def sample_per_class(labels: np.ndarray, per_class: int, classes: int, seed: int) -> np.ndarray:
    """Indices of `per_class` random examples of every class, ordered by class -> (per_class · classes,).

    Raises ParamsError where a class has fewer.
    """
    chosen = []
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        if len(members) < per_class:
            raise ParamsError(
                f"{per_class} images per class asked for, class {label} has {len(members)} for distillation;"
                " lower images_per_class, or let more be seen: held_out, chunk"
            )
        chosen.append(np.random.default_rng([seed, label]).choice(members, per_class, replace=False))
    return np.concatenate(chosen)
