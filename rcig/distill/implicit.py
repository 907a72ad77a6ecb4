"""Implicit-gradient distillation (Loo et al. 2023): VIG, CIG, RIG and RCIG, and what they share with FRePo and RFAD.

One code path. The members differ in what an image contributes to a prediction, whether the final layer is solved in
closed form, and the outer loss: three settings (`rcig.params.FAMILY`). See `rcig.inner` for the inner problem.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig import inner
from rcig.augment import augment
from rcig.distill import pool as pools
from rcig.distill.base import Batch, Distilled, Distiller, Info
from rcig.distill.rates import Rate, adapt, choose
from rcig.inner import Outputs, Problem, Rates, Solved, Weights
from rcig.nets import Net, Variables
from rcig.params import ImplicitParams
from rcig.passes import map_images, sum_images

Support = Callable[[Distilled], tuple[jax.Array, jax.Array]]
"""distilled set -> images and labels that networks are fitted to"""


class State(NamedTuple):
    distilled: Distilled
    optimizer: optax.OptState
    average: Distilled
    """exponential average of `distilled`, not yet corrected for its start at zero"""
    steps_done: jax.Array
    """()"""
    pool: pools.Pool
    rates: Rates
    """the two learning rates of the solver `adam`, each a `Rate`"""


def implicit_gradient(net: Net, params: ImplicitParams, l2_rate: float, mirror: bool, steps: int) -> Distiller:
    """The method for a network, its settings, the ridge rate per image, mirroring, and the length of the run."""
    pool_optimizer = optax.adam(params.pool_learning_rate)
    optimizer = _outer_optimizer(params, steps)

    def init(key: jax.Array, distilled: Distilled) -> State:
        pool = pools.create(net, pool_optimizer, key, params.pool_size)
        average = jax.tree.map(jnp.zeros_like, distilled)
        rates = Rates(Rate.start(params.inner_rate), Rate.start(params.inverse_rate))
        return State(distilled, optimizer.init(distilled), average, jnp.zeros((), jnp.int32), pool, rates)

    def step(key: jax.Array, state: State, batch: Batch) -> tuple[State, Info]:
        member_key, steps_key, visit_key, solve_key, augment_key = jax.random.split(key, 5)
        index = jax.random.randint(member_key, (), 0, params.pool_size)
        transform = partial(augment, augment_key) if params.augment else None
        set_up = partial(support, mirror=mirror, transform=transform)
        grad, rates, info = meta_gradient(
            net,
            params,
            l2_rate,
            set_up,
            pools.member(state.pool, index),
            state.rates,
            solve_key,
            state.distilled,
            batch,
        )
        change, optimizer_state = optimizer.update(grad, state.optimizer, state.distilled)
        distilled = optax.apply_updates(state.distilled, change)
        average = optax.incremental_update(distilled, state.average, 1 - params.average_decay)
        visits = pools.Visits(pool_optimizer, params.pool_age, params.pool_batch_size)
        pool_steps = jax.random.randint(steps_key, (), min(1, params.pool_steps), params.pool_steps + 1)
        pool = pools.visit(net, visits, visit_key, state.pool, index, pool_steps, *set_up(distilled))
        return State(distilled, optimizer_state, average, state.steps_done + 1, pool, rates), info

    def result(state: State) -> Distilled:
        weight = 1 - params.average_decay ** state.steps_done.astype(jnp.float32)
        average = jax.tree.map(lambda leaf: leaf / jnp.maximum(weight, 1e-8), state.average)
        return jax.tree.map(partial(jnp.where, state.steps_done > 0), average, state.distilled)

    return Distiller(init, step, result)


def support(
    distilled: Distilled, mirror: bool, transform: Callable[[jax.Array], jax.Array] | None = None
) -> tuple[jax.Array, jax.Array]:
    """Images and labels that networks are fitted to: with mirroring, each also mirrored; then transformed."""
    images, labels = distilled.images, distilled.labels
    if mirror:
        images = jnp.concatenate([images, images[:, :, ::-1]])
        labels = jnp.concatenate([labels, labels])
    return (images if transform is None else transform(images)), labels


def meta_gradient(
    net: Net,
    params: ImplicitParams,
    l2_rate: float,
    set_up: Support,
    network: Variables,
    rates: Rates,
    key: jax.Array,
    distilled: Distilled,
    batch: Batch,
) -> tuple[Distilled, Rates, Info]:
    """Gradient of the outer loss (eq. 6) by the distilled set, at one network -> (gradient, adapted rates, info).

    It has a direct part, at fixed inner variables z, and an implicit part −∂/∂S ⟨∂L/∂z, H⁻¹g⟩ (section 3.3). Both come
    as cotangents of what each distilled image contributes, so that one backward pass per image ends them.
    """
    solve_key, subset_key = jax.random.split(key)
    (x, y), pull_support = jax.vjp(set_up, distilled)
    problem = make_problem(net, params, l2_rate * len(distilled.images), network, x, y)
    solved = _solve(problem, params, rates, solve_key)
    shift, out = solved.weights.body, solved.outputs
    outer, g, temperature_grad = _outer(problem, params, solved.weights, distilled.log_temperature, batch)

    if params.closed_form:
        direct_out, direct_y = inner.through_closed_form(problem, out, y, g.head)
        g = Weights(jax.tree.map(jnp.add, g.body, solved.pull(direct_out)), None)
    else:
        direct_out, direct_y = jax.tree.map(jnp.zeros_like, (out, y))
    v, inverse_info = solved.invert(g)
    tangent = solved.along(v.body)
    implicit = inner.through_stationarity(problem, solved.weights.head, v, out, tangent, y)
    implicit_out, implicit_tangent, implicit_y = jax.tree.map(jnp.negative, implicit)

    def backward(function: Any, cotangent: Any, labels: jax.Array) -> Distilled:
        images = _image_cotangents(problem, function, cotangent, subset_key)
        return pull_support((images, labels))[0]

    def contributions(x: jax.Array) -> tuple[Outputs, Outputs]:
        return jax.jvp(lambda shift: problem.outputs(shift, x), (shift,), (v.body,))

    if params.clip_implicit:
        direct = backward(partial(problem.outputs, shift), direct_out, direct_y)
        rest = backward(contributions, (implicit_out, implicit_tangent), implicit_y)
        grad = jax.tree.map(lambda a, b: a + _clipped(b, a), direct, rest)
    else:
        both = jax.tree.map(jnp.add, direct_out, implicit_out)
        grad = backward(contributions, (both, implicit_tangent), direct_y + implicit_y)
    grad = grad._replace(log_temperature=grad.log_temperature + temperature_grad)
    if params.label_margin:
        grad = grad._replace(labels=grad.labels + jax.grad(label_margin)(distilled.labels))

    solver_info = solved.info | inverse_info
    rates = Rates(
        adapt(rates.inner, solver_info.pop("inner_losses", None)),
        adapt(rates.inverse, solver_info.pop("inverse_losses", None)),
    )
    norm = optax.tree.norm(grad)
    return grad, rates, outer | {"log_temperature": distilled.log_temperature, "gradient_norm": norm} | solver_info


def make_problem(
    net: Net, params: ImplicitParams, l2: float, network: Variables, x: jax.Array, y: jax.Array
) -> Problem:
    """The inner problem of a member of the family at one network."""
    statistics = network.get("batch_stats", {})
    features = partial(net.features, statistics=statistics)
    origin = Weights(network["params"]["body"], network["params"]["head"]["kernel"])
    zero = jax.tree.map(jnp.zeros_like, origin.body)
    if params.body_weight == 0:
        outputs, zero = inner.fixed(features, origin), None
    elif params.linearised:
        outputs = inner.linearised(features, origin)
    else:
        outputs = inner.moved(features, origin)
    # Linearised training is centred: it starts at a prediction of zero (section 3.2).
    head = jnp.zeros_like(origin.head) if params.linearised else origin.head
    start = Weights(zero, None if params.closed_form else head)
    subset = None if params.subset == "all" else params.subset
    per_pass = None if params.images_per_pass == "auto" else params.images_per_pass
    return Problem(outputs, start, x, y, l2, params.body_weight, params.float64_solve, subset, per_pass)


def _solve(problem: Problem, params: ImplicitParams, rates: Rates, key: jax.Array) -> Solved:
    if params.body_weight == 0:
        return inner.final_layer_alone(problem)
    if params.solver == "dense":
        return inner.exact(problem, inner.dense)
    if params.solver == "cg":
        return inner.exact(problem, partial(inner.cg, params.cg_iterations))
    chosen = Rates(partial(choose, rates.inner), partial(choose, rates.inverse))
    return inner.adam(problem, params.inner_steps, params.inverse_steps, chosen, key)


def _outer(
    problem: Problem, params: ImplicitParams, weights: Weights, log_temperature: jax.Array, batch: Batch
) -> tuple[Info, Weights, jax.Array]:
    """-> (loss and accuracy on real images, gradient by the weights, gradient by the temperature)."""

    def total(weights: Weights, log_temperature: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        logits = inner.predict(problem.outputs(weights.body, batch.images), weights.head)
        hits = (logits.argmax(1) == batch.labels.argmax(1)).sum()
        return OUTER_LOSSES[params.outer_loss](logits, log_temperature, batch.labels).sum(), hits

    def part(batch: Batch) -> Any:
        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(weights, log_temperature, batch)

    sums = sum_images(part, batch)
    size = len(batch.images)
    (loss, accuracy), (grad, temperature_grad) = jax.tree.map(lambda leaf: leaf / size, sums)
    return {"loss": loss, "batch_accuracy": accuracy}, grad, temperature_grad


def _image_cotangents(problem: Problem, function: Any, cotangent: Any, key: jax.Array) -> jax.Array:
    """The gradient by every image of what function makes of it; zero outside a random subset where one is asked for."""

    def pull(images: Any) -> jax.Array:
        x, cotangent = images
        return jax.vjp(function, x)[1](cotangent)[0]

    if problem.subset is None:
        return map_images(pull, (problem.x, cotangent), problem.per_pass)
    images, index = inner.draw(key, problem.subset, (problem.x, cotangent))
    return jnp.zeros_like(problem.x).at[index].set(map_images(pull, images, problem.per_pass))


def _clipped(implicit: jax.Array, direct: jax.Array) -> jax.Array:
    """The implicit gradient of a leaf, no longer than the direct one (as in the public reference code)."""
    norm = jnp.maximum(optax.tree.norm(implicit), jnp.finfo(implicit.dtype).tiny)
    return implicit * jnp.minimum(1, optax.tree.norm(direct) / norm)


def label_margin(labels: jax.Array) -> jax.Array:
    """−mean min(y₍₁₎ − y₍₂₎, 1/(2C)): keeps the top label of an image ahead (as in the public reference code)."""
    best, second = jax.lax.top_k(labels, 2)[0].T
    return -jnp.minimum(best - second, 1 / (2 * labels.shape[1])).mean()


def platt(logits: jax.Array, log_temperature: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of the logits times a learned temperature, per image (eq. 6)."""
    return optax.softmax_cross_entropy(logits * jnp.exp(log_temperature), labels)


def squared(logits: jax.Array, log_temperature: jax.Array, labels: jax.Array) -> jax.Array:
    """Squared error to the centred labels, per image, the outer loss of FRePo; it has no temperature."""
    return optax.l2_loss(logits, labels - 1 / labels.shape[1]).sum(1)


OUTER_LOSSES = {"platt": platt, "squared": squared}


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
