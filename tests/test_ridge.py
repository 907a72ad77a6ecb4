"""The inner problem and the meta-gradient against dense algebra, closed forms and finite differences, in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import Tiny, tiny

from rcig.distill.base import Distilled
from rcig.distill.implicit import meta_gradient, platt, squared, support
from rcig.linear import Weights, jacobian, predict
from rcig.params import ImplicitParams
from rcig.ridge import dense, final_layer

pytestmark = pytest.mark.usefixtures("float64")

L2_RATE = 0.05
SETTINGS = ImplicitParams(
    learning_rate=1e-3,
    temperature_learning_rate=1e-2,
    learning_rate_floor=1.0,
    learn_labels=True,
    body_weight=1.0,
    outer_loss="platt",
    average_decay=0.9,
    softplus_temperature=3.0,
    pool_size=2,
    pool_steps=1,
    pool_age=3,
    pool_learning_rate=1e-3,
)
CASES = {
    "paper": (SETTINGS, False),
    "light body": (dataclasses.replace(SETTINGS, body_weight=0.1), False),
    "final layer": (dataclasses.replace(SETTINGS, body_weight=0.0), False),
    "frepo": (dataclasses.replace(SETTINGS, body_weight=0.0, outer_loss="squared"), False),
    "mirrored": (SETTINGS, True),
}


def gradient(problem: Tiny, case: str) -> tuple[Distilled, dict[str, jax.Array]]:
    settings, mirror = CASES[case]
    run = jax.jit(lambda *arguments: meta_gradient(problem.net, settings, L2_RATE, mirror, *arguments))
    return run(problem.origin, problem.distilled, problem.batch)


def flat(tree: object) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def design(problem: Tiny, x: jax.Array, body_weight: float) -> jax.Array:
    """The primal design matrix of the scaled problem, one row per image and class: columns √s δ, then Ω."""
    body = jacobian(problem.net.features, problem.origin, x)
    phi = problem.net.features(problem.origin.body, x)
    classes = body.shape[1]
    head = jnp.einsum("nh,cd->nchd", phi, jnp.eye(classes)).reshape(len(x), classes, -1)
    return jnp.concatenate([jnp.sqrt(body_weight) * body, head], axis=2).reshape(len(x) * classes, -1)


def outer_loss_by_primal_ridge(
    problem: Tiny, settings: ImplicitParams, mirror: bool, distilled: Distilled
) -> jax.Array:
    """The outer loss with the inner problem solved by normal equations in the primal: shares no algebra with ours."""
    x, y = support(distilled, mirror)
    rows = design(problem, x, settings.body_weight)
    l2 = L2_RATE * len(distilled.images)
    weights = jnp.linalg.solve(rows.T @ rows + l2 * jnp.eye(rows.shape[1]), rows.T @ y.reshape(-1))
    logits = (design(problem, problem.batch.images, settings.body_weight) @ weights).reshape(problem.batch.labels.shape)
    loss = {"platt": platt, "squared": squared}[settings.outer_loss]
    return loss(logits, distilled.log_temperature, problem.batch.labels).mean()


@pytest.mark.parametrize("body_weight", [1.0, 0.1])
def test_dual_solution_is_the_primal_one(body_weight: float) -> None:
    problem = tiny()
    x, y = problem.distilled.images, problem.distilled.labels
    shift = jax.jit(lambda x, y: dense(problem.net.features, problem.origin, x, y, 0.2, body_weight))(x, y)
    rows = jax.jit(lambda x: design(problem, x, body_weight))(x)
    weights = jnp.linalg.solve(rows.T @ rows + 0.2 * jnp.eye(rows.shape[1]), rows.T @ y.reshape(-1))
    split = flat(shift.body).size
    np.testing.assert_allclose(flat(shift.body), np.sqrt(body_weight) * weights[:split], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(flat(shift.head), weights[split:], rtol=1e-9, atol=1e-12)


def test_final_layer_is_the_primal_ridge_solution() -> None:
    problem = tiny()
    phi = problem.net.features(problem.origin.body, problem.distilled.images)
    expected = jnp.linalg.solve(phi.T @ phi + 0.2 * jnp.eye(phi.shape[1]), phi.T @ problem.distilled.labels)
    found = final_layer(
        problem.net.features, problem.origin.body, problem.distilled.images, problem.distilled.labels, 0.2
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_meta_gradient_is_that_of_the_closed_form_and_of_central_differences(case: str) -> None:
    problem = tiny()
    found, info = gradient(problem, case)
    loss = jax.jit(lambda distilled: outer_loss_by_primal_ridge(problem, *CASES[case], distilled))
    value, expected = jax.jit(jax.value_and_grad(loss))(problem.distilled)
    np.testing.assert_allclose(info["loss"], value, rtol=1e-10)
    for seed, name in enumerate(Distilled._fields):
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9 * max(1e-3, float(jnp.abs(b).max())), err_msg=name)
        leaf = getattr(problem.distilled, name)
        direction = jax.random.normal(jax.random.key(seed), leaf.shape, leaf.dtype)
        above, below = (loss(problem.distilled._replace(**{name: leaf + h * direction})) for h in (1e-5, -1e-5))
        np.testing.assert_allclose(jnp.vdot(a, direction), (above - below) / 2e-5, rtol=1e-6, atol=1e-9, err_msg=name)
    assert float(jnp.abs(found.images).max()) > 0


def test_linear_prediction_is_the_derivative_of_the_logits() -> None:
    problem = tiny()
    x, net = problem.batch.images, problem.net
    direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape, leaf.dtype), problem.origin)

    @jax.jit
    def logits(step: float) -> jax.Array:
        moved = jax.tree.map(lambda leaf, change: leaf + step * change, problem.origin, direction)
        return net.features(moved.body, x) @ moved.head

    difference = (logits(1e-5) - logits(-1e-5)) / 2e-5
    found = jax.jit(lambda shift: predict(net.features, problem.origin, x, shift))(direction)
    np.testing.assert_allclose(found, difference, rtol=1e-6, atol=1e-8)


def test_pullback_is_the_transpose_of_the_linear_prediction() -> None:
    problem = tiny()
    x, net = problem.batch.images, problem.net
    direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape, leaf.dtype), problem.origin)
    dual = jax.random.normal(jax.random.key(2), problem.batch.labels.shape, jnp.float64)
    forward = jax.jit(lambda shift: predict(net.features, problem.origin, x, shift))
    (pulled,) = jax.jit(jax.linear_transpose(forward, problem.origin))(dual)
    np.testing.assert_allclose(jnp.vdot(forward(direction), dual), flat(pulled) @ flat(direction), rtol=1e-10)
    rows = jax.jit(lambda x: jacobian(net.features, problem.origin, x))(x)
    np.testing.assert_allclose(jnp.einsum("ncp,nc->p", rows, dual), flat(pulled.body), rtol=1e-9, atol=1e-12)


def test_permuted_images_and_classes_permute_the_gradient() -> None:
    problem = tiny()
    order, classes = jnp.array([2, 0, 3, 1]), jnp.array([1, 2, 0])
    grad, _ = gradient(problem, "paper")
    permuted, _ = gradient(
        problem._replace(
            origin=Weights(problem.origin.body, problem.origin.head[:, classes]),
            distilled=problem.distilled._replace(
                images=problem.distilled.images[order], labels=problem.distilled.labels[order][:, classes]
            ),
            batch=problem.batch._replace(labels=problem.batch.labels[:, classes]),
        ),
        "paper",
    )
    np.testing.assert_allclose(permuted.images, grad.images[order], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(permuted.labels, grad.labels[order][:, classes], rtol=1e-8, atol=1e-12)


def test_mirroring_twice_is_the_identity() -> None:
    distilled = tiny().distilled
    x, y = support(distilled, mirror=True)
    n = len(distilled.images)
    np.testing.assert_array_equal(x[n:, :, ::-1], distilled.images)
    np.testing.assert_array_equal(y[n:], distilled.labels)
