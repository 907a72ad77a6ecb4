"""Matching of trajectories, in float64 against an unroll in plain Python and differences; experts and what fits."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from test_implicit import judge, noise_teaches
from test_plan import made as planned
from tiny import SAMPLE, Tiny, blobs, noise, resolved, setup, slow, tiny
from workspaces import sections

import rcig
from rcig import dsa, nets, store, train, whiten
from rcig.data import real
from rcig.data.settings import Dataset
from rcig.errors import DivergedError, ParamsError, StoreError
from rcig.judging.evaluate import learned_rate
from rcig.methods import experts, trajectories
from rcig.methods.base import Distilled, Setup, support
from rcig.methods.experts import Entry, Experts
from rcig.methods.feeds import batches
from rcig.methods.trajectories import Rated, Segment, Settings, match

SETTINGS = Settings(inner_steps=2, augment=False, expert_epochs=1, max_start_epoch=1, architecture="conv")
KEY = jax.random.key(4)
RATE = 0.05
SMALL = Dataset(8, 1, 3, 2, "standard", mirror=False, l2_rate=1e-3, held_out=0.25)
FEW = Experts("spots", width=4, architecture="conv", trajectories=2, epochs=2, batch_size=8, augment=False)


def spots(n: int = 48) -> real.Real:
    """Images of three classes, as bytes."""
    images, _, labels = blobs(n)
    pixels = np.asarray(60 * images + 30).clip(0, 255).astype(np.uint8)
    return real.from_arrays(pixels, labels.astype(np.int32), [f"class {i}" for i in range(3)], SMALL)


def trained(path: Path, **changes: Any) -> Path:
    """A file of experts."""
    entry = Entry(SMALL, dataclasses.replace(FEW, **changes))
    experts.make(entry, spots(), path.parent / "checkpoints", path)
    return path


def run_of(path: Path, **changes: Any) -> Setup:
    """A run on the same images."""
    loaded = spots()
    few = {"class_names": loaded.class_names, "seen": loaded.seen, "whitening": loaded.whitening, "needs": path}
    return setup(**few | changes)


def naive(
    found: Tiny, settings: Settings, mirror: bool, distilled: Distilled, rate: jax.Array, segment: Segment
) -> jax.Array:
    """The normalised distance after steps of gradient descent in a Python loop."""
    start, target = (ravel_pytree(found.network["params"])[1](jnp.asarray(end)) for end in segment)
    labels = jax.nn.softmax(distilled.labels) - 1 / 3 if settings.learn_labels else distilled.labels
    weights = start
    for key in jax.random.split(KEY, settings.inner_steps):
        draw_key, transform_key = jax.random.split(key)
        x, y = support(distilled._replace(labels=labels), mirror)
        if settings.inner_batch_size is not None:
            chosen = jax.random.choice(draw_key, len(x), (settings.inner_batch_size,), replace=False)
            x, y = x[chosen], y[chosen]
        if settings.augment:
            x = dsa.augment(transform_key, x)

        def entropy(weights: Any, x: jax.Array = x, y: jax.Array = y) -> jax.Array:
            return -((y + 1 / 3) * jax.nn.log_softmax(found.net.apply({"params": weights}, x))).sum(1).mean()

        weights = jax.tree.map(lambda leaf, slope: leaf - rate * slope, weights, jax.grad(entropy)(weights))

    def squares(a: Any, b: Any) -> Any:
        return sum(((u - v) ** 2).sum() for u, v in zip(*map(jax.tree.leaves, (a, b)), strict=True))

    return squares(weights, target) / squares(start, target)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("changes", "mirror"),
    [({}, False), slow({"learn_labels": True, "augment": True, "inner_batch_size": 5}, True)],
)
def test_the_gradient_is_that_of_an_unroll_in_python_and_of_differences(changes: dict[str, Any], mirror: bool) -> None:
    found, settings = tiny(), dataclasses.replace(SETTINGS, **changes)
    start, unravel = ravel_pytree(found.network["params"])
    segment = Segment(start, start + 0.1 * jax.random.normal(jax.random.key(1), start.shape, jnp.float64))
    log_rate = jnp.log(jnp.asarray(RATE, jnp.float64))
    run = jax.jit(lambda one, log_rate: match(found.net, unravel, settings, mirror, KEY, one, log_rate, segment))
    loss, (grad, slope) = run(found.distilled, log_rate)

    def plain(images: jax.Array, labels: jax.Array, rate: jax.Array) -> jax.Array:
        return naive(found, settings, mirror, Distilled(images, labels, jnp.zeros(())), rate, segment)

    arguments = found.distilled.images, found.distilled.labels, jnp.asarray(RATE, jnp.float64)
    value, expected = jax.jit(jax.value_and_grad(plain, argnums=(0, 1, 2)))(*arguments)
    np.testing.assert_allclose(loss, value, rtol=1e-9)
    np.testing.assert_allclose(grad.images, expected[0], rtol=1e-6, atol=1e-11)
    np.testing.assert_allclose(grad.labels, expected[1], rtol=1e-6, atol=1e-11)
    np.testing.assert_allclose(slope, RATE * expected[2], rtol=1e-8)  # of the logarithm
    above, below = (run(found.distilled, log_rate + h)[0] for h in (1e-5, -1e-5))
    np.testing.assert_allclose(slope, (above - below) / 2e-5, rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_a_student_that_stands_still_is_as_far_as_its_start_and_one_that_arrives_no_distance() -> None:
    found = tiny()
    start, unravel = ravel_pytree(found.network["params"])
    away = partial(match, found.net, unravel, dataclasses.replace(SETTINGS, inner_steps=1), False, KEY, found.distilled)
    log_rate = jnp.log(0.05)
    still, _ = away(jnp.asarray(-jnp.inf), Segment(start, start + 1))
    images, labels = found.distilled.images, found.distilled.labels
    loss = lambda w: train.cross_entropy(found.net.apply({"params": unravel(w)}, images), labels)  # noqa: E731
    arrived, _ = away(log_rate, Segment(start, start - 0.05 * jax.grad(loss)(start)))
    assert float(still) == pytest.approx(1)
    assert float(arrived) < 1e-6


def test_segments_are_of_random_experts_and_epochs_in_a_range_that_grows() -> None:
    weights = (100 * np.arange(3)[:, None, None] + np.arange(11)[:, None]).astype(np.float32) * np.ones(4, np.float32)
    settings = Settings(expert_epochs=2, min_start_epoch=2, early_max_start_epoch=4, max_start_epoch=8)
    read = trajectories.segments(settings, weights, 1000, seed=3)
    drawn = [read(step) for step in range(600)]
    assert all((one.target - one.start == 2).all() for one in drawn)
    expert, epoch = np.divmod([one.start[0] for one in drawn], 100)
    assert set(expert) == {0, 1, 2}
    assert set(epoch[:25]) == {2, 3, 4}
    assert set(epoch[25:50]) == {2, 3, 4, 5}
    assert set(epoch[100:]) == {2, 3, 4, 5, 6, 7, 8}
    again, other = read(5), trajectories.segments(settings, weights, 1000, seed=4)
    np.testing.assert_array_equal(again, drawn[5])
    assert any((other(step).start != drawn[step].start).any() for step in range(20))
    at_once = trajectories.segments(dataclasses.replace(settings, early_max_start_epoch=None), weights, 1000, seed=3)
    assert {at_once(step).start[0] % 100 for step in range(100)} == set(range(2, 9))


def test_experts_are_networks_after_every_epoch_of_gradient_descent(tmp_path: Path) -> None:
    loaded = spots()
    found = experts.load(trained(tmp_path / "few.npz"), loaded.class_names, loaded.whitening)
    assert found.weights.shape[:2] == (2, 3)
    assert found.experts == FEW
    net = nets.build("conv", SMALL.shape, 3, width=4, depth=2)
    size, unravel = experts.flat(net)
    assert found.weights.shape[2] == size
    seed = int(np.random.SeedSequence([0, 1]).generate_state(1)[0])
    feed = batches(loaded.seen, partial(whiten.apply, loaded.whitening), 8, seed)

    @jax.jit
    def step(weights: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        loss = lambda w: -jax.nn.log_softmax(net.apply({"params": unravel(w)}, images))[jnp.arange(8), labels].mean()  # noqa: E731
        return weights - 0.01 * jax.grad(loss)(weights)

    weights = jnp.asarray(found.weights[1, 0])
    each = len(loaded.seen.members) // 8
    for epoch in range(2):
        for number in range(epoch * each, (epoch + 1) * each):
            weights = step(weights, *feed(number))
        np.testing.assert_allclose(found.weights[1, epoch + 1], weights, atol=1e-5)
    assert not np.allclose(found.weights[0, 0], found.weights[1, 0])
    assert not (tmp_path / "checkpoints").exists()


def test_experts_that_were_killed_go_on_with_the_next_trajectory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = trained(tmp_path / "whole.npz").read_bytes()
    assert "whole.npz: 2 trajectories of 3 times" in capsys.readouterr().err
    save, saved = store.save_arrays, []

    def killed(path: Path, arrays: Any) -> None:
        if saved:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, arrays)

    monkeypatch.setattr(store, "save_arrays", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts.npz")
    monkeypatch.undo()
    first = saved[0].stat().st_mtime_ns
    monkeypatch.setattr(experts.shutil, "rmtree", lambda folder: None)
    assert trained(tmp_path / "parts.npz").read_bytes() == whole
    assert saved[0].stat().st_mtime_ns == first


def test_experts_that_cannot_be_kept_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DivergedError, match="weights are not finite after their training; lower learning_rate"):
        trained(tmp_path / "few.npz", learning_rate=1e20)
    monkeypatch.setattr(experts.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(StoreError, match=r"twice while it is made; 0\.0 MiB are free; lower trajectories"):
        trained(tmp_path / "few.npz")


def test_experts_of_another_dataset_width_or_network_are_refused(tmp_path: Path) -> None:
    path = trained(tmp_path / "few.npz", trajectories=1)

    def refused(error: type[Exception], message: str, settings: Settings = SETTINGS, **changes: Any) -> None:
        with pytest.raises(error, match=message):
            trajectories.make(settings, run_of(path, **changes))

    trajectories.make(SETTINGS, run_of(path))
    refused(
        StoreError, "experts of spots, with class_names .*; name those of this dataset", class_names=["a", "b", "c"]
    )
    other = spots()
    brighter = other.whitening._replace(mean=other.whitening.mean + 1)
    refused(StoreError, "experts of spots, with mean", whitening=brighter)
    refused(ParamsError, "experts of width 4 have .* weights, the run's networks .*; set width: 4", width=8)
    narrow = dataclasses.replace(SETTINGS, architecture="narrow_in")
    later = dataclasses.replace(SETTINGS, max_start_epoch=2)
    refused(ParamsError, "expected experts of architecture narrow_in, got conv; correct architecture", narrow)
    refused(ParamsError, "experts have 2 epochs, max_start_epoch 2 and expert_epochs 1 after it are beyond them", later)
    store.save(path, experts.SCHEMA, weights=np.zeros((1, 3, 5), np.float32), meta=json.dumps({}))
    refused(StoreError, "not a file of experts by its meta")
    store.save_arrays(path, {"a": np.zeros(3)})
    refused(StoreError, r"not a whole \.npz file .*no item named 'weights\.npy'")


def of_experts(dataset: str = "mnist_sample", **changes: Any) -> dict[str, Any]:
    """Settings of an experiment of mtt that needs the experts `few`."""
    size = {"size": "demo", "dataset": "mnist_sample", "images_per_class": 1, "method": "mtt", "loop": {"steps": 10}}
    needs = {"needs": "artifacts/experts/few.npz", "width": 16, "settings": {"max_start_epoch": 3}}
    one = {"dataset": dataset, "width": 16, "trajectories": 2, "epochs": 5}
    return sections(experiments={"x": size | needs | changes}, experts={"few": one})


def test_a_plan_says_which_experts_do_not_fit() -> None:
    stages = planned(of_experts())
    assert stages["experts"]["few"]["settings"]["experts"]["epochs"] == 5
    for changes, message in (
        ({"needs": "inputs/none"}, r"x\.needs: missing; name the file with the set, scores or experts"),
        ({"needs": "artifacts/experts/none.npz"}, r"x\.needs: no file artifacts/experts/none\.npz"),
        ({"needs": "artifacts/distilled/x.npz"}, r"expected a file as those of artifacts/experts/, got artifacts/dist"),
        ({"method": "rcig", "settings": {}, "initialisation": "stored"}, "expected a file as those of artifacts/dist"),
        ({"initialisation": "stored"}, "one file for both initialisation: stored and method: mtt"),
        ({"width": 32}, r"few\.npz: expected experts of width 32, got 16; correct width"),
        ({"settings": {"max_start_epoch": 4}}, "experts have 5 epochs, max_start_epoch 4 and expert_epochs 2"),
        ({"settings": {"max_start_epoch": 3, "architecture": "conv"}}, "experts of architecture conv, got narrow_in"),
        ({"settings": {"min_start_epoch": 4, "max_start_epoch": 3}}, "in this order, got 4, None and 3"),
    ):
        with pytest.raises(ParamsError, match=message):
            planned(of_experts(**changes))
    with pytest.raises(ParamsError, match=r"experts\.few\.dataset: unknown dataset 'mnist'"):
        planned(of_experts("mnist"))


@pytest.mark.slow
def test_matching_teaches_networks_what_noise_does_not_and_learns_its_rate(tmp_path: Path) -> None:
    path = trained(tmp_path / "taught.npz", epochs=6, learning_rate=0.1)
    settings = dataclasses.replace(SETTINGS, learning_rate=30.0, inner_steps=5, max_start_epoch=3, expert_epochs=2)
    method = trajectories.make(settings, run_of(path))
    traced = 0

    @jax.jit
    def step(key: jax.Array, state: Any, segment: Any) -> Any:
        nonlocal traced
        traced += 1
        return method.step(key, state, segment)

    state, losses = method.init(KEY, noise()), []
    for i in range(150):
        state, info = step(jax.random.key(i), state, method.feed(i))
        losses.append(float(info["loss"]))
    assert traced == 1
    result = method.result(state)
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    assert float(result.learned_rate) == pytest.approx(float(info["learned_rate"]))
    assert abs(float(result.learned_rate) / 0.01 - 1) > 0.1
    assert judge(Distilled(*result[:3])) > max(noise_teaches(), 0.8)
    np.testing.assert_array_equal(result.labels, noise().labels)


def test_learned_labels_begin_with_what_an_expert_says(tmp_path: Path) -> None:
    path = trained(tmp_path / "taught.npz", epochs=2, learning_rate=0.1)
    method = trajectories.make(dataclasses.replace(SETTINGS, learn_labels=True), run_of(path))
    images = blobs(3)[0]
    start = method.init(KEY, Distilled(images, noise().labels, jnp.zeros(())))
    found = method.result(start).labels
    net = nets.build("conv", SMALL.shape, 3, width=4, depth=2)
    last = experts.load(path, spots().class_names, spots().whitening).weights[0, -1]
    logits = net.apply({"params": experts.flat(net)[1](jnp.array(last))}, images)
    np.testing.assert_allclose(found, jax.nn.softmax(logits) - 1 / 3, atol=1e-6)
    moved, _ = jax.jit(method.step)(KEY, start, method.feed(0))
    after = method.result(moved).labels
    np.testing.assert_allclose(after.sum(1), 0, atol=1e-6)
    assert np.abs(after - found).max() > 1e-6
    with pytest.raises(ParamsError, match="learned labels of blocks would begin anew"):
        trajectories.make(dataclasses.replace(SETTINGS, learn_labels=True), run_of(path, mobility=(0.0, 1.0)))


def test_several_seeds_are_judged_by_the_geometric_mean_of_their_rates() -> None:
    sets = [Rated(*noise(), jnp.asarray(rate)) for rate in (0.01, 0.04)]
    assert trajectories.learned(SETTINGS, sets).learned_rate == pytest.approx(0.02)


@pytest.mark.slow
def test_the_file_of_a_set_says_its_learned_rate(tmp_path: Path) -> None:
    """So the protocol `mtt` finds it where it finds that of a set of others."""
    split = spots().seen.split
    path = trained(tmp_path / "few.npz")
    settings = {"architecture": "conv", "max_start_epoch": 1, "expert_epochs": 1, "inner_steps": 3, "augment": False}
    found = rcig.distil(
        *split,
        "mtt",
        steps=5,
        width=4,
        class_names=spots().class_names,
        dataset={"depth": 2, "held_out": 0.25},
        experiment={"needs": str(path)},
        **settings,
    )
    rate = found.meta["settings"]["learned_rate"]
    assert rate != 0.01
    subject: Any = type("Subject", (), {"meta": found.meta})
    assert learned_rate(subject, "mtt") == rate
    assert resolved(SAMPLE, method="mtt", needs="x.npz").run.settings.learned_rate == 0.01
