"""What every method has in common: a distilled set, and pure functions that improve it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


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


class Distiller(NamedTuple):
    """A method. All state that must survive a crash is in State, a PyTree of arrays."""

    init: Callable[[jax.Array, Any], Any]
    """(key, initial set) -> State"""
    step: Callable[[jax.Array, Any, Batch], tuple[Any, Info]]
    """(key, State, real images) -> (State, Info)"""
    result: Callable[[Any], Any]
    """State -> the Distilled to return now (of `full_dataset`: the networks' variables)"""
