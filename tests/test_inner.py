"""The inner problem and the meta-gradient against dense algebra, closed forms, naive loops and finite differences.

In float64 throughout.
"""

import dataclasses
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from tiny import Tiny, slow, tiny

from rcig import inner
from rcig.inner import Outputs, Problem, Rates, Weights
from rcig.methods.base import Batch, Distilled, support
from rcig.methods.descent import platt, squared
from rcig.methods.implicit import MEMBERS, Settings, label_margin, make_problem, meta_gradient
from rcig.methods.rates import Rate
from rcig.nets import Net

pytestmark = pytest.mark.usefixtures("float64")

L2_RATE = 0.05
# The paper's objective, by the exact solver; a mild softplus, so that finite differences meet no kink.
SETTINGS = Settings(
    body_weight=1.0, solver="dense", cg_iterations=12, inner_rate=1e-2, inverse_rate=0.1, softplus_temperature=3.0
)


def change(**settings: Any) -> Settings:
    return dataclasses.replace(SETTINGS, **settings)


EXACT = {
    "dense": (SETTINGS, False),
    "cg": (change(solver="cg"), False),
    "light body": (change(body_weight=0.1), False),
    "light body, cg": (change(body_weight=0.1, solver="cg"), False),
    "final layer": (change(body_weight=0.0), False),
    "frepo": (change(body_weight=0.0, outer_loss="squared"), False),
    "mirrored": (SETTINGS, True),
    "mirrored, cg": (change(solver="cg", cg_iterations=24), True),
}
ADAM = {name: change(solver="adam", **MEMBERS[name].fixed) for name in ("vig", "cig", "rig", "rcig")}


def rates(settings: Settings) -> Rates:
    return Rates(Rate.start(settings.inner_rate), Rate.start(settings.inverse_rate))


@cache
def compiled(net: Net, settings: Settings, mirror: bool = False, l2_rate: float = L2_RATE) -> Any:
    """(key, network, rates, set, batch) -> what `meta_gradient` says."""

    def run(key: jax.Array, network: Any, rates: Rates, distilled: Distilled, batch: Batch) -> Any:
        return meta_gradient(
            net, settings, l2_rate, partial(support, mirror=mirror), network, rates, key, distilled, batch
        )

    return jax.jit(run)


def gradient(
    problem: Tiny, settings: Settings, mirror: bool = False, seed: int = 0, l2_rate: float = L2_RATE
) -> tuple[Distilled, Rates, dict[str, jax.Array]]:
    run = compiled(problem.net, settings, mirror, l2_rate)
    return run(jax.random.key(seed), problem.network, rates(settings), problem.distilled, problem.batch)


def flat(tree: object) -> np.ndarray:
    return np.asarray(ravel_pytree(tree)[0])


def relative(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(flat(found) - flat(expected)) / np.linalg.norm(flat(expected)))


def inner_problem(problem: Tiny, settings: Settings = SETTINGS, l2: float = 0.2) -> Problem:
    x, y = problem.distilled.images, problem.distilled.labels
    return make_problem(problem.net, settings, l2, problem.network, x, y)


def logits(problem: Tiny, body: Any, x: jax.Array) -> jax.Array:
    return problem.net.features(body, x) @ problem.origin.head


def design(problem: Tiny, x: jax.Array, body_weight: float | jax.Array) -> jax.Array:
    """The primal design matrix of the scaled problem, one row per image and class: columns √s δ, then Ω."""
    rows = jax.jacrev(lambda body: logits(problem, body, x))(problem.origin.body)
    classes = problem.origin.head.shape[1]
    body = jnp.concatenate([leaf.reshape(len(x), classes, -1) for leaf in jax.tree.leaves(rows)], axis=2)
    phi = problem.net.features(problem.origin.body, x)
    head = jnp.einsum("nh,cd->nchd", phi, jnp.eye(classes)).reshape(len(x), classes, -1)
    return jnp.concatenate([jnp.sqrt(body_weight) * body, head], axis=2).reshape(len(x) * classes, -1)


