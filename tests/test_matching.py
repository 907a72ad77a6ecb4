"""Matching of features and of gradients, in float64 against plain loops and finite differences, and as a whole."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_implicit import judge, noise_teaches
from tiny import Tiny, blobs, noise, setup, slow, tiny

from rcig import dsa, train
from rcig.data.splits import Split, whole
from rcig.errors import ParamsError
from rcig.methods import matching
from rcig.methods.base import Distilled, support
from rcig.methods.feeds import Examples, class_batches
from rcig.methods.matching import MEMBERS, Settings, match

KEY = jax.random.key(7)


def member(name: str, **more: Any) -> Settings:
    found = MEMBERS[name]
    return Settings(**{**found.preset, **found.fixed, **more})


def problem() -> tuple[Tiny, Distilled, jax.Array]:
    """A network, a set of two images for each of three classes in mixed order, and four real images of each class."""
    found = tiny(images=6)
    order = jnp.array([4, 0, 3, 5, 1, 2])
    labels = jax.nn.one_hot(order % 3, 3, dtype=jnp.float64) - 1 / 3
    real = jax.random.normal(jax.random.key(1), (12, 8, 8, 1), jnp.float64)
    return found, found.distilled._replace(labels=labels), real


def naive_features(found: Tiny, transformed: Any, distilled: Distilled, real: jax.Array, mirror: bool) -> jax.Array:
    x, y = support(distilled, mirror)
    loss = jnp.zeros(())
    for label in range(3):
        own = x[np.flatnonzero(np.asarray(y).argmax(1) == label)]
        features = [
            found.net.features(found.network["params"]["body"], transformed(label, images)).mean(0)
            for images in (real[4 * label : 4 * label + 4], own)
        ]
        loss += ((features[0] - features[1]) ** 2).sum()
    return loss


def naive_gradients(found: Tiny, transformed: Any, distilled: Distilled, real: jax.Array, mirror: bool) -> jax.Array:
    x, y = support(distilled, mirror)
    loss = jnp.zeros(())
    for label in range(3):

        def slope(images: jax.Array, label: int = label) -> Any:
            def entropy(params: Any) -> jax.Array:
                logits = found.net.apply({"params": params}, transformed(label, images))
                return -jax.nn.log_softmax(logits)[:, label].mean()

            return jax.grad(entropy)(found.network["params"])

        both = slope(real[4 * label : 4 * label + 4]), slope(x[np.flatnonzero(np.asarray(y).argmax(1) == label)])
        for a, b in zip(*map(jax.tree.leaves, both), strict=True):
            a, b = (leaf.T if leaf.ndim == 2 else leaf for leaf in (a, b))
            for u, v in zip(a, b, strict=True) if a.ndim > 1 else ():
                u, v = u.ravel(), v.ravel()
                loss += 1 - u @ v / (jnp.linalg.norm(u) * jnp.linalg.norm(v) + 1e-6)
    return loss


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mirror", [False, slow(True)])
@pytest.mark.parametrize(("name", "naive"), [("dm", naive_features), ("dc", naive_gradients), ("dsa", naive_gradients)])
def test_the_gradient_is_that_of_a_loop_over_classes_and_of_differences(name: str, naive: Any, mirror: bool) -> None:
    found, distilled, real = problem()
    settings = member(name)
    keys = jax.random.split(KEY, 3)
    transformed = lambda label, images: dsa.siamese(keys[label], images) if settings.siamese else images  # noqa: E731
    run = jax.jit(lambda one: match(found.net, settings, mirror, found.network, KEY, one, real))
    loss, grad = run(distilled)

    def plain(images: jax.Array) -> jax.Array:
        return naive(found, transformed, distilled._replace(images=images), real, mirror)

    value, expected = jax.value_and_grad(plain)(distilled.images)
    np.testing.assert_allclose(loss, value, rtol=1e-9)
    np.testing.assert_allclose(grad.images, expected, rtol=1e-7, atol=1e-11)
    assert float(jnp.abs(grad.labels).max()) == 0
    direction = jax.random.normal(jax.random.key(2), distilled.images.shape, jnp.float64)
    above, below = (run(distilled._replace(images=distilled.images + h * direction))[0] for h in (1e-6, -1e-6))
    np.testing.assert_allclose(jnp.vdot(grad.images, direction), (above - below) / 2e-6, rtol=1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["dm", "dsa"])
def test_a_set_of_the_real_images_is_no_distance_away(name: str) -> None:
    found, other, real = problem()
    distilled = Distilled(real, jnp.repeat(jnp.eye(3), 4, axis=0) - 1 / 3, jnp.zeros(()))
    near, far = (match(found.net, member(name), False, found.network, KEY, one, real)[0] for one in (distilled, other))
    assert float(near) < 1e-2 * float(far)


def test_one_transform_is_that_of_all_images() -> None:
    images = jax.random.normal(jax.random.key(3), (5, 16, 16, 3))
    for i in range(12):
        key = jax.random.key(i)
        together = dsa.siamese(key, images)
        np.testing.assert_allclose(together[2], dsa.siamese(key, images[2:3])[0], atol=1e-6)


def test_real_batches_have_as_many_of_every_class_in_order() -> None:
    labels = np.array([2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 2, 0], np.int32)
    raw = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    read = class_batches(setup(seen=whole(Split(raw, labels)), batch_size=10))
    batches = [read(step) for step in range(20)]
    for batch in batches:
        assert batch.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        numbers = np.asarray(batch.images)[:, 0, 0, 0].astype(int)
        assert labels[numbers].tolist() == batch.labels.tolist()
        assert len(set(numbers)) == 9
    assert len({np.asarray(batch.images).tobytes() for batch in batches}) > 10
    few = whole(Split(raw[:-1], labels[:-1]))  # of class 0 there are three
    with pytest.warns(UserWarning, match="a class has 3 images where a batch wants 4 of each: it uses all of them"):
        batch = class_batches(setup(seen=few, batch_size=12))(0)
    assert batch.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    numbers = np.asarray(batch.images)[:, 0, 0, 0].astype(int)
    assert set(numbers) == set(range(11))
    assert labels[numbers].tolist() == batch.labels.tolist()
    with pytest.raises(ParamsError, match="a batch of 2 images has none of some of the 3 classes; raise batch_size"):
        class_batches(setup(batch_size=2))


def test_loops_are_the_published_ones_by_images_per_class() -> None:
    def loops(images: int, name: str = "dc") -> tuple[Any, Any]:
        found = matching.chosen(member(name), setup(images=3 * images))
        return found.network_rounds, found.network_epochs

    assert [loops(images) for images in (1, 5, 10, 15, 50, 100)] == [
        (1, 1),
        (1, 1),
        (10, 50),
        (10, 50),
        (50, 10),
        (50, 10),
    ]
    assert loops(50, "dm") == (1, 0)
    given = dataclasses.replace(member("dc"), network_rounds=3)
    assert matching.chosen(given, setup(images=30)).network_rounds == 3


def test_a_network_is_trained_between_steps_and_replaced_after_its_rounds() -> None:
    settings = member("dc", architecture="conv", network_rounds=2, network_epochs=3, network_rate=0.1)
    method = matching.make(settings, setup(batch_size=6))
    step = jax.jit(method.step)
    state = method.init(jax.random.key(0), noise())
    starts = []
    for i in range(4):
        state, _ = step(jax.random.key(i), state, method.feed(i))
        starts.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.network.variables)]))
    fresh = [
        train.start(setup().network("conv"), matching.optax.sgd(0.1), jax.random.split(jax.random.key(i), 3)[0])
        for i in (0, 2)
    ]
    before = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(one.variables)]) for one in fresh]
    # After the first of its two steps a network is trained, which leaves it near; after its last it is not.
    for i, start in ((0, before[0]), (2, before[1])):
        assert 0 < np.linalg.norm(starts[i] - start) < 0.5 * np.linalg.norm(before[0] - before[1])
        np.testing.assert_array_equal(starts[i], starts[i + 1])


@pytest.mark.parametrize(("name", "transformed"), [("dc", False), ("dsa", True)])
def test_networks_are_trained_on_transformed_images_where_both_sides_are(
    name: str, transformed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transform that leaves nothing of images gives the first kernels no gradient."""
    monkeypatch.setattr(dsa, "augment", lambda key, images: 0 * images)
    settings = member(name, architecture="conv", network_rounds=2, network_epochs=1, network_rate=0.1)
    method = matching.make(settings, setup(batch_size=6))
    key = jax.random.key(0)
    state, _ = jax.jit(method.step)(key, method.init(key, noise()), method.feed(0))
    fresh = train.start(setup().network("conv"), matching.optax.sgd(0.1), jax.random.split(key, 3)[0])
    kernels = [jax.tree.leaves(found.variables["params"]["body"]) for found in (state.network, fresh)]
    first = [next(leaf for leaf in leaves if leaf.ndim == 4) for leaves in kernels]
    assert np.allclose(*first) == transformed


@pytest.mark.parametrize("name", ["dm", slow("dc"), slow("dsa")])
def test_matching_teaches_networks_what_noise_does_not(name: str) -> None:
    x, _, labels = blobs(60)
    order = np.argsort(labels, kind="stable")
    settings = member(name, architecture="conv", siamese=False, learning_rate=1.0)
    method = matching.make(settings, setup(width=16))
    state, step = method.init(jax.random.key(0), noise()), jax.jit(method.step)
    for i in range(60):
        rng = np.random.default_rng(i)
        some = np.concatenate([rng.choice(order[20 * c : 20 * c + 20], 8, replace=False) for c in range(3)])
        state, _ = step(jax.random.key(i), state, Examples(x[some], labels[some].astype(np.int32)))
    assert noise_teaches() < 0.5
    assert judge(method.result(state)) > 0.8


def test_labels_stay_as_they_are() -> None:
    method = matching.make(member("dm", architecture="conv"), setup(batch_size=6))
    state = method.init(jax.random.key(0), noise())
    for i in range(2):
        state, _ = jax.jit(method.step)(jax.random.key(i), state, method.feed(i))
    np.testing.assert_array_equal(method.result(state).labels, noise().labels)
