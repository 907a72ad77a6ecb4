"""Implicit-gradient distillation with a closed-form final layer: RCIG (Loo et al. 2023, Algorithm 1) and FRePo.

The two differ in settings alone: FRePo (Zhou et al. 2022) leaves the body out of the inner problem (body_weight 0) and
has a squared outer loss in place of the Platt-scaled cross-entropy.
"""

from functools import partial
from math import gcd
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig.distill import pool as pools
from rcig.distill.base import Batch, Distilled, Distiller, Info
from rcig.linear import Weights, predict
from rcig.nets import Net
from rcig.params import ImplicitParams
from rcig.ridge import dense, final_layer

CPU_CHUNK = 32
"""Real images per pass on a CPU: their patches then stay in its cache, which about halves the time of these passes."""


class State(NamedTuple):
    distilled: Distilled
    optimizer: optax.OptState
    average: Distilled
    """exponential average of `distilled`, not yet corrected for its start at zero"""
    steps_done: jax.Array
    """()"""
    pool: pools.Pool


def implicit_gradient(net: Net, params: ImplicitParams, l2_rate: float, mirror: bool, steps: int) -> Distiller:
    """The method for a network, its settings, the ridge rate per image, mirroring, and the length of the run."""
    pool_optimizer = optax.adam(params.pool_learning_rate)
    optimizer = _outer_optimizer(params, steps)

    def init(key: jax.Array, distilled: Distilled) -> State:
        pool = pools.create(net, pool_optimizer, key, params.pool_size)
        average = jax.tree.map(jnp.zeros_like, distilled)
        return State(distilled, optimizer.init(distilled), average, jnp.zeros((), jnp.int32), pool)

    def step(key: jax.Array, state: State, batch: Batch) -> tuple[State, Info]:
        member_key, steps_key, visit_key = jax.random.split(key, 3)
        index = jax.random.randint(member_key, (), 0, params.pool_size)
        network = pools.member(state.pool, index)["params"]
        origin = Weights(network["body"], network["head"]["kernel"])
        grad, info = meta_gradient(net, params, l2_rate, mirror, origin, state.distilled, batch)

        change, optimizer_state = optimizer.update(grad, state.optimizer, state.distilled)
        distilled = optax.apply_updates(state.distilled, change)
        average = optax.incremental_update(distilled, state.average, 1 - params.average_decay)
        pool_steps = jax.random.randint(steps_key, (), 1, params.pool_steps + 1)
        pool = pools.visit(
            net, pool_optimizer, params.pool_age, visit_key, state.pool, index, pool_steps, *support(distilled, mirror)
        )
        return State(distilled, optimizer_state, average, state.steps_done + 1, pool), info

    def result(state: State) -> Distilled:
        weight = 1 - params.average_decay ** state.steps_done.astype(jnp.float32)
        average = jax.tree.map(lambda leaf: leaf / jnp.maximum(weight, 1e-8), state.average)
        return jax.tree.map(partial(jnp.where, state.steps_done > 0), average, state.distilled)

    return Distiller(init, step, result)


def support(distilled: Distilled, mirror: bool) -> tuple[jax.Array, jax.Array]:
    """Images and labels that networks are fitted to: with mirroring, every image and its mirror image."""
    if not mirror:
        return distilled.images, distilled.labels
    images = jnp.concatenate([distilled.images, distilled.images[:, :, ::-1]])
    return images, jnp.concatenate([distilled.labels, distilled.labels])


def meta_gradient(
    net: Net,
    params: ImplicitParams,
    l2_rate: float,
    mirror: bool,
    origin: Weights,
    distilled: Distilled,
    batch: Batch,
) -> tuple[Distilled, Info]:
    """Exact gradient of the outer loss (eq. 6) by the distilled set, at one network -> (gradient, info)."""
    l2 = l2_rate * len(distilled.images)

    def solution(distilled: Distilled) -> Weights | jax.Array:
        x, y = support(distilled, mirror)
        if params.body_weight == 0:
            return final_layer(net.features, origin.body, x, y, l2)
        return dense(net.features, origin, x, y, l2, params.body_weight)

    def outer(shift: Weights | jax.Array, log_temperature: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        if isinstance(shift, Weights):
            logits = predict(net.features, origin, batch.images, shift)
        else:
            logits = net.features(origin.body, batch.images) @ shift
        accuracy = (logits.argmax(1) == batch.labels.argmax(1)).mean()
        return OUTER_LOSSES[params.outer_loss](logits, log_temperature, batch.labels).mean(), accuracy

    shift, pullback = jax.vjp(solution, distilled)
    grad_of = jax.value_and_grad(outer, argnums=(0, 1), has_aux=True)
    (loss, accuracy), (grad_shift, grad_temperature) = _in_chunks(
        partial(grad_of, shift, distilled.log_temperature), batch
    )
    (grad,) = pullback(grad_shift)
    grad = grad._replace(log_temperature=grad.log_temperature + grad_temperature)
    return grad, {"loss": loss, "batch_accuracy": accuracy, "log_temperature": distilled.log_temperature}


def platt(logits: jax.Array, log_temperature: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of the logits times a learned temperature, per image (eq. 6)."""
    return optax.softmax_cross_entropy(logits * jnp.exp(log_temperature), labels)


def squared(logits: jax.Array, log_temperature: jax.Array, labels: jax.Array) -> jax.Array:
    """Squared error to the centred labels, per image, the outer loss of FRePo; it has no temperature."""
    return optax.l2_loss(logits, labels - 1 / labels.shape[1]).sum(1)


OUTER_LOSSES = {"platt": platt, "squared": squared}


def _in_chunks(function: Any, batch: Batch) -> Any:
    """Mean of function over equal parts of the batch, one after another on a CPU, the whole batch at once elsewhere."""
    size = len(batch.images)
    chunk = gcd(size, CPU_CHUNK) if jax.default_backend() == "cpu" else size
    parts = jax.tree.map(lambda leaf: leaf.reshape(-1, chunk, *leaf.shape[1:]), batch)

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], parts)))
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda leaf: leaf * (chunk / size), total)


def _outer_optimizer(params: ImplicitParams, steps: int) -> optax.GradientTransformation:
    def adabelief(learning_rate: float) -> optax.GradientTransformation:
        return optax.adabelief(optax.cosine_decay_schedule(learning_rate, steps, params.learning_rate_floor))

    return optax.partition(
        {
            "set": adabelief(params.learning_rate),
            "temperature": adabelief(params.temperature_learning_rate),
            "fixed": optax.set_to_zero(),
        },
        Distilled("set", "set" if params.learn_labels else "fixed", "temperature"),  # type: ignore[arg-type]
    )
