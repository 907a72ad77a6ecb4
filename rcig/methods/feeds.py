"""What steps are fed with: functions of the step number, whose every draw is a function of the seed and that number."""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from rcig.data.splits import View
from rcig.errors import ParamsError
from rcig.methods.base import Batch, Setup


class Examples(NamedTuple):
    """Real training images as a batch brings them."""

    images: jax.Array
    """(b, h, w, c) whitened"""
    labels: np.ndarray
    """int32 (b,)"""

    def batch(self, classes: int) -> Batch:
        """With one-hot labels of so many classes."""
        return Batch(self.images, jax.nn.one_hot(self.labels, classes))


def nothing(step: int) -> tuple[()]:
    """For a method that looks at nothing."""
    return ()


def real_batches(setup: Setup) -> Callable[[int], Examples]:
    """Batches of the real images that a run may see; by its weights where it has some, else in shuffled passes."""
    return batches(setup.seen, setup.whitened, setup.batch_size, setup.seed, setup.weights)


def batches(
    seen: View, whitened: Any, batch_size: int, seed: int, weights: np.ndarray | None = None
) -> Callable[[int], Examples]:
    """Step number -> Examples. Raises ParamsError for batches that the devices of the mesh cannot share."""
    examples = len(seen.members)
    devices, size = jax.sharding.get_mesh().size, min(batch_size, examples)
    if devices and size % devices:
        raise ParamsError(
            f"a batch of {size} images cannot be shared by {devices} devices; give a multiple of {devices}"
        )

    def read(step: int) -> Examples:
        positions = batch_index(examples, batch_size, seed, step, weights)
        images, labels = seen.take(np.sort(positions))  # files are read forwards
        return Examples(whitened(images), labels)

    return read


def class_batches(setup: Setup) -> Callable[[int], Examples]:
    """Step number -> as many real images of every class, class by class, of a batch's number in all.

    None is there twice but of a class that has fewer: of that all are, as evenly as can be. Raises ParamsError where
    it is less than one of each.
    """
    members = [np.flatnonzero(setup.seen.labels == label) for label in range(setup.classes)]
    each = setup.batch_size // setup.classes
    if not each:
        raise ParamsError(
            f"a batch of {setup.batch_size} images has none of some of the {setup.classes} classes; raise batch_size"
        )
    fewest = min(map(len, members))
    if fewest < each:
        warnings.warn(
            f"a class has {fewest} images where a batch wants {each} of each: it uses all of them, some more than once",
            stacklevel=2,
        )

    def some(own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(own, each, replace=False) if len(own) >= each else np.resize(rng.permutation(own), each)

    def read(step: int) -> Examples:
        rng = np.random.default_rng([setup.seed, step])
        positions = np.concatenate([some(own, rng) for own in members])
        forwards = np.argsort(positions)  # files are read forwards
        images, labels = setup.seen.take(positions[forwards])
        back = np.argsort(forwards)
        return Examples(setup.whitened(images[back]), labels[back])

    return read


def batch_index(examples: int, batch_size: int, seed: int, step: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The examples of one batch, none twice.

    Passes through a shuffled order, anew for every pass; with weights, every batch is drawn for itself.
    """
    batch_size = min(batch_size, examples)
    if weights is not None:
        rng = np.random.default_rng([seed, step, batch_size])
        return rng.choice(examples, batch_size, replace=False, p=weights / weights.sum())
    epoch, position = divmod(step, examples // batch_size)
    return _order(examples, seed, epoch)[position * batch_size : (position + 1) * batch_size]


@lru_cache(maxsize=1)
def _order(examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(examples)
