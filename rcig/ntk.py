"""Kernels of infinitely wide networks of ReLU layers, in closed form: fully connected, or convolutional.

Weights of a layer are normal with variance WEIGHT_VARIANCE over the inputs that they meet, biases with BIAS_VARIANCE.
As widths grow, the outputs of a network at its start are those of a Gaussian process with the covariance `nngp`, and
the products of their gradients by all weights become `ntk` (Jacot et al. 2018), which training leaves as it is. Every
layer takes both to those of the next one. Of a ReLU this is the arc-cosine kernel (Cho & Saul 2009).

A convolutional network has 3×3 kernels, zeros around the image, no pooling, and a final layer that sees every pixel of
every channel for itself. Its kernel then needs the covariances of pixels at the same place alone (Novak et al. 2019).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

WEIGHT_VARIANCE, BIAS_VARIANCE = 2.0, 0.01
"""as in the code of KIP (Nguyen et al. 2021): deviations of √2 and 0.1"""

Architecture = Literal["dense", "conv"]


class Kernels(NamedTuple):
    """Of n images and m others."""

    nngp: jax.Array
    """(n, m)"""
    ntk: jax.Array
    """(n, m)"""


def kernels(a: jax.Array, b: jax.Array, architecture: Architecture, depth: int) -> Kernels:
    """Of images a (n, h, w, c) and b (m, h, w, c), for a network of `depth` hidden layers. It has a derivative by both.

    A convolutional one is held as (n, m, h, w) on the way.
    """
    if architecture == "dense":
        a, b = (images.reshape(len(images), 1, 1, -1) for images in (a, b))
    both = jnp.einsum("nhwc,mhwc->nmhw", a, b, precision="highest") / a.shape[-1]
    of_a, of_b = ((images**2).mean(-1) for images in (a, b))
    mix = _neighbours if architecture == "conv" else lambda covariance: covariance
    ntk = jnp.zeros_like(both)
    for _ in range(depth):
        both, of_a, of_b = (WEIGHT_VARIANCE * mix(one) + BIAS_VARIANCE for one in (both, of_a, of_b))
        ntk = both + WEIGHT_VARIANCE * mix(ntk)
        scale = jnp.sqrt(of_a[:, None] * of_b[None])
        cosine = both / scale
        both, ntk = scale * _arc_cosine(cosine) / (2 * jnp.pi), ntk * (jnp.pi - _angle(cosine)) / (2 * jnp.pi)
        of_a, of_b = of_a / 2, of_b / 2
    nngp = WEIGHT_VARIANCE * both.mean((2, 3)) + BIAS_VARIANCE
    return Kernels(nngp, nngp + WEIGHT_VARIANCE * ntk.mean((2, 3)))


def _neighbours(covariance: jax.Array) -> jax.Array:
    """Mean of each 3×3 window of (…, h, w), with zeros beyond the edge."""
    for axis in (-1, -2):
        length = covariance.shape[axis]
        widths = [(0, 0)] * covariance.ndim
        widths[axis] = (1, 1)
        padded = jnp.pad(covariance, widths)
        shifted = (jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(3))
        covariance = sum(shifted, jnp.zeros_like(covariance)) / 3
    return covariance


@jax.custom_jvp
def _angle(cosine: jax.Array) -> jax.Array:
    """Zero, and so its derivative, where rounding leaves no angle: of an image with itself it would be infinite."""
    return jnp.where(_apart(cosine), jnp.arccos(jnp.clip(cosine, -1, 1)), 0)


@_angle.defjvp
def _angle_tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (cosine,), (change,) = primals, tangents
    sine = jnp.sqrt(jnp.where(_apart(cosine), 1 - cosine**2, 1))
    return _angle(cosine), jnp.where(_apart(cosine), -change / sine, 0)


def _apart(cosine: jax.Array) -> jax.Array:
    return cosine < 1 - 5 * jnp.finfo(cosine.dtype).eps


@jax.custom_jvp
def _arc_cosine(cosine: jax.Array) -> jax.Array:
    """sin θ + (π − θ) cos θ, whose derivative by the cosine is π − θ."""
    angle = _angle(cosine)
    return jnp.sin(angle) + (jnp.pi - angle) * cosine


@_arc_cosine.defjvp
def _arc_cosine_tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (cosine,), (change,) = primals, tangents
    return _arc_cosine(cosine), (jnp.pi - _angle(cosine)) * change
