"""Runs of the distil stage on a few bright spots: sets that grow block by block, and batches drawn by hardness."""

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rcig.distill
from rcig.distill import loop
from rcig.params import BoostParams, HardnessParams, ParamsError
from stages.real import Real
from test_judging import DATASET, EXPERIMENT
from test_unrolled import SETTINGS as UNROLLED
from test_unrolled import slow

from rcig import params, store, whiten
from rcig.data import splits
from stages import distill, distilling

CLASSES = 3
SMALL = dataclasses.replace(
    EXPERIMENT,
    images_per_class=2,
    width=4,
    seeds=(0,),
    chunk="all",
    loop=dataclasses.replace(EXPERIMENT.loop, steps=6, batch_size=16, validate_every=3),
)


def source() -> distilling.Source:
    labels = (np.arange(60) % CLASSES).astype(np.int32)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (60, 8, 8, 1))
    images[np.arange(60), 2 * labels + 1, 3] += 150
    split = splits.Split(images.astype(np.uint8), labels)
    parts = splits.View(split, np.arange(45)), splits.View(split, np.arange(45, 60))
    real = Real(*parts, whiten.fit(split.images, "standard"), ["a", "b", "c"])
    return distilling.Source(DATASET, real, lambda distilled: float(distilled.images.mean()))


def grow(experiment: params.Experiment, folder: Path, seed: int = 0) -> Any:
    return distill.grow(source(), experiment, seed, folder, "test")


def boosted(block: int, mobility: float, **changes: Any) -> params.Experiment:
    return dataclasses.replace(SMALL, boost=BoostParams(block, mobility), **changes)


def test_one_block_is_the_plain_method(tmp_path: Path) -> None:
    plain, curve = grow(SMALL, tmp_path / "plain")
    one, other = grow(boosted(2, 0.0), tmp_path / "one")
    for a, b in zip(plain, one, strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(curve) == list(other)


def test_blocks_before_stay_and_are_the_set_that_was_distilled_at_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rcig.distill, "DENSE_UNKNOWNS", 9)  # of three images; the whole set is for another solver
    both, curve = grow(boosted(1, 0.0), tmp_path / "both")
    alone, _ = grow(dataclasses.replace(SMALL, images_per_class=1), tmp_path / "alone")
    assert both.images.shape == (6, 8, 8, 1)
    np.testing.assert_allclose(both.images[:3], alone.images, atol=1e-5)
    np.testing.assert_allclose(both.labels[:3], alone.labels, atol=1e-5)
    first, _ = grow(boosted(1, 0.0, images_per_class=1), tmp_path / "first")
    np.testing.assert_array_equal(both.images[:3], first.images)
    np.testing.assert_array_equal(both.labels[:3], first.labels)
    assert np.asarray(both.labels).argmax(1).tolist() == [0, 1, 2, 0, 1, 2]
    assert np.abs(both.images[3:] - both.images[:3]).max() > 0.1, "new blocks start from other images"
    assert curve["step"].tolist() == [3, 6, 9, 12]
    assert curve["block"].tolist() == [1, 1, 2, 2]
    assert curve["seconds"].is_monotonic_increasing


def test_a_subset_is_held_against_the_whole_set_and_not_against_its_first_block() -> None:
    settings = dataclasses.replace(SMALL.settings, subset=4)
    distilling.make_task(source(), boosted(1, 0.0, settings=settings), 0)
    with pytest.raises(ParamsError, match="subset 7 is larger than the set of 6 images"):
        distilling.make_task(source(), boosted(1, 0.0, settings=dataclasses.replace(settings, subset=7)), 0)


@pytest.mark.parametrize("method", ["rcig", slow("rat_bptt")])
def test_any_method_learns_mixtures_of_a_basis_also_after_a_stop(method: str, tmp_path: Path) -> None:
    settings = {"rcig": SMALL.settings, "rat_bptt": UNROLLED}[method]
    experiment = dataclasses.replace(SMALL, method=method, settings=settings, basis=4)
    expected, _ = grow(experiment, tmp_path / "whole")
    task = distilling.make_task(source(), experiment, 0)
    loop.distill(task._replace(steps=3), source().heldout_accuracy, tmp_path / "cut" / "0.npz", "test")
    found, _ = grow(experiment, tmp_path / "cut")
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
    singular = np.linalg.svd(np.asarray(found.images).reshape(6, -1), compute_uv=False)
    assert singular[3] > 1e-2
    assert singular[4] < 1e-4 * singular[0], "no more than four images are mixed"
    assert np.abs(found.images - task.start.images).max() > 1e-2