def primal_ridge(problem: Tiny, body_weight: float | jax.Array, l2: float, x: jax.Array, y: jax.Array) -> jax.Array:
    rows = design(problem, x, body_weight)
    return jnp.linalg.solve(rows.T @ rows + l2 * jnp.eye(rows.shape[1]), rows.T @ y.reshape(-1))


def exact_outer_loss(
    problem: Tiny, outer_loss: str, mirror: bool, body_weight: float | jax.Array, distilled: Distilled
) -> jax.Array:
    """The outer loss through a primal ridge solve, which shares no algebra with the engine."""
    x, y = support(distilled, mirror)
    weights = primal_ridge(problem, body_weight, L2_RATE * len(distilled.images), x, y)
    found = design(problem, problem.batch.images, body_weight) @ weights
    loss = {"platt": platt, "squared": squared}[outer_loss]
    labels = problem.batch.labels
    return loss(found.reshape(labels.shape), distilled.log_temperature, labels).mean()


@cache
def exact_slopes(outer_loss: str, mirror: bool) -> Any:
    """(body weight, set) -> that loss and its gradient by the set."""
    return jax.jit(jax.value_and_grad(partial(exact_outer_loss, tiny(), outer_loss, mirror), argnums=1))


@cache
def primal_solution() -> Any:
    """(body weight, images, labels) -> weights"""
    return jax.jit(lambda body_weight, x, y: primal_ridge(tiny(), body_weight, 0.2, x, y))


@pytest.mark.parametrize("body_weight", [1.0, 0.1])
@pytest.mark.parametrize("solver", [inner.dense, partial(inner.cg, 12, 0.0)])
def test_dual_solution_is_the_primal_one(solver: Any, body_weight: float) -> None:
    problem = tiny()
    task = inner_problem(problem, change(body_weight=body_weight))
    solved = jax.jit(lambda: inner.exact(task, solver)._replace(pull=None, along=None, invert=None))()
    weights = primal_solution()(body_weight, task.x, task.y)
    split = flat(solved.weights.body).size
    np.testing.assert_allclose(flat(solved.weights.body), np.sqrt(body_weight) * weights[:split], atol=1e-10)
    np.testing.assert_allclose(flat(solved.weights.head), weights[split:], atol=1e-10)
    assert solved.info["residual"] < 1e-10
    np.testing.assert_allclose(solved.info["inner_loss"], inner.gradient(task, Weights(solved.weights.body, None))[1])


@pytest.mark.parametrize("solver", [inner.dense, partial(inner.cg, 12, 0.0)])
def test_inverse_hessian_times_hessian_is_the_identity(solver: Any) -> None:
    problem = tiny()
    task = inner_problem(problem, change(body_weight=0.3))
    direction = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape, leaf.dtype), problem.origin.body
    )

    @jax.jit
    def back_and_forth(g: Any) -> Any:
        solved = inner.exact(task, solver)
        v, info = solved.invert(Weights(g, None))
        z = Weights(solved.weights.body, None)
        product = jax.jvp(lambda z: inner.gradient(task, z)[0], (z,), (v,))[1]
        return product.body, info["inverse_loss"], jnp.vdot(flat_(v.body), flat_(g))

    product, loss, vg = back_and_forth(direction)
    assert relative(product, direction) < 1e-8
    np.testing.assert_allclose(loss, -vg / 2)


def flat_(tree: Any) -> jax.Array:
    return ravel_pytree(tree)[0]


@pytest.mark.parametrize("member", ADAM)
def test_the_gradient_of_the_inner_objective_is_its_derivative(member: str) -> None:
    """`inner.gradient` leaves the derivative of Ω* out (the envelope theorem); automatic differentiation does not."""
    task = inner_problem(tiny(), ADAM[member])
    z = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(2), leaf.shape), task.start)
    found, loss = jax.jit(lambda z: inner.gradient(task, z))(z)
    value, expected = jax.jit(jax.value_and_grad(lambda z: inner_loss(tiny(), ADAM[member], z)))(z)
    np.testing.assert_allclose(loss, value, rtol=1e-10)
    assert relative(found, expected) < 1e-10


