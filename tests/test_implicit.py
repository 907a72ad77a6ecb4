"""RCIG and FRePo as a whole: steps, pool, average."""

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import blobs, examples, noise, setup

from rcig import passes, train
from rcig.data.splits import Split, whole
from rcig.errors import ParamsError
from rcig.inner import Rates
from rcig.methods import implicit, pool
from rcig.methods.base import Distilled, Method, support
from rcig.methods.implicit import MEMBERS, Settings
from rcig.methods.rates import BACK, GROWTH, INTERVAL, LOWER, LOWEST, RAISE, Rate, adapt, choose
from rcig.nets import build
from rcig.nets.build import Classifier
from rcig.run import validate

NET = build("conv", (8, 8, 1), 3, width=4, depth=2, temperature=60.0)
QUICK = Settings(
    temperature_learning_rate=0.02,
    learning_rate_floor=1.0,
    average_decay=0.9,
    body_weight=1.0,
    solver="dense",
    pool_size=2,
    pool_age=3,
    pool_learning_rate=1e-3,
)
AUTO = {"solver": "adam", "inner_steps": 5, "inverse_steps": 5}
OWN: dict[str, dict[str, Any]] = {
    # The network itself, fitted without a closed form, takes smaller steps.
    "vig": {"inner_rate": 0.003, "inverse_rate": 0.1},
    **{name: {"inner_rate": 0.01, "inverse_rate": 0.1} for name in ("cig", "rig")},
}
METHODS = {
    name: dataclasses.replace(QUICK, **{**member.preset, **member.fixed, **OWN.get(name, {})})
    for name, member in MEMBERS.items()
}
OPTIONS = {
    "cg": {"solver": "cg", "cg_iterations": 5},
    "adam": AUTO,
    "clip and margin": {"clip_implicit": True, "label_margin": True},
    "batch norm": {"batch_norm": True, "pool_learning_rate": 1e-2, "pool_steps": 5},
    "augment": {"augment": True},
    "some images": {"backward_images": 2},
    "relu": {"softplus_temperature": 0.0},
    "float64": {"float64_solve": True},
    "one image per pass": {"images_per_pass": 1},
    "small batches in the pool": {"pool_batch_size": 2},
}


class Compiled(NamedTuple):
    """A method whose step is compiled once for all tests. Its learning rates are constant, whatever its steps."""

    method: Method[Any, Any, Distilled]
    init: Callable[..., Any]
    step: Callable[..., Any]
    traced: list[None]
    """has an entry for every time that the step was compiled"""


@cache
def compiled(settings: Settings) -> Compiled:
    method, traced = implicit.make(settings, setup()), []

    def step(*arguments: Any) -> Any:
        traced.append(None)
        return method.step(*arguments)

    return Compiled(method, jax.jit(method.init), jax.jit(step), traced)


def run(settings: Settings, steps: int, seed: int = 0) -> tuple[Any, list[float], list[Distilled]]:
    one, food = compiled(settings), examples()
    state, losses, sets = one.init(jax.random.key(seed), noise()), [], []
    for i in range(steps):
        state, info = one.step(jax.random.key(1000 * seed + i), state, food)
        losses.append(info["loss"])
        sets.append(state.position.coordinates)
    return (one.method, state), [float(loss) for loss in losses], sets


def teaches(settings: Any, steps: int = 80) -> float:
    """Held-out accuracy after some steps; the loss must have fallen."""
    (method, state), losses, _ = run(settings, steps)
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    return judge(method.result(state))


@cache
def validator() -> Callable[..., float]:
    x, _, truth = blobs(90)
    net = build("conv", (8, 8, 1), 3, width=16, depth=2)
    schedule = train.Schedule(300, train.adam(warmup=0.1), 1e-3, batch_size=256)
    return validate.validator(net, schedule, train.own_labels, whole(Split(np.asarray(x), truth)), jnp.asarray)


def judge(distilled: Distilled) -> float:
    """Accuracy of networks wide enough that their starts do not decide."""
    return validator()(distilled.images, distilled.labels)


@cache
def noise_teaches() -> float:
    return judge(noise())


RCIG_OTHERS_SLOW = [pytest.param(name, marks=() if name == "rcig" else pytest.mark.slow) for name in METHODS]