@pytest.mark.slow
def test_blocks_before_may_move_at_a_reduced_rate(tmp_path: Path) -> None:
    alone, _ = grow(dataclasses.replace(SMALL, images_per_class=1), tmp_path / "alone")
    sets = [grow(boosted(1, mobility), tmp_path / str(mobility))[0] for mobility in (0.0, 0.1, 1.0)]
    moved = [float(np.abs(one.images[:3] - alone.images).max()) for one in sets]
    assert moved[0] < 1e-5 < moved[1] < moved[2]


@pytest.mark.slow
def test_a_boosted_run_that_was_stopped_between_blocks_ends_with_the_same_arrays(tmp_path: Path) -> None:
    expected, curve = grow(boosted(1, 0.0), tmp_path / "whole")
    task = distilling.make_task(source(), boosted(1, 0.0), 0)
    loop.distill(task, source().heldout_accuracy, tmp_path / "cut" / "0-1.npz", "test")
    found, again = grow(boosted(1, 0.0), tmp_path / "cut")
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert curve["step"].tolist() == again["step"].tolist()


def test_a_long_run_says_beforehand_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distill, "LONG", 6)
    grow(SMALL, tmp_path)
    words = r"test: 6 steps of [\d.e-]+ s each, about 0 minutes and the validations; [\d.]+ MiB for a step"
    assert re.search(words, capsys.readouterr().err)
    grow(SMALL, tmp_path)
    assert "MiB" not in capsys.readouterr().err, "this one has only to be read"
    grow(dataclasses.replace(SMALL, loop=dataclasses.replace(SMALL.loop, steps=5)), tmp_path / "short")
    assert "MiB" not in capsys.readouterr().err


def test_every_start_has_as_many_images_as_its_block() -> None:
    noise = dataclasses.replace(boosted(1, 0.0), initialisation="unit_noise")
    seen = source().real.seen
    first, second = (distilling.initial(source(), noise, seed, seen) for seed in (0, 1))
    norms = np.linalg.norm(np.asarray(first.images).reshape(3, -1), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    assert not np.array_equal(first.images, second.images)


def scores(folder: Path, missed: np.ndarray, networks: int = 4, **changes: Any) -> HardnessParams:
    path = folder / "scores.npz"
    store.save(path, store.SCORES, missed=missed.astype(np.int32), networks=np.int32(networks))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return dataclasses.replace(HardnessParams(str(path), sha256, 2.0), **changes)


def test_weights_by_hardness_from_a_table_counted_by_hand(tmp_path: Path) -> None:
    split = splits.Split(np.zeros((5, 8, 8, 1), np.uint8), np.zeros(5, np.int32))
    seen = splits.View(split, np.array([0, 2, 4]))
    # Of four networks so many miss each image; strength 2: 1 + 2 · missed / 4.
    weights = distilling.load_weights(scores(tmp_path, np.array([0, 4, 1, 4, 4])), seen)
    assert weights.tolist() == [1, 1.5, 3]


def test_scores_that_cannot_be_used(tmp_path: Path) -> None:
    split = splits.Split(np.zeros((5, 8, 8, 1), np.uint8), np.zeros(5, np.int32))
    seen = splits.whole(split)
    given = scores(tmp_path, np.zeros(4))
    with pytest.raises(ParamsError, match="scores of 4 images, the training split has 5; use those of this dataset"):
        distilling.load_weights(given, seen)
    with pytest.raises(ParamsError, match=r"its sha256 is \w+, not 0; correct it"):
        distilling.load_weights(dataclasses.replace(given, sha256="0"), seen)
    with pytest.raises(ParamsError, match=r"no such file; make scores by `python -m stages.score EXPERIMENT`"):
        distilling.load_weights(dataclasses.replace(given, scores=str(tmp_path / "none")), seen)


def test_batches_are_drawn_in_proportion_to_the_weights() -> None:
    weights = np.array([1.0, 1.0, 2.0, 4.0])
    drawn = [loop.batch_index(4, 1, 0, step, weights).item() for step in range(4000)]
    np.testing.assert_allclose(np.bincount(drawn) / 4000, weights / 8, atol=0.03)
    batches = [loop.batch_index(4, 3, 0, step, weights) for step in range(20)]
    assert all(len(set(batch.tolist())) == 3 for batch in batches)
    for step, batch in enumerate(batches):
        np.testing.assert_array_equal(batch, loop.batch_index(4, 3, 0, step, weights))


def test_a_run_draws_by_its_weights(tmp_path: Path) -> None:
    missed = np.zeros(60)
    missed[7] = 4
    experiment = dataclasses.replace(SMALL, hardness=scores(tmp_path, missed, strength=1e6))
    task = distilling.make_task(source(), experiment, 0)._replace(batch_size=1)
    images, labels = loop.reader(task)(3)
    wanted = whiten.apply(task.whitening, task.train.take(np.array([7])).images)[0]
    np.testing.assert_allclose(images[0], wanted, atol=1e-5)
    assert labels.tolist() == [7 % CLASSES]
