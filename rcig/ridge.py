"""The inner problem: ridge regression on a linearised network, solved exactly, differentiable in images and labels.

    min over δ, Ω of  ½‖J δ + Φ Ω − Y‖² + ½λ (‖δ‖²/s + ‖Ω‖²)

With a body weight of s = 1 this is the inner objective of Loo et al. (2023, eqs. 2 to 5); s = 0 leaves the final layer
alone (FRePo, RFAD). The dual solution is (K + λI) α = vec(Y) with K = s J Jᵀ + (Φ Φᵀ) ⊗ I, δ = s Jᵀα, Ω = Φᵀα.
Nothing here knows of distillation, files or randomness.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve

from rcig.linear import Features, Weights, jacobian, predict


def final_layer(features: Features, body: Any, x: jax.Array, y: jax.Array, l2: jax.Array | float) -> jax.Array:
    """Closed-form final layer Ω = Φᵀ (Φ Φᵀ + λI)⁻¹ Y -> (H, C) (eq. 3 at δ = 0). Differentiable as it stands."""
    phi = features(body, x)
    kernel = phi @ phi.T + l2 * jnp.eye(len(phi), dtype=phi.dtype)
    return phi.T @ cho_solve(cho_factor(kernel), y)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def dense(
    features: Features, origin: Weights, x: jax.Array, y: jax.Array, l2: jax.Array | float, body_weight: float
) -> Weights:
    """The minimiser (δ, Ω) for x (n, …), y (n, C), by Cholesky of the nC × nC dual system.

    Its derivative is exact in x and y and, by definition, zero in everything else.
    """
    return _dense_forward(features, origin, x, y, l2, body_weight)[0]


def _dense_forward(features, origin, x, y, l2, body_weight):  # type: ignore[no-untyped-def]
    rows = jacobian(features, origin, x).reshape(y.size, -1)
    phi = features(origin.body, x)
    kernel = body_weight * rows @ rows.T + jnp.kron(phi @ phi.T, jnp.eye(y.shape[1], dtype=phi.dtype))
    factor = cho_factor(kernel + l2 * jnp.eye(y.size, dtype=phi.dtype))
    alpha = cho_solve(factor, y.reshape(-1)).reshape(y.shape)
    shift = _scaled(_pullback(features, origin, x)(alpha), body_weight)
    return shift, (origin, x, factor[0], alpha, shift, body_weight)


def _dense_backward(features, saved, grad):  # type: ignore[no-untyped-def]
    origin, x, factor, alpha, shift, body_weight = saved
    # Adjoint system (K + λI) β = s J g_δ + Φ g_Ω; then two linear predictions and one reverse pass give ∂/∂x.
    target = predict(features, origin, x, _scaled(grad, body_weight))
    beta = cho_solve((factor, False), target.reshape(-1)).reshape(alpha.shape)
    residual = jax.tree.map(jnp.subtract, grad, _pullback(features, origin, x)(beta))
    residual = _scaled(residual, body_weight)

    def stationarity(x: jax.Array) -> jax.Array:
        return jnp.vdot(predict(features, origin, x, residual), alpha) - jnp.vdot(
            predict(features, origin, x, shift), beta
        )

    return None, jax.grad(stationarity)(x), beta, None, None


dense.defvjp(_dense_forward, _dense_backward)


def _pullback(features: Features, origin: Weights, x: jax.Array):  # type: ignore[no-untyped-def]
    """α (n, C) ↦ (Jᵀα, Φᵀα)."""
    transpose = jax.linear_transpose(partial(predict, features, origin, x), origin)
    return lambda alpha: transpose(alpha)[0]


def _scaled(shift: Weights, body_weight: float) -> Weights:
    return shift._replace(body=jax.tree.map(lambda leaf: body_weight * leaf, shift.body))
