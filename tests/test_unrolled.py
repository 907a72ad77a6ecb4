"""Back-propagation through inner training, in float64 against naive unrolls, and as a whole."""

import dataclasses
from functools import cache, partial
from typing import Any, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_implicit import judge, noise_teaches
from tiny import Tiny, examples, noise, setup, slow, tiny

from rcig import nets, train
from rcig.augment import augment
from rcig.methods import descent, unrolled
from rcig.methods.base import Distilled, support
from rcig.methods.unrolled import Settings

SETTINGS = Settings(
    learning_rate=0.02,
    temperature_learning_rate=0.02,
    average_decay=0.9,
    architecture="conv",
    inner_steps=5,
    window=3,
    inner_rate=1e-2,
    augment=False,
    augment_real=False,
)
KEY = jax.random.key(4)


def change(**settings: Any) -> Settings:
    return dataclasses.replace(SETTINGS, **settings)


@cache
def problem64(architecture: str = "conv") -> Tiny:
    """A tiny problem whose networks all start from the same weights, in float64.

    They are computed here, as a compiler may keep more digits of 32-bit ones that it turns into 64 bits at once.
    """
    found = tiny(architecture=architecture)
    return found._replace(net=found.net._replace(init=lambda key: found.network))


@cache
def naive_slopes(settings: Settings, mirror: bool = False, architecture: str = "conv") -> Any:
    """(stopped, end, set) -> the outer loss and its gradient by the set, see `naive_loss`."""
    loss = partial(naive_loss, problem64(architecture), settings, mirror)
    return jax.jit(jax.value_and_grad(loss, argnums=2))


def naive_loss(
    problem: Tiny, settings: Settings, mirror: bool, stopped: int, end: int, distilled: Distilled
) -> jax.Array:
    """The outer loss after `end` steps of Adam in a Python loop; nothing goes back before `stopped`.

    All steps are there, so that one compiled function does for every window; those from `end` on change nothing.
    """
    start_key, steps_key = jax.random.split(KEY)
    weights = problem.net.init(start_key)["params"]
    first = second = jax.tree.map(jnp.zeros_like, weights)
    for i in range(settings.inner_steps):
        batch_key, augment_key = jax.random.split(jax.random.fold_in(steps_key, i))

        def inner(weights: Any, batch_key: Any = batch_key, augment_key: Any = augment_key) -> jax.Array:
            x, y = support(distilled, mirror)
            if settings.inner_batch_size is not None:
                chosen = jax.random.choice(batch_key, len(x), (settings.inner_batch_size,), replace=False)
                x, y = x[chosen], y[chosen]
            if settings.augment:
                x = augment(augment_key, x)
            logits = problem.net.apply({"params": weights}, x)
            if settings.inner_loss == "squared":
                return 0.5 * ((logits - y) ** 2).mean()
            return -((y + 1 / 3) * jax.nn.log_softmax(logits)).sum(1).mean()

        grad = jax.grad(inner)(weights)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grad)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, grad)
        moved = jax.tree.map(
            lambda w, m, v, i=i: (
                w
                - settings.inner_rate
                * (m / (1 - 0.9 ** (i + 1)))
                / (jnp.sqrt(v / (1 - 0.999 ** (i + 1)) + unrolled.EPS_ROOT) + 1e-8)
            ),
            weights,
            first,
            second,
        )
        weights = choose(i < end, moved, weights)
        state = weights, first, second
        weights, first, second = choose(i + 1 == stopped, jax.lax.stop_gradient(state), state)
    logits = problem.net.apply({"params": weights}, problem.batch.images)
    if settings.outer_loss == "platt":
        return optax.softmax_cross_entropy(logits * jnp.exp(distilled.log_temperature), problem.batch.labels).mean()
    return (0.5 * (logits - problem.batch.labels + 1 / 3) ** 2).sum(1).mean()


