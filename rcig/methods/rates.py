"""The learning rates of the solver `adam`: chosen before a run, adapted during it, as the public reference code does.

The paper says that both rates are adapted; the reference code adapts the inner one only. Here both are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

LOWEST, GROWTH, BACK, TRIALS = 1e-5, 1.2, 0.7, 76
"""The search: from LOWEST by factors of GROWTH while losses fall steadily, at most TRIALS times; then times BACK."""
INTERVAL = 50
"""outer steps between adaptations"""
LOWER, RAISE = 0.9, 1.05
"""factors of an adaptation"""
FAILED, STEADY = 0.29, 0.7
"""Lower where at least this fraction of the solves ended above their start; raise where this fraction fell steadily."""


class Rate(NamedTuple):
    value: jax.Array
    """0 until the first step chooses it"""
    fixed: jax.Array
    """a rate that was given is kept"""
    failed: jax.Array
    """solves since the last adaptation whose loss ended above its start"""
    steady: jax.Array
    """solves since then whose loss fell at every step"""
    solves: jax.Array
    """solves since then"""

    @staticmethod
    def start(setting: float | str) -> "Rate":
        given = not isinstance(setting, str)
        counts = (jnp.zeros((), jnp.int32) for _ in range(3))
        return Rate(jnp.asarray(setting if given else 0.0), jnp.asarray(given), *counts)


def choose(rate: Rate, losses_at: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The rate's value, or a search for it where it has none: losses_at(value) are the losses of one solve."""

    def search() -> jax.Array:
        def is_steady(state: tuple[jax.Array, jax.Array]) -> jax.Array:
            value, trials = state
            return (trials < TRIALS) & _steady(losses_at(value))

        start = jnp.asarray(LOWEST), jnp.asarray(0)
        value, _ = jax.lax.while_loop(is_steady, lambda state: (state[0] * GROWTH, state[1] + 1), start)
        return value * BACK

    return jax.lax.cond(rate.value > 0, lambda: rate.value, search)


def adapt(rate: Rate, solve: Any) -> Rate:
    """The rate after one more solve, given as (rate used, losses), or None where there was none."""
    if solve is None:
        return rate
    used, losses = solve
    failed = rate.failed + ~(losses[-1] <= losses[0])
    steady = rate.steady + _steady(losses)
    solves = rate.solves + 1
    factor = jnp.where(failed >= FAILED * solves, LOWER, jnp.where(steady >= STEADY * solves, RAISE, 1.0))
    due = solves >= INTERVAL
    value = jnp.where(due & ~rate.fixed, used * factor, used)
    return Rate(value, rate.fixed, *(jnp.where(due, 0, number) for number in (failed, steady, solves)))


def _steady(losses: jax.Array) -> jax.Array:
    """Whether the loss fell at every step; a loss that is not a number did not."""
    return jnp.all(losses[1:] < losses[:-1])
