"""RCIG and FRePo as a whole: steps, pool, average."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_ridge import SETTINGS
from test_train import blobs

from rcig import train
from rcig.distill import Batch, Distilled, implicit, pool
from rcig.nets import build

NET = build("conv", (8, 8, 1), 3, width=4, depth=2, temperature=60.0)
QUICK = dataclasses.replace(SETTINGS, learning_rate=0.02, temperature_learning_rate=0.02, softplus_temperature=60.0)
METHODS = {
    "rcig": QUICK,
    "frepo": dataclasses.replace(QUICK, body_weight=0.0, outer_loss="squared"),
}


def batch(n: int = 32) -> Batch:
    x, y, _ = blobs(n)
    return Batch(x, y + 1 / 3)


def noise() -> Distilled:
    return Distilled(0.3 * jax.random.normal(jax.random.key(9), (3, 8, 8, 1)), jnp.eye(3) - 1 / 3, jnp.zeros(()))


def run(settings: Any, steps: int, seed: int = 0) -> tuple[Any, list[float], list[Distilled]]:
    method = implicit.implicit_gradient(NET, settings, l2_rate=1e-3, mirror=False, steps=steps)
    state, step = method.init(jax.random.key(seed), noise()), jax.jit(method.step)
    losses, sets = [], []
    for i in range(steps):
        state, info = step(jax.random.key(1000 * seed + i), state, batch())
        losses.append(float(info["loss"]))
        sets.append(state.distilled)
    return (method, state), losses, sets


@pytest.mark.parametrize("name", METHODS)
def test_distilling_teaches_networks_what_noise_does_not(name: str) -> None:
    (method, state), losses, _ = run(METHODS[name], 80)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    x, _, labels = blobs(90)
    measure = train.validator(build("conv", (8, 8, 1), 3, width=4, depth=2), np.asarray(x), labels)
    distilled = method.result(state)
    assert measure(distilled.images, distilled.labels) > 0.8
    assert measure(noise().images, noise().labels) < 0.7


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
    assert not np.array_equal(first.distilled.images, other.distilled.images)


@pytest.mark.parametrize("name", METHODS)
def test_the_step_is_compiled_once(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with jax.log_compiles(), caplog.at_level("WARNING"):
        run(METHODS[name], 3)
    compiled = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Compiling")]
    assert sum("jit(step)" in message for message in compiled) == 1


def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = NET.init(jax.random.key(0))["params"]
    origin = implicit.Weights(variables["body"], variables["head"]["kernel"])
    grads = []
    for chunk in (32, 8, 7):
        monkeypatch.setattr(implicit, "CPU_CHUNK", chunk)
        step = jax.jit(lambda *arguments: implicit.meta_gradient(NET, QUICK, 1e-3, False, *arguments))
        grads.append(step(origin, noise(), batch(28))[0])
    for grad in grads[1:]:
        for a, b in zip(grads[0], grad, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_a_visit_trains_one_network_and_replaces_it_when_it_is_old() -> None:
    optimizer = optax.adam(1e-2)
    x, y, _ = blobs(6)
    networks = pool.create(NET, optimizer, jax.random.key(0), 3)
    visit = jax.jit(lambda p, steps: pool.visit(NET, optimizer, 5, jax.random.key(1), p, 1, steps, x, y))
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
    fresh = train.start(NET, optimizer, jax.random.key(1))
    for after, one in zip(*map(jax.tree.leaves, (replaced.networks, fresh)), strict=True):
        np.testing.assert_allclose(after[1], one, atol=1e-6)
