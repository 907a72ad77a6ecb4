"""Back-propagation through inner training: RaT-BPTT (Feng et al. 2023), and BPTT and T-BPTT as settings of it.

A network is trained for N ≤ T steps on the distilled set. The gradient of its loss on real images goes back through the
last M of these steps alone: the steps before them are a loop that stores nothing, so memory grows with M and not with
T. `rat_bptt` draws N from {M, …, T} at every outer step, `t_bptt` has N = T, and `bptt` also M = T.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rcig import train
from rcig.augment import augment
from rcig.distill.base import Batch, Distilled, Distiller, Info, support
from rcig.distill.outer import Position, Setting, descend, on_real
from rcig.nets import Net
from rcig.params import UnrolledParams
from rcig.train import TrainState

EPS_ROOT = 1e-16
"""Keeps the derivative of Adam's square root finite where a weight has had no gradient, as behind a dead ReLU."""


def unrolled_gradient(net: Net, params: UnrolledParams, mirror: bool, setting: Setting) -> Distiller:
    """The method for a network, its settings and mirroring."""
    outer = descend(optax.adam, params, setting)

    def step(key: jax.Array, position: Position, batch: Batch) -> tuple[Position, Info]:
        end_key, unroll_key, real_key = jax.random.split(key, 3)
        earliest = params.window if params.window_end == "random" else params.inner_steps
        end = jax.random.randint(end_key, (), earliest, params.inner_steps + 1)
        if params.augment_real:
            batch = batch._replace(images=augment(real_key, batch.images))
        grad, info = meta_gradient(net, params, mirror, unroll_key, end, outer.current(position), batch)
        position, statistics = outer.move(position, grad)
        return position, info | {"window_end": end} | statistics

    return Distiller(outer.start, step, outer.result)


def meta_gradient(
    net: Net,
    params: UnrolledParams,
    mirror: bool,
    key: jax.Array,
    end: int | jax.Array,
    distilled: Distilled,
    batch: Batch,
) -> tuple[Distilled, Info]:
    """Gradient of the outer loss after inner step `end` by the distilled set, through the last `window` steps."""
    start_key, steps_key = jax.random.split(key)
    optimizer = optax.adam(params.inner_rate, eps_root=EPS_ROOT)
    advance = partial(_inner_step, net, params, mirror, optimizer, steps_key)
    first = end - params.window
    fresh = train.start(net, optimizer, start_key)
    reached = jax.lax.fori_loop(0, first, lambda i, state: advance(distilled, i, state), fresh)

    def window(distilled: Distilled) -> Any:
        def body(state: TrainState, i: jax.Array) -> tuple[TrainState, None]:
            return advance(distilled, first + i, state), None

        if params.rematerialise:
            body = jax.checkpoint(body)
        return jax.lax.scan(body, reached, jnp.arange(params.window))[0].variables["params"]

    weights, pull = jax.vjp(window, distilled)
    logits = lambda weights, x: net.apply({"params": weights}, x)  # noqa: E731
    info, grad, temperature_grad = on_real(params.outer_loss, logits, weights, distilled.log_temperature, batch)
    (found,) = pull(grad)
    return found._replace(log_temperature=temperature_grad), info | {"log_temperature": distilled.log_temperature}


def _inner_step(
    net: Net,
    params: UnrolledParams,
    mirror: bool,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    distilled: Distilled,
    i: jax.Array,
    state: TrainState,
) -> TrainState:
    """Step i of the inner training, whose draws depend on i alone: the same in the window as before it."""
    batch_key, augment_key = jax.random.split(jax.random.fold_in(key, i))
    x, y = support(distilled, mirror)
    if params.inner_batch_size != "all":
        x, y = train.draw(batch_key, params.inner_batch_size, x, y)
    if params.augment:
        x = augment(augment_key, x)
    return train.update(net, optimizer, state, x, y, LOSSES[params.inner_loss])


LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "squared": train.mse,
    "cross_entropy": train.cross_entropy,
}
