"""The outer descent: averages, clipping and statistics of gradients, what does not move, and mixtures of a basis."""

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import resolved, setup

from rcig.errors import ParamsError
from rcig.methods import basis, blocks
from rcig.methods.base import Distilled
from rcig.methods.descent import DECAY, Outer, OuterDescent, descend

pytestmark = pytest.mark.usefixtures("float64")

N, SHAPE, CLASSES = 4, (3, 3, 1), 2
PLAIN = OuterDescent(learning_rate=0.5, temperature_learning_rate=0.25, learning_rate_floor=1.0, average_decay=0.0)


def random_set(seed: int, n: int = N) -> Distilled:
    x, y, t = (
        jax.random.normal(key, shape)
        for key, shape in zip(jax.random.split(jax.random.key(seed), 3), ((n, *SHAPE), (n, CLASSES), ()), strict=True)
    )
    return Distilled(x, y, t)


def follow(outer: Outer, gradients: list[Distilled]) -> tuple[Any, list[dict[str, Any]]]:
    """Position after these gradients, and what was said at every step."""
    position, infos = outer.start(jax.random.key(0), random_set(0, len(gradients[0].images))), []
    for gradient in gradients:
        position, info = outer.move(position, gradient)
        infos.append(info)
    return position, infos


def flat(gradient: Distilled) -> np.ndarray:
    """Of the set alone, without its temperature."""
    return np.concatenate([np.ravel(gradient.images), np.ravel(gradient.labels)])


def descent(settings: OuterDescent = PLAIN, optimizer: Any = optax.sgd, **changes: Any) -> Outer:
    """For a set of four images, as `setup` has it but for what is changed."""
    return descend(optimizer, settings, setup(shape=SHAPE, classes=CLASSES, images=N, **changes))


def test_every_part_moves_by_its_own_rate() -> None:
    gradients = [random_set(i) for i in (1, 2)]
    position, _ = follow(descent(), gradients)
    start = random_set(0)
    rates = Distilled(0.5, 0.5, 0.25)  # type: ignore[arg-type]
    expected = jax.tree.map(lambda s, rate, a, b: s - rate * (a + b), start, rates, *gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), position.coordinates, expected)


def test_a_gradient_is_no_longer_than_twice_the_running_norm_of_what_was_used() -> None:
    gradients = [random_set(i) for i in range(1, 8)]
    gradients[3] = jax.tree.map(lambda leaf: 1000 * leaf, gradients[3])
    outer = descent(dataclasses.replace(PLAIN, clip_gradient=2.0))
    position, infos = follow(outer, gradients)
    images, running = np.asarray(random_set(0).images), None
    shrunk = []
    for gradient in gradients:
        norm = np.linalg.norm(flat(gradient))
        used = norm if running is None else min(norm, 2 * running)
        running = norm if running is None else 0.9 * running + 0.1 * used
        shrunk.append(used / norm)
        images = images - 0.5 * np.asarray(gradient.images) * used / norm
    assert shrunk[3] < 0.01
    assert shrunk[4:] == [1, 1, 1], "one wild gradient does not let the next ones pass"
    np.testing.assert_allclose(position.coordinates.images, images, rtol=1e-6)
    np.testing.assert_allclose([info["gradient_norm"] for info in infos], [np.linalg.norm(flat(g)) for g in gradients])
    temperature = random_set(0).log_temperature - 0.25 * sum(g.log_temperature for g in gradients)
    np.testing.assert_allclose(position.coordinates.log_temperature, temperature, rtol=1e-6)


def test_a_first_gradient_of_zero_stops_nothing() -> None:
    gradients = [jax.tree.map(jnp.zeros_like, random_set(0)), random_set(1)]
    position, _ = follow(descent(dataclasses.replace(PLAIN, clip_gradient=2.0)), gradients)
    np.testing.assert_allclose(position.coordinates.images, random_set(0).images - 0.5 * gradients[1].images)


