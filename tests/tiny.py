"""A tiny problem in float64, with everything that the engine's tests need."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rcig.distill.base import Batch, Distilled
from rcig.inner import Weights
from rcig.nets import Net, Variables, build


class Tiny(NamedTuple):
    net: Net
    network: Variables
    distilled: Distilled
    batch: Batch

    @property
    def origin(self) -> Weights:
        return Weights(self.network["params"]["body"], self.network["params"]["head"]["kernel"])


def tiny(
    images: int = 4, channels: int = 1, classes: int = 3, temperature: float = 3.0, architecture: str = "conv"
) -> Tiny:
    """Call inside the float64 fixture. The softplus is mild, so that finite differences meet no kink."""
    net = build(architecture, (8, 8, channels), classes, width=2, depth=2, temperature=temperature)
    keys = jax.random.split(jax.random.key(0), 5)
    network = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), net.init(keys[0]))
    shape = (8, 8, channels)
    labels = jax.nn.one_hot(jnp.arange(images) % classes, classes, dtype=jnp.float64) - 1 / classes
    distilled = Distilled(
        jax.random.normal(keys[1], (images, *shape), jnp.float64),
        labels + 0.1 * jax.random.normal(keys[2], labels.shape, jnp.float64),
        jnp.asarray(0.3, jnp.float64),
    )
    targets = jax.nn.one_hot(jax.random.randint(keys[3], (5,), 0, classes), classes, dtype=jnp.float64)
    return Tiny(net, network, distilled, Batch(jax.random.normal(keys[4], (5, *shape), jnp.float64), targets))
