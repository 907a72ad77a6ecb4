"""Kernel inducing points and label solve, in float64 against plain algebra and differences, and as a whole."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import Tiny, blobs, examples, noise, setup, tiny

from rcig import ntk, resources
from rcig.errors import ParamsError, TooLargeError
from rcig.methods import kernel_points
from rcig.methods.base import Distilled
from rcig.methods.feeds import Examples
from rcig.methods.kernel_points import MEMBERS, Settings, meta_gradient

KEY = jax.random.key(7)


def member(name: str, **more: Any) -> Settings:
    return Settings(**{"architecture": "dense", "depth": 1, **MEMBERS[name].fixed, **more})


def dense(a: jax.Array, b: jax.Array) -> jax.Array:
    return ntk.kernels(a, b, "dense", 1).ntk


def naive_loss(found: Tiny, settings: Settings, mirror: bool, distilled: Distilled) -> jax.Array:
    """Kernel ridge regression by a plain inverse."""
    x, y = distilled.images, distilled.labels
    if mirror:
        x, y = jnp.concatenate([x, x[:, :, ::-1]]), jnp.concatenate([y, y])
    matrix = dense(x, x)
    matrix += settings.ridge_weight * jnp.diag(matrix).mean() * jnp.eye(len(x))
    logits = dense(found.batch.images, x) @ jnp.linalg.inv(matrix) @ y
    if settings.outer_loss == "squared":
        return 0.5 * ((logits - found.batch.labels + 1 / 3) ** 2).sum(1).mean()
    scores = jax.nn.log_softmax(logits * jnp.exp(distilled.log_temperature))
    return -(found.batch.labels * scores).sum(1).mean()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("loss", "mirror"), [("squared", False), ("platt", True)])
def test_the_gradient_is_that_of_plain_algebra_and_of_differences(loss: Any, mirror: bool) -> None:
    found, settings = tiny(), member("kip", outer_loss=loss, ridge_weight=1e-3)
    plain = jax.jit(jax.value_and_grad(lambda one: naive_loss(found, settings, mirror, one)))
    value, expected = plain(found.distilled)
    run = jax.jit(lambda one: meta_gradient(dense, settings, mirror, one, found.batch))
    grad, info = run(found.distilled)
    np.testing.assert_allclose(info["loss"], value, rtol=1e-9)
    for one, other in zip(grad, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-11)
    direction = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape, jnp.float64), found.distilled)
    above, below = (
        run(jax.tree.map(lambda leaf, along, h=h: leaf + h * along, found.distilled, direction))[1]["loss"]
        for h in (1e-5, -1e-5)
    )
    slope = sum(jnp.vdot(one, along) for one, along in zip(grad, direction, strict=True))
    np.testing.assert_allclose(slope, (above - below) / 2e-5, rtol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mirror", [False, True])
def test_solved_labels_fulfil_the_normal_equations_of_all_batches(mirror: bool) -> None:
    """Of 24 real images in three batches: the derivative of the squared error by the labels is zero."""
    found, settings = tiny(), member("label_solve", ridge_weight=1e-3)
    method = kernel_points.make(settings, setup(images=4, mirror=mirror))
    real = jax.random.normal(jax.random.key(3), (24, 8, 8, 1), jnp.float64)
    classes = np.arange(24, dtype=np.int32) * 7 % 3
    state = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), method.init(KEY, found.distilled))
    for part in np.split(np.arange(24), 3):
        state, info = method.step(KEY, state, Examples(real[part], classes[part]))
    solved = method.result(state)
    np.testing.assert_array_equal(solved.images, found.distilled.images)
    whole = found._replace(batch=found.batch._replace(images=real, labels=jnp.eye(3)[classes]))

    def error(labels: jax.Array) -> jax.Array:
        return naive_loss(whole, settings, mirror, found.distilled._replace(labels=labels))

    slopes = jax.jit(jax.value_and_grad(error))
    value, slope = slopes(solved.labels)
    assert float(jnp.abs(slope).max()) < 1e-10 < 1e-4 < float(jnp.abs(slopes(found.distilled.labels)[1]).max())
    np.testing.assert_allclose(info["loss"], value, rtol=1e-9)


def test_a_kernel_that_does_not_fit_says_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available", lambda: 2 * resources.GIB)
    kernel_points.make(member("kip"), setup(images=10_000, shape=(32, 32, 3)))
    for settings, images, size in ((member("kip"), 100_000, "74.5"), (member("kip", architecture="conv"), 1000, "7.6")):
        message = rf"kernel of {images} images: needs about {size} GiB .* 2\.0 GiB are free; lower images_per_class"
        with pytest.raises(TooLargeError, match=message):
            kernel_points.make(settings, setup(images=images, shape=(32, 32, 3)))


@pytest.mark.parametrize("more", [{"basis": 3}, {"mobility": (0.0, 1.0, 1.0)}])
def test_labels_that_are_not_free_are_not_solved_for(more: Any) -> None:
    with pytest.raises(ParamsError, match="label_solve solves for all labels at once; set basis: null and boost: null"):
        kernel_points.make(member("label_solve"), setup(**more))


@pytest.mark.parametrize("architecture", ["dense", "conv"])
def test_a_set_that_is_moved_predicts_images_that_it_never_saw(architecture: Any) -> None:
    settings = member("kip", architecture=architecture, average_decay=0.9)
    method = kernel_points.make(settings, setup(steps=60))
    state, step = method.init(KEY, noise()), jax.jit(method.step)
    for i in range(60):
        state, _ = step(jax.random.key(i), state, examples())
    assert step._cache_size() == 1  # type: ignore[attr-defined]
    images, _, labels = blobs(60)

    def accuracy(distilled: Distilled) -> float:
        both = [ntk.kernels(x, distilled.images, architecture, 1).ntk for x in (distilled.images, images)]
        return float(((both[1] @ jnp.linalg.solve(both[0], distilled.labels)).argmax(1) == labels).mean())

    assert accuracy(noise()) < 0.6
    assert accuracy(method.result(state)) > 0.95


def test_a_platt_temperature_is_learned_where_it_is_asked_for() -> None:
    for loss, moves in (("platt", True), ("squared", False)):
        settings = dataclasses.replace(member("kip"), outer_loss=loss)
        method = kernel_points.make(settings, setup())
        state, _ = jax.jit(method.step)(KEY, method.init(KEY, noise()), examples())
        assert (float(method.result(state).log_temperature) != 0) == moves
