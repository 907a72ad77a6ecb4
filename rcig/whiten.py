"""Whitening of raw images: mean and standard deviation per channel, and ZCA for colour images (Loo et al. 2023, C).

Fitted on the training split only. Raw pixels are bytes, so their sums and second moments are whole numbers, exact in
float64 in any order; the transforms are rounded to a fixed grid, which hides the last bits of the eigensolver.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ZCA_REGULARISATION = 0.1
"""times the mean eigenvalue (Loo et al. 2023, appendix C)"""
GRID = 2.0**-16
"""of the rounded transforms"""
CHUNK = 4096
"""images that are held in float64 at a time"""


class Whitening(NamedTuple):
    """x ↦ W ((x/255 − mean)/std) with d = h·w·c; W is empty (0, 0) where only mean and std are used."""

    mean: np.ndarray
    """(c,)"""
    std: np.ndarray
    """(c,)"""
    forward: np.ndarray
    """(d, d)"""
    inverse: np.ndarray
    """(d, d)"""


def fit(images: np.ndarray, zca: bool) -> Whitening:
    """The transform for uint8 images (n, h, w, c)."""
    channels = images.shape[-1]
    pixels = images[0].size // channels
    total, moment = moments(images, products=zca)
    mean = total.reshape(pixels, channels).mean(0) / len(images)
    square = np.zeros(channels)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].reshape(-1, channels).astype(np.int64)
        square += (part**2).sum(0)
    std = np.sqrt(square / (len(images) * pixels) - mean**2)
    if not std.all():
        raise ValueError(f"channel {int(std.argmin())} has the same value in every training image; nothing to whiten")
    forward = inverse = np.zeros((0, 0), np.float32)
    if zca:
        scale = np.tile(std, pixels)
        mean_image = total / len(images)
        covariance = (moment / len(images) - np.outer(mean_image, mean_image)) / np.outer(scale, scale)
        forward, inverse = zca_transform(covariance)
    return Whitening((mean / 255).astype(np.float32), (std / 255).astype(np.float32), forward, inverse)


def moments(images: np.ndarray, products: bool) -> tuple[np.ndarray, np.ndarray]:
    """Exact sums of pixels (d,) and, if asked for, of their products (d, d), as whole numbers in float64."""
    size = images[0].size
    total, moment = np.zeros(size), np.zeros((size, size) if products else (0, 0))
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK].reshape(-1, size).astype(np.float64)
        total += part.sum(0)
        if products:
            moment += part.T @ part
    return total, moment


def zca_transform(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Σ + εI)^(−1/2) and its inverse, with ε = ZCA_REGULARISATION · trace(Σ)/d."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.sqrt(np.maximum(values, 0) + ZCA_REGULARISATION * np.trace(covariance) / len(covariance))
    forward, inverse = (vectors / values) @ vectors.T, (vectors * values) @ vectors.T
    return _rounded(forward), _rounded(inverse)


def _rounded(matrix: np.ndarray) -> np.ndarray:
    return (np.round(matrix / GRID) * GRID).astype(np.float32)


def apply(whitening: Whitening, images: jax.Array | np.ndarray) -> jax.Array:
    """uint8 images (n, h, w, c) -> whitened float32 of the same shape."""
    x = (jnp.asarray(images) / jnp.float32(255) - whitening.mean) / whitening.std
    return _times(whitening.forward, x)


def invert(whitening: Whitening, x: jax.Array) -> jax.Array:
    """Whitened images (n, h, w, c) -> brightness from 0 to 1 (outside where no real image would be)."""
    return _times(whitening.inverse, x) * whitening.std + whitening.mean


def to_pixels(whitening: Whitening, x: jax.Array) -> np.ndarray:
    """Whitened images -> uint8, clipped, for people."""
    return np.asarray(jnp.clip(jnp.round(invert(whitening, x) * 255), 0, 255).astype(jnp.uint8))


def _times(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    # Symmetric, so the side of the product is free.
    return (x.reshape(len(x), -1) @ matrix).reshape(x.shape) if matrix.size else x