@pytest.mark.parametrize("name", RCIG_OTHERS_SLOW)
def test_distilling_teaches_networks_what_noise_does_not(name: str) -> None:
    assert noise_teaches() < 0.5
    assert teaches(METHODS[name]) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_distils(name: str) -> None:
    assert teaches(dataclasses.replace(QUICK, **OPTIONS[name])) > 0.8


def test_the_result_is_the_bias_corrected_average_of_all_sets() -> None:
    (method, state), _, sets = run(QUICK, 6)
    decay = QUICK.average_decay
    weights = np.array([decay ** (len(sets) - 1 - i) for i in range(len(sets))])
    expected = sum(w * np.asarray(s.images) for w, s in zip(weights / weights.sum(), sets, strict=True))
    np.testing.assert_allclose(method.result(state).images, expected, atol=1e-5)
    start = method.init(jax.random.key(0), noise())
    np.testing.assert_array_equal(method.result(start).images, noise().images)


def test_fixed_labels_stay_as_they_are() -> None:
    (method, state), _, _ = run(dataclasses.replace(QUICK, learn_labels=False), 3)
    np.testing.assert_allclose(method.result(state).labels, noise().labels, atol=1e-6)
    assert not np.allclose(method.result(state).images, noise().images)


def test_a_seed_fixes_every_bit() -> None:
    first, second, other = (run(QUICK, 4, seed)[0][1] for seed in (1, 1, 2))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.position.coordinates.images, other.position.coordinates.images)


@pytest.mark.parametrize("name", RCIG_OTHERS_SLOW)
def test_the_step_is_compiled_once(name: str) -> None:
    run(METHODS[name], 3)
    assert len(compiled(METHODS[name]).traced) == 1