def choose(which: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(partial(jnp.where, which), yes, no)


@cache
def compiled(net: nets.Net, settings: Settings, mirror: bool) -> Any:
    return jax.jit(partial(unrolled.meta_gradient, net, settings, mirror))


def gradient(problem: Tiny, settings: Settings, mirror: bool, end: int) -> Distilled:
    found: Distilled = compiled(problem.net, settings, mirror)(KEY, end, problem.distilled, problem.batch)[0]
    return found


CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "plain": ({}, False),
    "mirrored": ({}, True),
    "cross-entropy": ({"inner_loss": "cross_entropy"}, False),
    "squared": ({"outer_loss": "squared"}, False),
    "batches": ({"inner_batch_size": 2}, False),
    "augmented": ({"augment": True}, False),
    "rematerialised": ({"rematerialise": True}, False),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", [name if name == "plain" else slow(name) for name in CASES])
@pytest.mark.parametrize(("window", "end"), [(5, 5), (3, 5), (3, 3), slow(3, 4), slow(1, 5)])
def test_the_gradient_is_that_of_the_whole_unroll_with_a_stop_at_the_windows_start(
    case: str, window: int, end: int
) -> None:
    options, mirror = CASES[case]
    settings, problem = change(window=window, **options), problem64()
    found = gradient(problem, settings, mirror, end)
    _, expected = naive_slopes(change(**options), mirror)(end - window, end, problem.distilled)
    assert np.abs(expected.images).max() > 1e-6
    for part in Distilled._fields:
        a, b = np.asarray(getattr(found, part)), np.asarray(getattr(expected, part))
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10 * np.abs(b).max() + 1e-15)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_the_gradient_through_all_steps_is_that_of_central_differences() -> None:
    settings, problem = change(window=5), problem64()
    found = gradient(problem, settings, False, 5)
    loss = lambda distilled: naive_slopes(change())(0, 5, distilled)[0]  # noqa: E731
    for index in [(0, 1, 2, 0), (3, 4, 4, 0)]:
        step = 1e-5 * jnp.zeros_like(problem.distilled.images).at[index].set(1.0)
        up, down = (loss(problem.distilled._replace(images=problem.distilled.images + s)) for s in (step, -step))
        assert float(found.images[index]) == pytest.approx(float(up - down) / 2e-5, rel=1e-4, abs=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_instance_norm_too() -> None:
    problem = problem64("narrow_in")
    found = gradient(problem, change(), False, 5)
    _, expected = naive_slopes(change(), architecture="narrow_in")(2, 5, problem.distilled)
    np.testing.assert_allclose(found.images, expected.images, rtol=1e-6, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_the_mean_over_window_positions_is_the_stated_sum_of_truncated_terms() -> None:
    """The term of step i is what the loss owes to the set by way of that step alone. A window that ends at N has those
    of its M steps; their mean over N from M to T is the estimator's."""
    problem, window, steps = problem64(), 2, 4
    ends = range(window, steps + 1)
    mean = np.mean([gradient(problem, change(window=window, inner_steps=steps), False, end).images for end in ends], 0)

    def term(i: int, end: int) -> np.ndarray:
        through = [np.asarray(naive_slopes(change())(stop, end, problem.distilled)[1].images) for stop in (i, i + 1)]
        return through[0] - through[1]

    total = sum(term(i, end) for end in ends for i in range(end - window, end))
    np.testing.assert_allclose(mean, total / len(ends), rtol=1e-6, atol=1e-12)


def test_moving_the_window_compiles_nothing_anew_and_all_ends_are_drawn_alike() -> None:
    method = unrolled.make(SETTINGS, setup())
    traced = 0

    @jax.jit
    def step(key: jax.Array, state: Any) -> Any:
        nonlocal traced
        traced += 1
        return method.step(key, state, examples(8))

    state, ends = method.init(KEY, noise()), []
    for i in range(300):
        state, info = step(jax.random.key(i), state)
        ends.append(int(info["window_end"]))
    assert traced == 1
    # 100 of each are expected, with a standard deviation of 8.
    np.testing.assert_allclose(np.bincount(ends, minlength=6), [0, 0, 0, 100, 100, 100], atol=35)
    last = unrolled.make(change(window_end="last"), setup())
    _, info = jax.jit(last.step)(KEY, last.init(KEY, noise()), examples(8))
    assert int(info["window_end"]) == 5


@pytest.mark.usefixtures("float64")
def test_norms_are_those_of_the_gradients_in_a_loop() -> None:
    problem, settings = problem64(), change(augment=True)
    found = jax.jit(partial(unrolled.inner_norms, problem.net, settings, False))(KEY, problem.distilled)
    steps_key = jax.random.split(KEY)[1]
    weights = problem.net.init(KEY)["params"]
    optimizer = optax.adam(settings.inner_rate, eps_root=unrolled.EPS_ROOT)
    state, norms = optimizer.init(weights), []

    @jax.jit
    def slope(weights: Any, x: jax.Array) -> Any:
        def loss(weights: Any) -> jax.Array:
            return 0.5 * ((problem.net.apply({"params": weights}, x) - problem.distilled.labels) ** 2).mean()

        return jax.grad(loss)(weights)

    for i in range(settings.inner_steps):
        augment_key = jax.random.split(jax.random.fold_in(steps_key, i))[1]
        grad = slope(weights, augment(augment_key, problem.distilled.images))
        norms.append(np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(grad))))
        change_of_weights, state = optimizer.update(grad, state)
        weights = optax.apply_updates(weights, change_of_weights)
    np.testing.assert_allclose(found, norms, rtol=1e-8)


