"""Runs on a few bright spots: sets that grow block by block, what they start from, and batches drawn by hardness."""

import dataclasses
import json
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_unrolled import SETTINGS as UNROLLED
from tiny import resolved, slow

from rcig import store, whiten
from rcig.data import splits
from rcig.data.real import Real
from rcig.data.settings import Dataset
from rcig.errors import ParamsError, StoreError
from rcig.methods import implicit
from rcig.methods.base import Distilled
from rcig.methods.feeds import batch_index
from rcig.run import distil, estimate, loop
from rcig.run.settings import Boost, Run
from rcig.run.task import Source, initial, load_weights, make_task

CLASSES = 3
SPOTS = Dataset(8, 1, CLASSES, 2, "standard", mirror=False, l2_rate=5e-4, held_out=0.25)
SHORT = {"images_per_class": 2, "loop": {"steps": 6, "batch_size": 16, "validate_every": 3}}
SMALL = resolved(SPOTS, method="frepo", settings={"pool_size": 2}, **SHORT).run
"""of the method that takes least to compile"""
RCIG = resolved(SPOTS, settings={"pool_size": 2}, **SHORT).run


@cache
def source() -> Source:
    labels = (np.arange(60) % CLASSES).astype(np.int32)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (60, 8, 8, 1))
    images[np.arange(60), 2 * labels + 1, 3] += 150
    split = splits.Split(images.astype(np.uint8), labels)
    parts = splits.View(split, np.arange(45)), splits.View(split, np.arange(45, 60))
    real = Real(*parts, whiten.fit(split.images, "standard"), ["a", "b", "c"])
    return Source(SPOTS, real, lambda distilled: float(distilled.images.mean()))


def grow(run: Run, folder: Path) -> Any:
    return distil.grow(source(), run, 0, folder, "test")


