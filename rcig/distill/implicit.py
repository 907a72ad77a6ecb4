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
from rcig.distill.base import Batch, Distilled, Distiller, Info, support
from rcig.distill.outer import Position, Setting, descend, on_real
from rcig.distill.rates import Rate, adapt, choose
from rcig.inner import Outputs, Problem, Rates, Solved, Weights
from rcig.nets import Net, Variables
from rcig.params import ImplicitParams
from rcig.passes import map_images

Support = Callable[[Distilled], tuple[jax.Array, jax.Array]]
"""distilled set -> images and labels that networks are fitted to"""


class State(NamedTuple):
    position: Position
    pool: pools.Pool
    rates: Rates
    """the two learning rates of the solver `adam`, each a `Rate`"""


def implicit_gradient(net: Net, params: ImplicitParams, l2_rate: float, mirror: bool, setting: Setting) -> Distiller:
    """The method for a network, its settings, the ridge rate per image, and mirroring."""
    pool_optimizer = optax.adam(params.pool_learning_rate)
    outer = descend(optax.adabelief, params, setting)

    def init(key: jax.Array, distilled: Distilled) -> State:
        pool = pools.create(net, pool_optimizer, key, params.pool_size)
        rates = Rates(Rate.start(params.inner_rate), Rate.start(params.inverse_rate))
        return State(outer.start(jax.random.fold_in(key, 0), distilled), pool, rates)

    def step(key: jax.Array, state: State, batch: Batch) -> tuple[State, Info]:
        member_key, steps_key, visit_key, solve_key, augment_key = jax.random.split(key, 5)
        index = jax.random.randint(member_key, (), 0, params.pool_size)
        transform = partial(augment, augment_key) if params.augment else None
        set_up = partial(support, mirror=mirror, transform=transform)
        network = pools.member(state.pool, index)
        distilled = outer.current(state.position)
        found = meta_gradient(net, params, l2_rate, set_up, network, state.rates, solve_key, distilled, batch)
        grad, rates, info = found
        position, statistics = outer.move(state.position, grad)
        visits = pools.Visits(pool_optimizer, params.pool_age, params.pool_batch_size)
        pool_steps = jax.random.randint(steps_key, (), min(1, params.pool_steps), params.pool_steps + 1)
        moved = set_up(outer.current(position))
        pool = pools.visit(net, visits, visit_key, state.pool, index, pool_steps, *moved)
        return State(position, pool, rates), info | statistics

    return Distiller(init, step, lambda state: outer.result(state.position))


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
    outer, g, temperature_grad = on_real(
        params.outer_loss, partial(_logits, problem), solved.weights, distilled.log_temperature, batch
    )

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
    return grad, rates, outer | {"log_temperature": distilled.log_temperature} | solver_info


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
    # The first blocks of a boosted set may have fewer images.
    subset = None if params.subset == "all" or params.subset > len(x) else params.subset
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


def _logits(problem: Problem, weights: Weights, images: jax.Array) -> jax.Array:
    return inner.predict(problem.outputs(weights.body, images), weights.head)


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