def inner_loss(
    problem: Tiny, settings: Settings, z: Weights, distilled: Distilled | None = None, l2: float = 0.2
) -> jax.Array:
    """The inner objective written down plainly, for every member of the family."""
    out, head = plain_outputs(problem, settings, z, distilled or problem.distilled, l2)
    residual = out - (distilled or problem.distilled).labels
    penalty = (flat_(z.body) ** 2).sum() / settings.body_weight + (head**2).sum()
    return ((residual**2).sum() + l2 * penalty) / 2


def plain_outputs(
    problem: Tiny, settings: Settings, z: Weights, distilled: Distilled, l2: float, x: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """-> (predictions on x or on the distilled images, final layer)."""

    def parts(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        body = problem.origin.body
        if not settings.linearised:
            phi = problem.net.features(jax.tree.map(jnp.add, body, z.body), x)
            return jnp.zeros((len(x), problem.origin.head.shape[1])), phi
        offset = jax.jvp(lambda body: logits(problem, body, x), (body,), (z.body,))[1]
        return offset, problem.net.features(body, x)

    offset, phi = parts(distilled.images)
    head = z.head
    if settings.closed_form:
        head = jnp.linalg.solve(phi.T @ phi + l2 * jnp.eye(phi.shape[1]), phi.T @ (distilled.labels - offset))
    if x is not None:
        offset, phi = parts(x)
    return offset + phi @ head, head


def naive_gradient(problem: Tiny, settings: Settings) -> Distilled:
    """Algorithm 1 with Python loops, a dense Hessian, and automatic differentiation of everything."""
    l2 = L2_RATE * len(problem.distilled.images)
    start = inner_problem(problem, settings).start
    _, unravel = ravel_pytree(start)

    def objective(z: jax.Array, distilled: Distilled) -> jax.Array:
        return inner_loss(problem, settings, unravel(z), distilled, l2)

    def outer(z: jax.Array, distilled: Distilled) -> jax.Array:
        found, _ = plain_outputs(problem, settings, unravel(z), distilled, l2, problem.batch.images)
        return platt(found, distilled.log_temperature, problem.batch.labels).mean()

    def descend(slope: Any, at: jax.Array, steps: int, rate: float) -> jax.Array:
        optimizer = optax.adam(rate)
        state = optimizer.init(at)
        for _ in range(steps):
            step, state = optimizer.update(slope(at), state)
            at = optax.apply_updates(at, step)
        return at

    distilled = problem.distilled
    slope = jax.jit(jax.grad(objective))
    z = descend(lambda z: slope(z, distilled), ravel_pytree(start)[0], settings.inner_steps, settings.inner_rate)
    g, direct = jax.jit(jax.grad(outer, argnums=(0, 1)))(z, distilled)
    hessian = jax.jit(jax.hessian(objective))(z, distilled)
    v = descend(lambda v: hessian @ v - g, jnp.zeros_like(g), settings.inverse_steps, settings.inverse_rate)
    implicit = jax.jit(jax.grad(lambda distilled: -jnp.vdot(jax.grad(objective)(z, distilled), v)))(distilled)
    return jax.tree.map(jnp.add, direct, implicit)


@pytest.mark.parametrize(
    ("member", "steps"),
    [
        ("rcig", (4, 6)),
        slow("vig", (4, 6)),
        slow("cig", (4, 6)),
        slow("rig", (4, 6)),
        slow("rcig", (5, 0)),
        slow("rig", (0, 3)),
    ],
)
def test_adam_is_algorithm_1_for_every_member(member: str, steps: tuple[int, int]) -> None:
    settings = dataclasses.replace(ADAM[member], inner_steps=steps[0], inverse_steps=steps[1])
    problem = tiny()
    found, _, _ = gradient(problem, settings)
    expected = naive_gradient(problem, settings)
    for name in Distilled._fields:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    "case", [slow(case) if case in ("light body, cg", "mirrored, cg", "final layer") else case for case in EXACT]
)
def test_meta_gradient_is_that_of_the_closed_form_and_of_central_differences(case: str) -> None:
    problem = tiny()
    settings, mirror = EXACT[case]
    found, _, info = gradient(problem, settings, mirror)
    slopes = partial(exact_slopes(settings.outer_loss, mirror), settings.body_weight)
    value, expected = slopes(problem.distilled)
    np.testing.assert_allclose(info["loss"], value, rtol=1e-8)
    for seed, name in enumerate(Distilled._fields):
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8 * max(1e-3, float(jnp.abs(b).max())), err_msg=name)
        leaf = getattr(problem.distilled, name)
        direction = jax.random.normal(jax.random.key(seed), leaf.shape, leaf.dtype)
        above, below = (slopes(problem.distilled._replace(**{name: leaf + h * direction}))[0] for h in (1e-5, -1e-5))
        np.testing.assert_allclose(jnp.vdot(a, direction), (above - below) / 2e-5, rtol=1e-6, atol=1e-9, err_msg=name)
    assert float(jnp.abs(found.images).max()) > 0