def test_windows_begin_where_gradients_are_large_then_anywhere_then_where_they_are_small() -> None:
    norms = jnp.array([4.0, 2.0, 1.0, 1.0, 100.0, 100.0])
    chances = [[0.5, 0.25, 0.125, 0.125], [0.25] * 4, [1 / 11, 2 / 11, 4 / 11, 4 / 11]]
    keys = jax.random.split(KEY, 4000)
    for third, expected in enumerate(chances):
        ends = jax.vmap(lambda key, third=third: unrolled.end_by_norms(key, norms, 3, third))(keys)
        counts = np.bincount(np.asarray(ends), minlength=7)
        assert counts[:3].tolist() == [0, 0, 0]
        np.testing.assert_allclose(counts[3:] / 4000, expected, atol=0.035)  # four deviations


def test_thirds_of_a_run_have_their_own_windows() -> None:
    """Of a training whose gradients vanish: after the first step nothing is left to learn."""
    settings = change(window_end="gradients", window=1, inner_steps=40, inner_rate=0.05, learning_rate=1e-6)
    method = unrolled.make(settings, setup(steps=60))
    step, state, ends = jax.jit(method.step), method.init(KEY, noise()), []
    for i in range(60):
        state, info = step(jax.random.key(i), state, examples(8))
        ends.append(int(info["window_end"]))
    assert step._cache_size() == 1  # type: ignore[attr-defined]
    early, middle, late = np.array(ends).reshape(3, 20).mean(1)
    assert early + 5 < middle < late - 5


@pytest.mark.slow
def test_memory_grows_with_the_window_and_not_with_the_steps() -> None:
    def mib(window: int, steps: int, **settings: Any) -> float:
        method = unrolled.make(change(window=window, inner_steps=steps, **settings), setup(width=8))
        state = method.init(KEY, noise())
        plan: Any = jax.jit(method.step).lower(KEY, state, examples(8)).compile().memory_analysis()
        return float(plan.temp_size_in_bytes) / 2**20

    four, eight, sixteen = mib(4, 16), mib(8, 16), mib(16, 16)
    assert mib(4, 64) == pytest.approx(four, rel=0.02)
    assert sixteen - eight == pytest.approx(2 * (eight - four), rel=0.2)
    assert sixteen > 1.5 * four
    assert mib(16, 16, rematerialise=True) < 0.7 * sixteen


def test_a_network_whose_units_are_dead_has_a_finite_gradient() -> None:
    net = nets.build("conv", (8, 8, 1), 3, width=4, depth=2)
    dark = Distilled(jnp.zeros((3, 8, 8, 1)), jnp.eye(3) - 1 / 3, jnp.zeros(()))
    found, _ = compiled(net, change(inner_rate=1.0), False)(KEY, 5, dark, examples(8).batch(3))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


METHODS = {
    "rat_bptt": change(inner_steps=30, window=10),
    "t_bptt": change(inner_steps=20, window=10, window_end="last"),
    "bptt": change(inner_steps=10, window=None, window_end="last"),
    "both sides augmented": change(inner_steps=20, window=10, augment=True, augment_real=True),
}


@pytest.mark.parametrize("name", [name if name == "rat_bptt" else slow(name) for name in METHODS])
def test_distilling_teaches_networks_what_noise_does_not(name: str) -> None:
    method = unrolled.make(METHODS[name], setup())
    state, step, food, losses = method.init(KEY, noise()), jax.jit(method.step), examples(), []
    for i in range(60):
        state, info = step(jax.random.key(i), state, food)
        losses.append(float(info["loss"]))
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert judge(method.result(state)) > max(noise_teaches(), 0.8)


def test_losses_have_the_names_of_the_settings() -> None:
    named = get_type_hints(Settings)
    assert set(unrolled.LOSSES) == set(get_args(named["inner_loss"]))
    assert set(descent.LOSSES) == set(get_args(named["outer_loss"]))
    assert unrolled.LOSSES["squared"] is train.mse
