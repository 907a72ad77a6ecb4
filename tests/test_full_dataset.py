"""Networks on the whole training set: one step against plain Adam, and networks that see the same batches."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcig import strict
from rcig.errors import ParamsError
from rcig.judging.full_dataset import FullDataset, full_dataset
from rcig.methods import feeds
from rcig.methods.base import Method
from rcig.methods.feeds import Examples
from rcig.nets import build

NET = build("conv", (8, 8, 1), 3, width=2, depth=2)
SETTINGS = FullDataset(
    steps=20, width=2, networks=3, batch_size=40, learning_rate=1e-2, augment=False, validate_every=10
)


def make(**changes: Any) -> Method[Any, Any, Any]:
    return full_dataset(NET, dataclasses.replace(SETTINGS, **changes), 3, feeds.nothing)


def examples(n: int = 40) -> Examples:
    labels = np.arange(n) % 3
    images = 0.1 * jax.random.normal(jax.random.key(0), (n, 8, 8, 1)).at[jnp.arange(n), 2 * labels + 1, 3].add(30.0)
    return Examples(images, labels)


@pytest.mark.slow
def test_steps_are_adam_on_each_network_alone() -> None:
    # 40 images go through in passes of 20 on a CPU; the plain version takes all at once.
    method = make()
    state = method.init(jax.random.key(1), None)
    plain = [jax.tree.map(lambda leaf, i=i: leaf[i], state.variables["params"]) for i in range(3)]
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 2, 20, 1e-4))
    moments = [optimizer.init(params) for params in plain]
    images, labels = examples().batch(3)

    @jax.jit
    @jax.value_and_grad
    def slope(params: dict) -> jax.Array:
        return 0.5 * ((NET.apply({"params": params}, images) - (labels - 1 / 3)) ** 2).mean()

    step = jax.jit(method.step)
    for _ in range(3):
        slopes = [slope(params) for params in plain]
        expected = np.mean([loss for loss, _ in slopes])
        state, info = step(jax.random.key(2), state, examples())
        assert float(info["loss"]) == pytest.approx(float(expected), rel=1e-5)
        for i in range(3):
            change, moments[i] = optimizer.update(slopes[i][1], moments[i])
            plain[i] = optax.apply_updates(plain[i], change)
    for i, params in enumerate(plain):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-5), state.variables["params"], params
        )


def test_networks_learn_and_start_apart() -> None:
    method = make(steps=150)
    state = method.init(jax.random.key(1), None)
    step, losses = jax.jit(method.step), []
    for i in range(150):
        state, info = step(jax.random.key(i), state, examples())
        losses.append(float(info["loss"]))
    assert losses[-1] < 0.3 * losses[0]
    kernels = np.asarray(method.result(state)["params"]["head"]["kernel"])
    assert not np.allclose(kernels[0], kernels[1])


def test_augmentation_changes_what_is_learned() -> None:
    ends = []
    for augment in (False, True):
        method = make(augment=augment)
        state, step = method.init(jax.random.key(1), None), jax.jit(method.step)
        for i in range(2):
            state, _ = step(jax.random.key(i), state, examples())
        ends.append(np.asarray(jax.tree.leaves(state.variables)[0]))
    assert not np.allclose(*ends)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ParamsError, match=r"full_dataset\.x\.networks: expected networks to be positive, got 0"):
        strict.parse(FullDataset, {"steps": 20, "networks": 0}, "full_dataset.x")