@pytest.mark.parametrize("body_weight", [1.0, 0.1])
def test_conjugate_gradients_end_where_the_gradient_is_good_enough(body_weight: float) -> None:
    problem = tiny()
    exact = gradient(problem, change(body_weight=body_weight))[0]
    auto, two = (
        relative(gradient(problem, change(body_weight=body_weight, solver="cg", cg_iterations=given))[0], exact)
        for given in ("auto", 1)
    )
    assert 1e-9 < auto < 1e-2 * two, "neither exact nor what one iteration leaves"
    assert auto < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("member", ["rcig", "cig"])
def test_adam_converges_to_the_exact_gradient(member: str) -> None:
    """CIG too: its inner problem is jointly convex in the body and the final layer, with the same minimum."""
    problem = tiny()
    exact, _, _ = gradient(problem, SETTINGS)
    errors = []
    for steps in (10, 100, 1000):
        settings = dataclasses.replace(
            ADAM[member], inner_steps=steps, inverse_steps=steps, inner_rate=1e-2 / 3, inverse_rate=3e-2
        )
        errors.append(relative(gradient(problem, settings)[0], exact))
    assert errors[0] > 3 * errors[1] > 9 * errors[2], errors
    assert errors[2] < 1e-3, errors


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["dense", "cg", "adam"])
def test_subsets_give_the_full_gradient_on_average(solver: str) -> None:
    problem = tiny()
    # Of adam, the steps themselves are sampled too; with none, what is left is the backward pass of the final layer.
    settings = change(solver=solver, inner_steps=0, inverse_steps=0)
    full, _, _ = gradient(problem, settings)
    n = len(problem.distilled.images)
    whole, _, _ = gradient(problem, dataclasses.replace(settings, backward_images=n))
    np.testing.assert_allclose(whole.images, full.images, rtol=1e-9, atol=1e-12)

    part = dataclasses.replace(settings, backward_images=1)
    draws = [gradient(problem, part, seed=seed)[0] for seed in range(150)]
    images = np.stack([draw.images for draw in draws])
    assert all((np.abs(image).max(axis=(1, 2, 3)) > 0).sum() == 1 for image in images)
    error = images.std(axis=0, ddof=1) / np.sqrt(len(draws))
    deviation = (images.mean(axis=0) - full.images) / error
    assert 0.5 < np.sqrt((deviation**2).mean()) < 1.6
    for draw in draws[:3]:
        np.testing.assert_allclose(draw.labels, full.labels, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(draw.log_temperature, full.log_temperature, rtol=1e-9)


@pytest.mark.parametrize("member", ["rcig", *map(slow, ("vig", "cig", "rig"))])
def test_the_sampled_inner_gradient_has_the_full_one_as_its_mean(member: str) -> None:
    task = inner_problem(tiny(), dataclasses.replace(ADAM[member], backward_images=2))
    z = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(2), leaf.shape), task.start)
    full = flat(inner.gradient(task, z)[0])
    run = jax.jit(jax.vmap(lambda key: flat_(inner.gradient(task, z, key)[0])))
    draws = np.asarray(run(jax.random.split(jax.random.key(0), 100)))
    pairs = np.unique(draws.round(12), axis=0)
    assert len(pairs) == 6, "four images have six pairs"
    np.testing.assert_allclose(pairs.mean(axis=0), full, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("settings", [SETTINGS, change(solver="cg"), slow(ADAM["rig"])])
def test_the_gradient_does_not_depend_on_how_many_images_are_in_memory(settings: Settings) -> None:
    whole, _, _ = gradient(tiny(), settings)
    parts, _, _ = gradient(tiny(), dataclasses.replace(settings, images_per_pass=2))
    assert relative(parts, whole) < 1e-7


def permuted(problem: Tiny, order: jax.Array, classes: jax.Array) -> Tiny:
    head = {name: leaf[..., classes] for name, leaf in problem.network["params"]["head"].items()}
    return problem._replace(
        network=problem.network | {"params": problem.network["params"] | {"head": head}},
        distilled=problem.distilled._replace(
            images=problem.distilled.images[order], labels=problem.distilled.labels[order][:, classes]
        ),
        batch=problem.batch._replace(labels=problem.batch.labels[:, classes]),
    )


@pytest.mark.parametrize("settings", [SETTINGS, change(solver="cg"), *map(slow, (ADAM["rig"], ADAM["cig"]))])
def test_permuted_images_and_classes_permute_the_gradient(settings: Settings) -> None:
    order, classes = jnp.array([2, 0, 3, 1]), jnp.array([1, 2, 0])
    grad, _, _ = gradient(tiny(), settings)
    other, _, _ = gradient(permuted(tiny(), order, classes), settings)
    assert relative(other.images, grad.images[order]) < 1e-6
    assert relative(other.labels, grad.labels[order][:, classes]) < 1e-6


def test_mirroring_twice_is_the_identity() -> None:
    distilled = tiny().distilled
    x, y = support(distilled, mirror=True)
    n = len(distilled.images)
    np.testing.assert_array_equal(x[n:, :, ::-1], distilled.images)
    np.testing.assert_array_equal(y[n:], distilled.labels)


def test_a_mirrored_set_has_the_gradient_of_the_doubled_one_folded_back() -> None:
    problem = tiny()
    found, _, _ = gradient(problem, SETTINGS, mirror=True)
    x, y = support(problem.distilled, mirror=True)
    doubled = problem._replace(distilled=problem.distilled._replace(images=x, labels=y))
    n = len(problem.distilled.images)
    # λ is per image before mirroring: half the rate for twice the images.
    grad, _, _ = gradient(doubled, SETTINGS, l2_rate=L2_RATE / 2)
    np.testing.assert_allclose(found.images, grad.images[:n] + grad.images[n:, :, ::-1], atol=1e-10)
    np.testing.assert_allclose(found.labels, grad.labels[:n] + grad.labels[n:], atol=1e-10)


def test_clipping_shortens_the_implicit_gradient_leaf_by_leaf() -> None:
    problem = tiny()
    free, _, _ = gradient(problem, SETTINGS)
    clipped, _, _ = gradient(problem, change(clip_implicit=True))
    # Without Hessian-inverse steps there is no implicit part, and adam's solution converges to the exact one.
    direct, _, _ = gradient(
        problem,
        change(solver="adam", inner_steps=4000, inverse_steps=0, inner_rate=1e-3),
    )
    for name in ("images", "labels"):
        implicit = getattr(free, name) - getattr(direct, name)
        ratio = np.linalg.norm(getattr(direct, name)) / np.linalg.norm(implicit)
        expected = getattr(direct, name) + implicit * min(1.0, ratio)
        assert relative(getattr(clipped, name), expected) < 0.02, name
    np.testing.assert_allclose(clipped.log_temperature, free.log_temperature, rtol=1e-9)


def test_label_margin_is_the_formula_of_the_public_code() -> None:
    labels = jnp.array([[0.9, 0.1, 0.0], [0.5, 0.4, 0.45], [0.2, 0.25, 0.3]])
    expected = -np.mean([min(gap, 1 / 6) for gap in (0.8, 0.05, 0.05)])
    np.testing.assert_allclose(label_margin(labels), expected)
    plain, _, _ = gradient(tiny(), SETTINGS)
    added, _, _ = gradient(tiny(), change(label_margin=True))
    difference = added.labels - plain.labels
    np.testing.assert_allclose(difference, jax.grad(label_margin)(tiny().distilled.labels), atol=1e-12)
    np.testing.assert_allclose(added.images, plain.images, atol=1e-12)


def test_batch_norm_is_taken_at_the_running_statistics() -> None:
    problem = tiny(architecture="conv_bn")
    statistics = jax.tree.map(
        lambda leaf: jnp.abs(jax.random.normal(jax.random.key(3), leaf.shape, leaf.dtype)) + 0.5,
        problem.network["batch_stats"],
    )
    problem = problem._replace(network=problem.network | {"batch_stats": statistics})
    plain = problem._replace(net=problem.net._replace(features=partial(problem.net.features, statistics=statistics)))
    found, _, _ = gradient(problem, change(batch_norm=True))
    expected = jax.jit(jax.grad(partial(exact_outer_loss, plain, "platt", False, 1.0)))(problem.distilled)
    assert relative(found, expected) < 1e-6


@pytest.mark.parametrize("linearised", [True, False])
def test_outputs_are_the_network_and_its_expansion(linearised: bool) -> None:
    problem = tiny()
    task = inner_problem(problem, change(linearised=linearised, solver="adam"))
    shift = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape, leaf.dtype), problem.origin.body)

    @jax.jit
    def at(step: float) -> Outputs:
        moved = jax.tree.map(lambda leaf, change: leaf + step * change, problem.origin.body, shift)
        return Outputs(logits(problem, moved, task.x), problem.net.features(moved, task.x))

    found = jax.jit(task.outputs)(shift, task.x)
    if linearised:
        difference = (at(1e-5).offset - at(-1e-5).offset) / 2e-5
        np.testing.assert_allclose(found.offset, difference, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(found.features, at(0.0).features)
    else:
        np.testing.assert_array_equal(found.offset, jnp.zeros_like(found.offset))
        np.testing.assert_allclose(found.features, at(1.0).features)


@pytest.mark.parametrize("solver", ["dense", "cg"])
@pytest.mark.parametrize("what", ["duplicates", "a tiny ridge", "a dead network", "equal images"])
def test_ill_conditioned_kernels_give_a_finite_gradient(what: str, solver: str) -> None:
    problem, rate = tiny(), L2_RATE
    images = problem.distilled.images
    if what == "duplicates":
        problem = problem._replace(distilled=problem.distilled._replace(images=images.at[1].set(images[0])))
    if what == "equal images":
        problem = problem._replace(
            distilled=problem.distilled._replace(images=jnp.broadcast_to(images[0], images.shape))
        )
    if what == "a tiny ridge":
        rate = 1e-9
    if what == "a dead network":
        problem = problem._replace(network=jax.tree.map(jnp.zeros_like, problem.network))
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), problem[1:])
    settings = change(solver=solver)
    with jax.enable_x64(False):
        run = compiled(problem.net, settings, l2_rate=rate)
        grad, _, info = run(jax.random.key(0), single[0], rates(settings), *single[1:])
    assert np.isfinite(flat(grad)).all(), info


def test_a_64_bit_solve_in_32_bit_arithmetic_is_nearer_to_the_truth() -> None:
    """Two images that are almost the same, and a ridge far below what 32 bits resolve beside the features."""
    problem = tiny()
    images = problem.distilled.images
    images = images.at[1].set(images[0] + 1e-3 * images[1])
    problem = problem._replace(distilled=problem.distilled._replace(images=images))

    def final_layer(wide: bool, network: Any, distilled: Distilled) -> jax.Array:
        settings = change(body_weight=0.0, float64_solve=wide)
        task = make_problem(problem.net, settings, 1e-6, network, distilled.images, distilled.labels)
        return inner.final_layer_alone(task).weights.head

    truth = jax.jit(partial(final_layer, False))(problem.network, problem.distilled)
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (problem.network, problem.distilled))
    with jax.enable_x64(False):
        narrow, wide = (jax.jit(partial(final_layer, bits))(*single) for bits in (False, True))
    assert wide.dtype == narrow.dtype == jnp.float32
    assert relative(wide, truth) < 0.5 * relative(narrow, truth)
