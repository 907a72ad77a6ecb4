"""Kernels of infinitely wide networks, in float64 against wide random networks and finite differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig import ntk
from rcig.ntk import BIAS_VARIANCE, WEIGHT_VARIANCE

pytestmark = pytest.mark.usefixtures("float64")


def images(key: int, count: int, side: int = 4, channels: int = 2) -> jax.Array:
    return jax.random.normal(jax.random.key(key), (count, side, side, channels), jnp.float64)


def weights_of(key: jax.Array, architecture: str, depth: int, width: int, shape: tuple[int, int, int]) -> Any:
    """Standard normal numbers: (weights, biases) of every layer, the last of which has one output."""
    height, wide, inputs = shape if architecture == "conv" else (1, 1, int(np.prod(shape)))
    layers = []
    for i in range(depth + 1):
        last = i == depth
        outputs, size = (1, height * wide) if last else (width, 9 if architecture == "conv" else 1)
        weights_key, bias_key = jax.random.split(jax.random.fold_in(key, i))
        layers.append(
            (
                jax.random.normal(weights_key, (size, inputs, outputs), jnp.float64),
                jax.random.normal(bias_key, (outputs,), jnp.float64),
            )
        )
        inputs = outputs
    return layers


def output(layers: Any, image: jax.Array, architecture: str) -> jax.Array:
    """Of one image (h, w, c), by sums over the places of a kernel written out."""
    x = image if architecture == "conv" else image.reshape(1, 1, -1)
    for i, (weights, bias) in enumerate(layers):
        scale = jnp.sqrt(WEIGHT_VARIANCE / (weights.shape[0] * weights.shape[1]))
        if i == len(layers) - 1:
            y = jnp.einsum("pc,pco->o", x.reshape(-1, x.shape[-1]), weights)
        elif architecture == "conv":
            padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
            height, wide = x.shape[:2]
            y = sum(
                jnp.einsum("hwc,co->hwo", padded[r : r + height, s : s + wide], weights[3 * r + s])
                for r in range(3)
                for s in range(3)
            )
        else:
            y = jnp.einsum("hwc,co->hwo", x, weights[0])
        x = scale * y + jnp.sqrt(BIAS_VARIANCE) * bias
        if i < len(layers) - 1:
            x = jnp.maximum(x, 0)
    return x[0]


@pytest.mark.parametrize(("architecture", "depth"), [("dense", 1), ("dense", 3), ("conv", 2)])
def test_kernels_are_those_of_wide_random_networks_within_their_error(architecture: Any, depth: int) -> None:
    """The mean over networks of products of outputs, and of gradients, against four deviations of that mean."""
    a, networks, width = images(0, 3), 300, 64
    a = a.at[1].set(a[0] + 0.1 * a[1])  # a close pair

    @jax.jit
    def of_one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        layers = weights_of(key, architecture, depth, width, a.shape[1:])
        outs, slopes = jax.vmap(
            lambda image: jax.value_and_grad(lambda some: output(some, image, architecture))(layers)
        )(a)
        rows = jnp.concatenate([leaf.reshape(len(a), -1) for leaf in jax.tree.leaves(slopes)], axis=1)
        return jnp.outer(outs, outs), rows @ rows.T

    found = ntk.kernels(a, a, architecture, depth)
    samples = jax.lax.map(of_one, jax.random.split(jax.random.key(1), networks))
    for expected, sample in zip(found, samples, strict=True):
        error = sample.std(0) / np.sqrt(networks)
        np.testing.assert_array_less(jnp.abs(sample.mean(0) - expected), 4 * error + 0.02 * jnp.abs(expected))
        assert float(error.max()) < 0.2 * float(expected.max()), "else the comparison says nothing"


@pytest.mark.parametrize("architecture", ["dense", "conv"])
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_gradients_are_finite_differences(architecture: Any, kernel: str) -> None:
    a, b, direction = images(0, 3), images(1, 2), images(2, 3)
    weights = jax.random.normal(jax.random.key(3), (3, 5), jnp.float64)

    @jax.jit
    def value(a: jax.Array) -> jax.Array:
        """Of the images with themselves, whose diagonal is at a cosine of one, and with others."""
        both = [getattr(ntk.kernels(a, other, architecture, 2), kernel) for other in (a, b)]
        return (jnp.concatenate(both, axis=1) * weights).sum()

    slope = jnp.vdot(jax.grad(value)(a), direction)
    differences = (value(a + 1e-5 * direction) - value(a - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(slope, differences, rtol=1e-6)


def test_kernels_are_symmetric_and_positive_and_an_image_is_nearest_to_itself() -> None:
    a = images(0, 6)
    for architecture in ("dense", "conv"):
        for kernel in ntk.kernels(a, a, architecture, 2):  # type: ignore[arg-type]
            np.testing.assert_allclose(kernel, kernel.T, rtol=1e-12)
            assert float(jnp.linalg.eigvalsh(kernel)[0]) > 0
            assert (np.asarray(kernel).argmax(1) == np.arange(6)).all()


def test_gradients_stay_finite_where_images_are_the_same() -> None:
    a = jnp.concatenate([images(0, 1), images(0, 1)])
    slope = jax.jit(jax.grad(lambda a: ntk.kernels(a, a, "conv", 2).ntk.sum()))(a)
    assert bool(jnp.isfinite(slope).all())