def test_variance_of_the_gradient() -> None:
    rng = np.random.default_rng(0)
    mean, spread = random_set(1), 0.3
    draws = [jax.tree.map(lambda leaf: leaf + spread * rng.normal(size=leaf.shape), mean) for _ in range(400)]
    outer = descent()
    _, infos = follow(outer._replace(move=jax.jit(outer.move)), draws)
    found = np.array([info["gradient_variance"] for info in infos])
    assert found[0] == 0
    # The same by a naive running mean of halved squared differences.
    running, weight = 0.0, 0.0
    for i in range(1, len(draws)):
        running = DECAY * running + (1 - DECAY) * ((flat(draws[i]) - flat(draws[i - 1])) ** 2).sum() / 2
        weight = DECAY * weight + (1 - DECAY)
        np.testing.assert_allclose(found[i], running / weight, rtol=1e-6)
    # And without bias: the sum of all coordinates' variances.
    assert found[20:].mean() == pytest.approx(spread**2 * len(flat(mean)), rel=0.05)


def test_what_does_not_move_is_no_part_of_the_gradient_that_is_measured() -> None:
    gradient = random_set(1)
    _, (info,) = follow(descent(dataclasses.replace(PLAIN, learn_labels=False)), [gradient])
    np.testing.assert_allclose(info["gradient_norm"], np.linalg.norm(gradient.images))
    _, (info,) = follow(descent(mobility=(0.0, 0.0, 0.5, 1.0)), [gradient])
    np.testing.assert_allclose(
        info["gradient_norm"],
        np.linalg.norm(flat(jax.tree.map(lambda leaf: leaf[2:] if leaf.ndim else leaf, gradient))),
    )


@pytest.mark.parametrize("optimizer", [optax.sgd, optax.adam, optax.adabelief])
def test_mobility_scales_the_updates_of_images_and_labels(optimizer: Any) -> None:
    gradients = [random_set(i) for i in (1, 2, 3)]
    free, held = (
        follow(descent(optimizer=optimizer, mobility=mobility), gradients)[0].coordinates
        for mobility in ((1.0, 1.0, 1.0, 1.0), (0.0, 0.25, 1.0, 1.0))
    )
    start = random_set(0)
    np.testing.assert_array_equal(held.images[0], start.images[0])
    np.testing.assert_array_equal(held.labels[0], start.labels[0])
    for part in ("images", "labels"):
        a, b, c = (np.asarray(getattr(one, part)) for one in (start, free, held))
        np.testing.assert_allclose(c[1] - a[1], 0.25 * (b[1] - a[1]), rtol=1e-9)
        np.testing.assert_allclose(c[2:], b[2:], rtol=1e-12)


def test_a_basis_of_the_images_themselves_has_the_gradient_of_no_basis() -> None:
    start, gradient = random_set(0), random_set(1)
    encoded: Any = basis.encode(start, N, jax.random.key(0))
    np.testing.assert_allclose(basis.decode(encoded).images, start.images)
    (found,) = jax.vjp(basis.decode, encoded)[1](gradient)
    np.testing.assert_allclose(found.images.images, gradient.images, rtol=1e-12)
    np.testing.assert_array_equal(found.labels, gradient.labels)
    # With the coefficients held, a step along it is the step without a basis.
    plain = descent().move(descent().start(jax.random.key(0), start), gradient)[0]
    mixed = basis.Basis(encoded.images.coefficients, encoded.images.images - 0.5 * found.images.images)
    np.testing.assert_allclose(
        basis.decode(encoded._replace(images=mixed)).images, descent().current(plain).images, rtol=1e-12
    )


def test_a_step_with_a_basis_goes_down_the_gradient_by_its_coordinates() -> None:
    outer = descent(basis=2)
    position: Any = outer.start(jax.random.key(0), random_set(0))
    for gradient in (random_set(1), random_set(2)):
        through = lambda coordinates, by=gradient: sum(  # noqa: E731
            (a * b).sum() for a, b in zip(basis.decode(coordinates), by, strict=True)
        )
        down = jax.grad(through)(position.coordinates)
        rates = position.coordinates._replace(images=0.5, labels=0.5, log_temperature=0.25)
        rates = rates._replace(images=jax.tree.map(lambda _: 0.5, position.coordinates.images))
        expected = jax.tree.map(lambda s, rate, d: s - rate * d, position.coordinates, rates, down)
        position, _ = outer.move(position, gradient)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), position.coordinates, expected)


