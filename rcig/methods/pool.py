"""The pool of partly trained networks at which the inner problem is linearised (Loo et al. 2023, section 3.3)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig.nets import Net, Variables
from rcig.train import TrainState, draw, start, update


class Pool(NamedTuple):
    """m networks, stacked along the first axis of every leaf."""

    networks: TrainState
    age: jax.Array
    """(m,) training steps since each network's last initialisation"""


def create(net: Net, optimizer: optax.GradientTransformation, key: jax.Array, size: int) -> Pool:
    networks = jax.vmap(lambda key: start(net, optimizer, key))(jax.random.split(key, size))
    return Pool(networks, jnp.zeros(size, jnp.int32))


def member(pool: Pool, index: jax.Array) -> Variables:
    return jax.tree.map(lambda leaf: leaf[index], pool.networks.variables)


class Visits(NamedTuple):
    """How visited networks are trained."""

    optimizer: optax.GradientTransformation
    max_age: int
    batch_size: int
    """distilled images per training step; a smaller set is used whole"""


def visit(
    net: Net, visits: Visits, key: jax.Array, pool: Pool, index: jax.Array, steps: jax.Array, x: jax.Array, y: jax.Array
) -> Pool:
    """Train one network for some steps on the distilled set; start it anew once it has had `max_age` steps."""
    fresh_key, batch_key = jax.random.split(key)
    old = jax.tree.map(lambda leaf: leaf[index], pool.networks)

    def step(i: jax.Array, state: TrainState) -> TrainState:
        return update(net, visits.optimizer, state, *draw(jax.random.fold_in(batch_key, i), visits.batch_size, x, y))

    trained = jax.lax.fori_loop(0, steps, step, old)
    age = pool.age[index] + steps
    fresh = start(net, visits.optimizer, fresh_key)
    new = jax.tree.map(lambda a, b: jnp.where(age >= visits.max_age, a, b), fresh, trained)
    networks = jax.tree.map(lambda leaf, value: leaf.at[index].set(value), pool.networks, new)
    return Pool(networks, pool.age.at[index].set(jnp.where(age >= visits.max_age, 0, age)))
