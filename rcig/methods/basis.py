"""A distilled set as mixtures of shared basis images (Deng & Russakovsky 2022), a parameterisation for any method."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rcig.methods.base import Distilled


class Basis(NamedTuple):
    """n images as coefficients × k basis images. It stands where a `Distilled` has its images."""

    coefficients: jax.Array
    """(n, k)"""
    images: jax.Array
    """(k, h, w, c)"""


def decode(coordinates: Distilled) -> Distilled:
    """The set with its mixtures computed; a set without a basis as it is."""
    if not isinstance(coordinates.images, Basis):
        return coordinates
    mixed = jnp.tensordot(coordinates.images.coefficients, coordinates.images.images, 1)
    return coordinates._replace(images=mixed)


def encode(distilled: Distilled, count: int, key: jax.Array) -> Distilled:
    """The set with `count` basis images of unit mean square that come as close to its images as so many can.

    Those are the principal directions of the images. As many basis images as images, or more, are the images
    themselves, and the rest noise that nothing uses yet.
    """
    n, *shape = distilled.images.shape
    if count >= n:
        noise = jax.random.normal(key, (count - n, *shape), distilled.images.dtype)
        basis = Basis(jnp.eye(n, count, dtype=noise.dtype), jnp.concatenate([distilled.images, noise]))
        return distilled._replace(images=basis)  # type: ignore[arg-type]
    flat = distilled.images.reshape(n, -1)
    directions = jnp.linalg.svd(flat, full_matrices=False)[2][:count]
    unit = directions * jnp.sqrt(flat.shape[1])
    basis = Basis(flat @ directions.T / jnp.sqrt(flat.shape[1]), unit.reshape(count, *shape))
    return distilled._replace(images=basis)  # type: ignore[arg-type]


def stored_floats(images: int, classes: int, pixels: int, count: int | None) -> int:
    """What storing a set takes: its images or, with a basis, coefficients and basis images; and its labels."""
    return images * classes + (images * pixels if count is None else images * count + count * pixels)
