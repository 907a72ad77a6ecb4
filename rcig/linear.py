"""A network linearised in its weights (Loo et al. 2023, eq. 2) and products with its Jacobian."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Features = Callable[[Any, jax.Array], jax.Array]
"""(body parameters, x (n, …)) -> features (n, H)"""


class Weights(NamedTuple):
    """Weights of a network, or a displacement of them."""

    body: Any
    """PyTree with P numbers"""
    head: jax.Array
    """final layer (H, C)"""


def predict(features: Features, origin: Weights, x: jax.Array, shift: Weights) -> jax.Array:
    """Centred linearised prediction f(x) = J(x) δ + φ(x)ᵀ Ω -> (n, C), linear in the displacement (δ, Ω) = `shift`.

    J(x) is the derivative of the logits W₀ᵀ φ(x) by the body at `origin`.
    """
    phi, tangent = jax.jvp(lambda body: features(body, x), (origin.body,), (shift.body,))
    return tangent @ origin.head + phi @ shift.head


def jacobian(features: Features, origin: Weights, x: jax.Array) -> jax.Array:
    """J(x) of every image as a dense array (n, C, P)."""

    def image(x: jax.Array) -> jax.Array:
        logits, pullback = jax.vjp(lambda body: (features(body, x[None]) @ origin.head)[0], origin.body)
        (rows,) = jax.vmap(pullback)(jnp.eye(logits.size, dtype=logits.dtype))
        return jnp.concatenate([leaf.reshape(logits.size, -1) for leaf in jax.tree.leaves(rows)], axis=1)

    return jax.vmap(image)(x)
