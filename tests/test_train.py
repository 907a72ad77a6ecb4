from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcig import train
from rcig.data.splits import Split, View, whole
from rcig.judging.protocols import PROTOCOLS
from rcig.methods import pool as pools
from rcig.nets import build


def blobs(n: int, classes: int = 3) -> tuple[jax.Array, jax.Array, np.ndarray]:
    """Images whose class is the place of a bright spot."""
    labels = np.arange(n) % classes
    images = 0.1 * jax.random.normal(jax.random.key(n), (n, 8, 8, 1))
    images = images.at[jnp.arange(n), 2 * labels + 1, 3].add(3.0)
    return images, jax.nn.one_hot(labels, classes) - 1 / classes, labels


def view(images: jax.Array) -> View:
    return whole(Split(np.asarray(images), np.zeros(len(images), np.int32)))


NET = build("conv", (8, 8, 1), 3, width=4, depth=2)
SCHEDULE = train.Schedule(120, train.adam(warmup=5 / 120), 1e-2, batch_size=32)


def test_networks_learn_a_separable_problem() -> None:
    x, y, _ = blobs(60)
    variables = train.trainer(NET, SCHEDULE, 3)(jax.random.key(0), x, y)
    test_x, _, test_labels = blobs(90)
    accuracies = train.accuracy(train.tester(NET, jnp.asarray)(variables, view(test_x)), test_labels)
    assert accuracies.shape == (3,)
    assert accuracies.min() > 0.9


def test_networks_trained_together_are_those_trained_alone() -> None:
    x, y, _ = blobs(12)
    together = train.trainer(NET, SCHEDULE, 2)(jax.random.key(0), x, y)
    for i, key in enumerate(jax.random.split(jax.random.fold_in(jax.random.key(0), train.STREAM), 2)):
        start_key, _ = jax.random.split(key)
        optimizer = SCHEDULE.optimizer(SCHEDULE.steps, SCHEDULE.learning_rate)
        step = jax.jit(partial(train.update, NET, optimizer, x=x, y=y))
        alone = train.start(NET, optimizer, start_key)
        for _ in range(SCHEDULE.steps):
            alone = step(alone)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone.variables), strict=True):
            np.testing.assert_allclose(a[i], b, atol=2e-3)


def test_no_network_starts_as_one_that_a_set_of_the_same_seed_was_distilled_with() -> None:
    x, y, _ = blobs(12)
    ((_, starts),) = train.course(NET, SCHEDULE, 5)(jax.random.key(0), x, y, at=(0,))
    init_key, _ = jax.random.split(jax.random.key(0))  # as loop.initial has it
    pool = pools.create(NET, optax.adam(1e-3), init_key, 30)
    judges, distillers = (
        {kernel.tobytes() for kernel in np.asarray(networks["params"]["head"]["kernel"])}
        for networks in (starts, pool.networks.variables)
    )
    assert (len(judges), len(distillers)) == (5, 30)
    assert judges.isdisjoint(distillers)