@pytest.mark.parametrize("count", [2, 4, 6])
def test_gradients_by_coefficients_and_basis_are_those_of_central_differences(count: int) -> None:
    start, weights = random_set(0), random_set(1)
    coordinates: Any = basis.encode(start, count, jax.random.key(0))
    loss = lambda c: (weights.images * jnp.sin(basis.decode(c).images)).sum()  # noqa: E731
    grad = jax.grad(loss)(coordinates)
    for name in ("coefficients", "images"):
        leaf = getattr(coordinates.images, name)
        for index in [(0, 0), (1, count - 1), (leaf.shape[0] - 1, 0)]:
            index = tuple(min(i, size - 1) for i, size in zip(index, leaf.shape, strict=False)) + (0,) * (leaf.ndim - 2)
            up, down = (
                loss(coordinates._replace(images=coordinates.images._replace(**{name: leaf.at[index].add(step)})))
                for step in (1e-5, -1e-5)
            )
            assert float(getattr(grad.images, name)[index]) == pytest.approx(float(up - down) / 2e-5, abs=1e-8)


def test_a_smaller_basis_starts_as_near_to_the_images_as_can_be() -> None:
    start = random_set(0, 6)
    truth = np.asarray(start.images).reshape(6, -1)
    u, s, v = np.linalg.svd(truth, full_matrices=False)
    for count in (1, 3, 5):
        near = basis.decode(basis.encode(start, count, jax.random.key(0))).images.reshape(6, -1)
        np.testing.assert_allclose(near, (u[:, :count] * s[:count]) @ v[:count], atol=1e-10)
    unit = np.asarray(basis.encode(start, 3, jax.random.key(0)).images.images)
    np.testing.assert_allclose((unit**2).mean((1, 2, 3)), 1)


def test_the_averaged_result_stores_as_little_as_the_set() -> None:
    outer = descent(dataclasses.replace(PLAIN, average_decay=0.5), basis=2)
    position, _ = follow(outer, [random_set(i) for i in (1, 2, 3)])
    result = np.asarray(outer.result(position).images).reshape(N, -1)
    assert np.linalg.matrix_rank(result) == 2


def test_floats_that_a_set_stores() -> None:
    assert basis.stored_floats(10, 10, 784, None) == 10 * 784 + 100
    assert basis.stored_floats(20, 10, 784, 9) == 20 * 9 + 9 * 784 + 200
    coordinates: Any = basis.encode(random_set(0), 2, jax.random.key(0))
    stored = sum(leaf.size for leaf in jax.tree.leaves(coordinates)) - 1
    assert stored == basis.stored_floats(N, CLASSES, int(np.prod(SHAPE)), 2)


def test_a_basis_larger_than_its_set_is_warned_of() -> None:
    most = 88  # 100 · 88 + 88 · 784 numbers are no more than 100 · 784, those of one more are
    with pytest.warns(UserWarning, match=r"x\.basis: .* 89 basis images take 79,676 .*, the 100 .* themselves 79,400"):
        resolved(images_per_class=10, basis=most + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolved(images_per_class=10, basis=most)
    with pytest.raises(ParamsError, match=r"x\.basis: 785 is more than the 784 pixels of an image"):
        resolved(images_per_class=10, basis=785)


def test_parts_of_a_set() -> None:
    labels = np.repeat(np.arange(3), 4)
    chosen = blocks.part(2, 4, 3, False, seed=5)
    assert labels[chosen].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(chosen.tolist())) == 6
    assert (chosen != blocks.part(2, 4, 3, False, seed=6)).any()
    assert blocks.part(2, 4, 3, True, seed=5).tolist() == [0, 1, 2, 3, 4, 5]


def test_blocks_join_with_the_temperature_that_was_reached_and_have_seeds_of_their_own() -> None:
    before, new = random_set(1), random_set(2)
    both = blocks.join(before, new)
    np.testing.assert_array_equal(both.images, np.concatenate([before.images, new.images]))
    np.testing.assert_array_equal(both.labels, np.concatenate([before.labels, new.labels]))
    assert both.log_temperature == before.log_temperature
    assert blocks.seed_of(3, 0) == 3
    assert len({blocks.seed_of(seed, images) for seed in (3, 4) for images in (0, 10, 20)}) == 6