def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates(Rate.start("auto"), Rate.start("auto"))
    set_up = partial(support, mirror=False)
    grads = []
    for size in (32, 7):  # of 28 images in one pass, or in four
        monkeypatch.setattr(passes, "CPU_PASS", size)
        step = jax.jit(lambda *arguments: implicit.meta_gradient(NET, QUICK, 1e-3, set_up, *arguments))
        grads.append(step(NET.init(jax.random.key(0)), rates, jax.random.key(0), noise(), examples(28).batch(3))[0])
    for grad in grads[1:]:
        for a, b in zip(grads[0], grad, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_a_visit_trains_one_network_and_replaces_it_when_it_is_old() -> None:
    optimizer = optax.adam(1e-2)
    x, y, _ = blobs(6)
    networks = pool.create(NET, optimizer, jax.random.key(0), 3)
    visits = pool.Visits(optimizer, max_age=5, batch_size=10)
    visit = jax.jit(lambda p, steps: pool.visit(NET, visits, jax.random.key(1), p, 1, steps, x, y))
    visited = visit(networks, 4)
    assert visited.age.tolist() == [0, 4, 0]

    expected = jax.tree.map(lambda leaf: leaf[1], networks.networks)
    for _ in range(4):
        expected = jax.jit(train.update, static_argnums=(0, 1))(NET, optimizer, expected, x, y)
    for before, after, one in zip(*map(jax.tree.leaves, (networks.networks, visited.networks, expected)), strict=True):
        np.testing.assert_array_equal(after[jnp.array([0, 2])], before[jnp.array([0, 2])])
        np.testing.assert_allclose(after[1], one, atol=1e-4)

    replaced = visit(visited, 1)
    assert replaced.age.tolist() == [0, 0, 0]
    fresh = train.start(NET, optimizer, jax.random.split(jax.random.key(1))[0])
    for after, one in zip(*map(jax.tree.leaves, (replaced.networks, fresh)), strict=True):
        np.testing.assert_allclose(after[1], one, atol=1e-6)


def test_the_order_of_the_pool_carries_over_to_the_result() -> None:
    x, y, _ = blobs(6)
    networks = pool.create(NET, optax.adam(1e-2), jax.random.key(0), 3)
    order = jnp.array([2, 0, 1])
    shuffled = jax.tree.map(lambda leaf: leaf[order], networks)
    visits = pool.Visits(optax.adam(1e-2), max_age=5, batch_size=10)
    visit = jax.jit(lambda p, index: pool.visit(NET, visits, jax.random.key(1), p, index, 2, x, y))
    expected, found = visit(networks, 0), visit(shuffled, 1)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(a[order], b)


def test_a_fresh_network_at_every_step_is_a_pool_of_one_that_is_never_trained() -> None:
    (_, before), _, _ = run(METHODS["rfad"], 1)
    (_, after), _, _ = run(METHODS["rfad"], 2)
    kernels = [state.pool.networks.variables["params"]["head"]["kernel"][0] for state in (before, after)]
    assert not np.allclose(*kernels)
    assert after.pool.age.tolist() == [0]


@pytest.mark.parametrize("architecture", ["conv", "conv_bn"])
def test_several_networks_are_one_whose_kernel_is_the_mean_of_theirs(architecture: str) -> None:
    net, (x, _, _) = build(architecture, (8, 8, 1), 3, width=4, depth=2), blobs(5)
    one = implicit.several(net, 3)
    network = one.init(jax.random.key(0))
    features = one.features(network["params"]["body"], x, network.get("batch_stats", {}))
    each = []
    for key in jax.random.split(jax.random.key(0), 3):
        own = net.init(key)
        phi = net.features(own["params"]["body"], x, own.get("batch_stats", {}))
        each.append(phi @ phi.T)
    np.testing.assert_allclose(features @ features.T, np.mean(each, 0), rtol=1e-4)
    assert not np.allclose(each[0], each[1], rtol=1e-2)
    assert network["params"]["head"]["kernel"].shape == (features.shape[1], 3)
    assert one.apply(network, x).shape == (5, 3)


@pytest.mark.parametrize("more", [{"body_weight": 0.1}, {"body_weight": 0.0, "pool_steps": 1}])
def test_networks_that_are_linearised_or_trained_are_one(more: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match=r"networks 8 are neither linearised nor trained together; set networks: 1"):
        Settings(networks=8, **more)
    assert Settings(networks=1, **more).networks == 1


def quadratic(rate: jax.Array) -> jax.Array:
    """Losses of gradient descent on x²/2 from 1: they fall at every step up to a rate of 2."""
    return (1 - rate) ** (2 * jnp.arange(10)) / 2


def test_a_rate_is_the_largest_that_falls_steadily_with_a_margin() -> None:
    found = float(choose(Rate.start("auto"), quadratic))
    assert found < 2 * BACK * GROWTH
    assert found > 2 * BACK / GROWTH
    assert float(choose(Rate.start(0.5), quadratic)) == 0.5
    chosen = Rate.start("auto")._replace(value=jnp.asarray(0.25))
    assert float(choose(chosen, quadratic)) == 0.25


@pytest.mark.parametrize(
    ("losses", "factor"), [([3.0, 2.0, 1.0], RAISE), ([1.0, 2.0, 3.0], LOWER), ([3.0, 1.0, 2.0], 1.0)], ids=str
)
def test_a_rate_adapts_to_how_its_solves_went(losses: list[float], factor: float) -> None:
    rate = Rate.start("auto")
    for i in range(INTERVAL):
        assert float(rate.value) == (0.0 if i == 0 else 0.5)
        rate = adapt(rate, (jnp.asarray(0.5), jnp.asarray(losses)))
    np.testing.assert_allclose(rate.value, 0.5 * factor)
    assert rate.solves == rate.failed == rate.steady == 0
    fixed = Rate.start(0.5)
    for _ in range(INTERVAL):
        fixed = adapt(fixed, (fixed.value, jnp.asarray(losses)))
    assert float(fixed.value) == 0.5
    assert adapt(rate, None) is rate


@pytest.mark.slow
def test_both_rates_of_adam_are_chosen_at_the_first_step() -> None:
    (_, state), _, _ = run(dataclasses.replace(QUICK, **AUTO), 2)
    for rate in state.rates:
        assert LOWEST * BACK <= float(rate.value) < 100
        assert rate.solves == 2


@pytest.mark.parametrize("solver", ["dense", "cg", "adam"])
def test_a_step_traces_a_network_once_for_each_number_of_images(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    traced, features = [], Classifier.features

    def counted(self: Classifier, images: jax.Array, train: bool = False) -> jax.Array:
        if not self.is_initializing():
            traced.append((len(images), train))
        return features(self, images, train)

    monkeypatch.setattr(Classifier, "features", counted)
    given = setup()
    method = implicit.make(dataclasses.replace(QUICK, **AUTO | {"solver": solver}), given)
    state = jax.eval_shape(method.init, jax.random.key(0), noise())
    jax.eval_shape(method.step, jax.random.key(0), state, method.feed(0))
    assert len(traced) == len(set(traced)) >= 3