@cache
def grown(run: Run) -> Any:
    """The set and the curve of a run, made once for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        return grow(run, Path(folder))


def boosted(block: int, mobility: float, **changes: Any) -> Run:
    return dataclasses.replace(SMALL, boost=Boost(block, mobility), **changes)


ALONE = dataclasses.replace(SMALL, images_per_class=1)


@pytest.mark.slow
def test_one_block_is_the_plain_method() -> None:
    plain, curve = grown(SMALL)
    one, other = grown(boosted(2, 0.0))
    for a, b in zip(plain, one, strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(curve) == list(other)


@pytest.mark.slow
def test_blocks_before_stay_and_are_the_set_that_was_distilled_at_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        implicit, "DENSE_UNKNOWNS", {"cpu": 9, "accelerator": 9}
    )  # of three images; the whole set is for another solver
    both, curve = grown(dataclasses.replace(RCIG, boost=Boost(1)))
    alone, _ = grown(dataclasses.replace(RCIG, images_per_class=1))
    assert both.images.shape == (6, 8, 8, 1)
    np.testing.assert_allclose(both.images[:3], alone.images, atol=1e-5)
    np.testing.assert_allclose(both.labels[:3], alone.labels, atol=1e-5)
    first, _ = grown(dataclasses.replace(RCIG, boost=Boost(1), images_per_class=1))
    np.testing.assert_array_equal(both.images[:3], first.images)
    np.testing.assert_array_equal(both.labels[:3], first.labels)
    assert np.asarray(both.labels).argmax(1).tolist() == [0, 1, 2, 0, 1, 2]
    assert np.abs(both.images[3:] - both.images[:3]).max() > 0.1, "new blocks start from other images"
    assert curve["step"].tolist() == [3, 6, 9, 12]
    assert curve["block"].tolist() == [1, 1, 2, 2]
    assert curve["seconds"].is_monotonic_increasing


def test_backward_images_are_held_against_the_whole_set_and_not_against_its_first_block() -> None:
    given = {"images_per_class": 2, "boost": {"block": 1}, "loop": {"batch_size": 16}}
    run = resolved(SPOTS, settings={"backward_images": 4}, **given).run
    task = make_task(source(), run, 0)
    state = jax.eval_shape(task.method.init, jax.random.key(0), task.start)
    after, _ = jax.eval_shape(task.method.step, jax.random.key(0), state, task.method.feed(0))
    assert after.position.coordinates.images.shape[0] == 3
    with pytest.raises(ParamsError, match="backward_images 7 is larger than the set of 6 images"):
        resolved(SPOTS, settings={"backward_images": 7}, **given)


@pytest.mark.parametrize("method", ["rcig", slow("rat_bptt")])
def test_any_method_learns_mixtures_of_a_basis_also_after_a_stop(method: str, tmp_path: Path) -> None:
    changes = {} if method == "rcig" else {"method": method, "module": "unrolled", "settings": UNROLLED}
    task = make_task(source(), dataclasses.replace(RCIG, basis=4, **changes), 0)
    step = loop.compiled_step(task)

    def run(task: loop.Task, name: str) -> Distilled:
        return loop.run(task, source().heldout_accuracy, tmp_path / name, "test", step)[0]

    expected = run(task, "whole.npz")
    run(task._replace(steps=3), "cut.npz")
    found = run(task, "cut.npz")
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
    singular = np.linalg.svd(np.asarray(found.images).reshape(6, -1), compute_uv=False)
    assert singular[3] > 1e-2
    assert singular[4] < 1e-4 * singular[0], "no more than four images are mixed"
    assert np.abs(found.images - task.start.images).max() > 1e-2


@pytest.mark.slow
def test_blocks_before_may_move_at_a_reduced_rate() -> None:
    alone, _ = grown(ALONE)
    sets = [grown(boosted(1, mobility))[0] for mobility in (0.0, 0.1, 1.0)]
    moved = [float(np.abs(one.images[:3] - alone.images).max()) for one in sets]
    assert moved[0] < 1e-5 < moved[1] < moved[2]


@pytest.mark.slow
def test_a_boosted_run_that_was_stopped_between_blocks_ends_with_the_same_arrays(tmp_path: Path) -> None:
    expected, curve = grown(boosted(1, 0.0))
    task = make_task(source(), boosted(1, 0.0), 0)
    loop.run(task, source().heldout_accuracy, tmp_path / "0-1.npz", "test")
    found, again = grow(boosted(1, 0.0), tmp_path)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert curve["step"].tolist() == again["step"].tolist()


def test_a_long_run_says_beforehand_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "LONG", 6)
    grow(ALONE, tmp_path)
    words = r"test: 6 steps of [\d.e-]+ s each, about 0 minutes and the validations; [\d.]+ GiB of memory"
    assert re.search(words, capsys.readouterr().err)
    grow(ALONE, tmp_path)
    assert "GiB" not in capsys.readouterr().err, "this one has only to be read"
    monkeypatch.setattr(estimate, "LONG", 7)
    grow(ALONE, tmp_path / "short")
    assert re.search(r"^test: [\d.]+ GiB of memory$", capsys.readouterr().err, re.MULTILINE), "its time is short"


def test_every_start_has_as_many_images_as_its_block() -> None:
    noise = dataclasses.replace(boosted(1, 0.0), initialisation="unit_noise")
    seen = source().real.seen
    first, second = (initial(source(), noise, seed, seen) for seed in (0, 1))
    norms = np.linalg.norm(np.asarray(first.images).reshape(3, -1), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    assert not np.array_equal(first.images, second.images)


def stored_set(path: Path, seeds: list[int], images: int) -> dict[str, np.ndarray]:
    """The arrays of a file of random sets that is written there."""
    rng = np.random.default_rng(2)
    shapes = {"images": (images, 8, 8, 1), "labels": (images, CLASSES), "log_temperature": ()}
    arrays = {name: rng.normal(size=(len(seeds), *shape)).astype(np.float32) for name, shape in shapes.items()}
    pixels = np.stack([whiten.to_pixels(source().real.whitening, one) for one in arrays["images"]])
    meta = {"dataset": "d", "images_per_class": images // CLASSES, "method": "rcig", "class_names": ["a", "b", "c"]}
    store.save(path, store.DISTILLED, **arrays, pixels=pixels, meta=json.dumps(meta | {"seeds": seeds}))
    return arrays


def test_a_warm_start_is_from_the_arrays_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    arrays = stored_set(path, [4, 5], 6)
    warm = dataclasses.replace(SMALL, initialisation="stored", needs=str(path))
    for seed, i in ((4, 0), (5, 1), (6, 0)):  # the first set of the file where it has none of the seed
        task = make_task(source(), warm, seed)
        state = loop.initial(task)
        for name in store.LEARNED:
            np.testing.assert_array_equal(getattr(task.start, name), arrays[name][i])
            np.testing.assert_array_equal(getattr(task.method.result(state), name), arrays[name][i])
    with pytest.raises(StoreError, match=r"expected images \(3, 8, 8, 1\) and 3 classes, got \(6, 8, 8, 1\) and 3;"):
        make_task(source(), dataclasses.replace(warm, images_per_class=1), 4)


def test_every_block_of_a_warm_start_is_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    arrays = stored_set(path, [0], 3)
    warm = boosted(1, 0.0, initialisation="stored", needs=str(path))
    first = make_task(source(), warm, 0)
    np.testing.assert_array_equal(first.start.images, arrays["images"][0])
    second = make_task(source(), warm, 0, Distilled(jnp.zeros((3, 8, 8, 1)), jnp.zeros((3, CLASSES)), jnp.ones(())))
    np.testing.assert_array_equal(second.start.images[3:], arrays["images"][0])
    assert not second.start.images[:3].any()


def scores(folder: Path, missed: np.ndarray, networks: int = 4) -> Path:
    path = folder / "scores.npz"
    store.save(path, store.SCORES, missed=missed.astype(np.int32), networks=np.int32(networks))
    return path


def test_weights_by_hardness_from_a_table_counted_by_hand(tmp_path: Path) -> None:
    split = splits.Split(np.zeros((5, 8, 8, 1), np.uint8), np.zeros(5, np.int32))
    seen = splits.View(split, np.array([0, 2, 4]))
    # Of four networks so many miss each image; strength 2: 1 + 2 · missed / 4.
    weights = load_weights(scores(tmp_path, np.array([0, 4, 1, 4, 4])), 2.0, seen)
    assert weights.tolist() == [1, 1.5, 3]


def test_scores_that_cannot_be_used(tmp_path: Path) -> None:
    split = splits.Split(np.zeros((5, 8, 8, 1), np.uint8), np.zeros(5, np.int32))
    seen = splits.whole(split)
    given = scores(tmp_path, np.zeros(4))
    with pytest.raises(ParamsError, match="scores of 4 images, the training split has 5; use those of this dataset"):
        load_weights(given, 1.0, seen)
    with pytest.raises(StoreError, match="none: no such file"):
        load_weights(tmp_path / "none", 1.0, seen)


def test_batches_are_drawn_in_proportion_to_the_weights() -> None:
    weights = np.array([1.0, 1.0, 2.0, 4.0])
    drawn = [batch_index(4, 1, 0, step, weights).item() for step in range(4000)]
    np.testing.assert_allclose(np.bincount(drawn) / 4000, weights / 8, atol=0.03)
    batches = [batch_index(4, 3, 0, step, weights) for step in range(20)]
    assert all(len(set(batch.tolist())) == 3 for batch in batches)
    for step, batch in enumerate(batches):
        np.testing.assert_array_equal(batch, batch_index(4, 3, 0, step, weights))


def test_a_run_draws_by_its_weights(tmp_path: Path) -> None:
    missed = np.zeros(60)
    missed[7] = 4
    given = {"images_per_class": 2, "needs": str(scores(tmp_path, missed)), "hardness": {"strength": 1e6}}
    task = make_task(source(), resolved(SPOTS, **given, loop={"batch_size": 1}).run, 0)
    images, labels = task.method.feed(3)
    real = source().real
    np.testing.assert_allclose(images[0], whiten.apply(real.whitening, real.seen.split.images[7:8])[0], atol=1e-5)
    assert labels.tolist() == [7 % CLASSES]