def test_looking_on_the_way_changes_nothing() -> None:
    x, y, _ = blobs(40)  # more than a batch, so that draws matter
    run = train.course(NET, SCHEDULE, 2)
    looked = dict(run(jax.random.key(0), x, y, at=(1, 50, 120)))
    assert list(looked) == [1, 50, 120]
    ((_, end),) = run(jax.random.key(0), x, y)
    for a, b in zip(jax.tree.leaves(looked[120]), jax.tree.leaves(end), strict=True):
        np.testing.assert_array_equal(a, b)
    ((_, early),) = run(jax.random.key(0), x, y, at=(50,))
    for a, b in zip(jax.tree.leaves(looked[50]), jax.tree.leaves(early), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_learning_rate_that_is_given_is_used() -> None:
    x, y, _ = blobs(12)
    other = SCHEDULE._replace(learning_rate=3e-3)
    given = train.trainer(NET, SCHEDULE, 2)(jax.random.key(0), x, y, rate=3e-3)
    for a, b in zip(*map(jax.tree.leaves, (given, train.trainer(NET, other, 2)(jax.random.key(0), x, y))), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_step_is_adam_on_the_mean_squared_error() -> None:
    x, y, _ = blobs(6)
    optimizer = optax.sgd(0.1)
    before = jax.jit(partial(train.start, NET, optimizer))(jax.random.key(0))
    after = jax.jit(partial(train.update, NET, optimizer))(before, x, y)

    def loss(params: dict) -> jax.Array:
        return 0.5 * ((NET.apply({"params": params}, x) - y) ** 2).mean()

    grad = jax.jit(jax.grad(loss))(before.variables["params"])
    for old, g, new in zip(
        *map(jax.tree.leaves, (before.variables["params"], grad, after.variables["params"])), strict=True
    ):
        np.testing.assert_allclose(new, old - 0.1 * g, atol=1e-6)


@pytest.mark.parametrize("n", [1, 511, 512, 513])
def test_testing_in_batches_is_testing_at_once(n: int) -> None:
    x = np.asarray(jax.random.normal(jax.random.key(0), (n, 8, 8, 1)))
    variables = jax.vmap(NET.init)(jax.random.split(jax.random.key(1), 2))
    outputs = train.tester(NET, lambda raw: raw / 2)(variables, view(2 * x))
    for i in range(2):
        one = NET.apply(jax.tree.map(lambda leaf, i=i: leaf[i], variables), jnp.asarray(x))
        np.testing.assert_allclose(outputs[i], one, atol=1e-5)


def test_nothing_is_compiled_on_the_second_call(caplog: pytest.LogCaptureFixture) -> None:
    x, y, _ = blobs(12)
    fit, outputs = train.trainer(NET, SCHEDULE, 2), train.tester(NET, jnp.asarray)
    other, keys = x + 1, jax.random.split(jax.random.key(0))
    outputs(fit(keys[0], x, y), view(x))
    with jax.log_compiles(), caplog.at_level("WARNING"):
        outputs(fit(keys[1], other, y), view(other))
    assert "Compiling" not in caplog.text


def test_the_papers_protocol() -> None:
    # Loo et al. 2023, appendix C.
    assert [PROTOCOLS["loo2023"].schedule(images).steps for images in (10, 20, 100)] == [1000, 2000, 2000]
    assert [PROTOCOLS["reference"].schedule(images).steps for images in (10, 100)] == [2500, 5000]
    assert PROTOCOLS["loo2023"].schedule(10).augment is train.unchanged
    assert PROTOCOLS["loo2023_augmented"].schedule(10).augment is not train.unchanged


def test_the_narrow_protocols_train_for_epochs() -> None:
    assert [PROTOCOLS["narrow_sgd"].schedule(images).steps for images in (10, 256, 257)] == [1000, 1000, 2000]
    assert PROTOCOLS["narrow_adam"].schedule(500).steps == 2000


def moves(schedule: train.Schedule) -> np.ndarray:
    """How far a constant gradient moves one weight at each step."""
    weights = {"w": jnp.zeros(1)}
    optimizer = schedule.optimizer(schedule.steps, schedule.learning_rate)
    state, found = optimizer.init(weights), []
    for _ in range(schedule.steps):
        change, state = optimizer.update({"w": jnp.ones(1)}, state, weights)
        found.append(float(change["w"][0]))
    return -np.array(found)


def test_a_shortened_schedule_goes_as_far_in_the_same_shape() -> None:
    whole = PROTOCOLS["loo2023"].schedule(10)
    short = train.shortened(whole, 250)
    long_way, short_way = moves(whole), moves(short)
    assert len(short_way) == 250
    assert short_way.sum() == pytest.approx(long_way.sum(), rel=0.01)
    np.testing.assert_allclose(short_way, 4 * long_way[::4], atol=0.01 * short_way.max())
    assert train.shortened(whole, 1000) is whole


def test_inner_adam_keeps_its_rate() -> None:
    found = moves(PROTOCOLS["inner_adam"].schedule(10))
    assert len(found) == 300
    np.testing.assert_allclose(found, 1e-3, rtol=1e-3)  # a constant gradient moves Adam by its rate


def test_sgd_is_that_of_the_literature_step_by_step() -> None:
    weights = {"w": jnp.array([1.0, -2.0])}
    optimizer = train.sgd()(4, 0.1)
    state, plain, velocity = optimizer.init(weights), np.array([1.0, -2.0]), np.zeros(2)
    for step in range(4):
        gradient = np.array([0.3, 0.1]) * (step + 1)
        change, state = optimizer.update({"w": jnp.asarray(gradient)}, state, weights)
        weights = optax.apply_updates(weights, change)
        velocity = 0.9 * velocity + gradient + 5e-4 * plain
        plain = plain - (0.1 if step < 2 else 0.01) * velocity
        np.testing.assert_allclose(weights["w"], plain, rtol=1e-6)


def test_cross_entropy_takes_centred_labels() -> None:
    logits = jax.random.normal(jax.random.key(0), (5, 3))
    classes = jnp.array([0, 2, 1, 1, 0])
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()
    assert float(train.cross_entropy(logits, jax.nn.one_hot(classes, 3) - 1 / 3)) == pytest.approx(float(expected))
