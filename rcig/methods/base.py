"""What every method has in common: a distilled set, what it is made from, and pure functions that improve it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rcig.data.splits import View
from rcig.nets import Net
from rcig.whiten import Whitening


class Distilled(NamedTuple):
    """A distilled set of n images in whitened space."""

    images: jax.Array
    """(n, h, w, c)"""
    labels: jax.Array
    """(n, C), centred: a hard label is one-hot − 1/C"""
    log_temperature: jax.Array
    """() Platt log-temperature of the outer loss"""


def support(
    distilled: Distilled, mirror: bool, transform: Callable[[jax.Array], jax.Array] | None = None
) -> tuple[jax.Array, jax.Array]:
    """Images and labels that networks are fitted to: with mirroring, each also mirrored; then transformed."""
    images, labels = distilled.images, distilled.labels
    if mirror:
        images = jnp.concatenate([images, images[:, :, ::-1]])
        labels = jnp.concatenate([labels, labels])
    return (images if transform is None else transform(images)), labels


class Batch(NamedTuple):
    """Real training images in whitened space, with one-hot labels."""

    images: jax.Array
    """(b, h, w, c)"""
    labels: jax.Array
    """(b, C)"""


Info = dict[str, jax.Array]
"""Scalars worth plotting; `loss` is always there."""


State = TypeVar("State")
Food = TypeVar("Food")
Result = TypeVar("Result")


class Method(NamedTuple, Generic[State, Food, Result]):
    """A method as four pure functions. All state that must survive a crash is in State, a PyTree of arrays."""

    init: Callable[[jax.Array, Any], State]
    """(key, initial set) -> State"""
    step: Callable[[jax.Array, State, Food], tuple[State, Info]]
    """(key, State, food) -> (State, Info); it is compiled"""
    result: Callable[[State], Result]
    """State -> what to return now; of a distilling method a Distilled"""
    feed: Callable[[int], Food]
    """step number -> arrays that the step works on: a function of seed and number alone, so that resume is exact"""


class Member(NamedTuple):
    """What sets one method of a file apart from the others."""

    fixed: Mapping[str, Any] = MappingProxyType({})
    """settings that make it what it is: with another value it is another method"""
    preset: Mapping[str, Any] = MappingProxyType({})
    """defaults of its own"""
    learns: bool = True
    """whether it takes steps; one that does not only keeps a set"""
    starts: bool = True
    """whether it takes up an initial set; one that does not reads its set from the file that the run needs"""


class Setup(NamedTuple):
    """What a method's `make` gets: one run of one seed, or of one block of it. Nothing of it is derived twice."""

    shape: tuple[int, int, int]
    """(h, w, c) of an image"""
    class_names: list[str]
    images: int
    """of the set when this run ends, mirror images not counted"""
    steps: int
    mirror: bool
    """whether networks see every image together with its mirror image"""
    l2_rate: float
    """ridge rate per distilled image, before mirroring"""
    basis: int | None
    """basis images that the set is mixed of; None: every pixel is learned"""
    mobility: tuple[float, ...] | None
    """one factor on the updates of each image and its label, 0 for one that stays; None: all are learned alike"""
    network: Callable[..., Net]
    """(architecture, **more) -> a network of the run's width and depth; a kernel method never calls it"""
    seen: View
    """the real training images that this run may see"""
    whitened: Callable[[np.ndarray], jax.Array]
    """raw images -> whitened ones, on the devices of the run"""
    whitening: Whitening
    """the transform itself"""
    batch_size: int
    weights: np.ndarray | None
    """how often each real image is to be drawn, in proportion; None: every image once in a pass"""
    seed: int
    needs: Path
    """the file that the run reads beside the dataset"""

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def support(self) -> int:
        """Images that networks are fitted to, mirror images counted."""
        return self.images * (2 if self.mirror else 1)


class Record(NamedTuple):
    """What the maker of a set says of it."""

    made: dict[str, Any]
    """what summary.json said: method, size, seeds, steps, seconds, machine, revision, …"""
    curve: str
    """the training curve as CSV"""
    meta: dict[str, Any]
    """what the file of the set says of it"""


def kept(load: Callable[[jax.Array, Distilled], Distilled]) -> Method[Distilled, tuple[()], Distilled]:
    """The method that takes a set as `load` makes it of (key, initial set) and leaves it as it is."""
    nothing: Info = {"loss": jnp.zeros(())}
    return Method(load, lambda key, state, food: (state, nothing), lambda state: state, lambda step: ())
