"""Coresets against brute force on twenty points, and as methods."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from test_api import spots
from tiny import resolved, setup

import rcig
from rcig import store
from rcig.data.splits import Split, View, whole
from rcig.errors import ParamsError, TooLargeError
from rcig.methods import coresets, missed
from rcig.methods.base import Distilled, Setup
from rcig.run import distil as runs

POINTS = np.random.default_rng(3).normal(size=(20, 4))


def test_herding_is_brute_force_on_twenty_points() -> None:
    chosen: list[int] = []
    for _ in range(6):
        rest = [i for i in range(20) if i not in chosen]
        off = [np.linalg.norm(POINTS[[*chosen, i]].mean(0) - POINTS.mean(0)) for i in rest]
        chosen.append(rest[int(np.argmin(off))])
    assert coresets.herding(POINTS, 6, 0).tolist() == chosen
    assert sorted(coresets.herding(POINTS, 20, 0)) == list(range(20))


def test_k_centre_is_brute_force_on_twenty_points() -> None:
    found = coresets.k_centre(POINTS, 6, 0).tolist()
    assert found[0] == int(np.argmin([np.linalg.norm(point - POINTS.mean(0)) for point in POINTS]))
    for i in range(1, 6):
        nearest = [min(np.linalg.norm(point - POINTS[j]) for j in found[:i]) for point in POINTS]
        assert found[i] == int(np.argmax(nearest))
    doubled = np.concatenate([POINTS[:3], POINTS[:3]])
    assert sorted(coresets.k_centre(doubled, 6, 0)) == list(range(6))


def test_k_means_finds_one_of_each_clump_and_none_twice() -> None:
    centres = 50 * np.eye(5)[:, :4]
    points = np.concatenate([centres + 0.1 * step for step in (-1, 0, 1)])
    assert sorted(coresets.k_means(points, 5, 0)) == [5, 6, 7, 8, 9], "the middle one of each"
    assert sorted(coresets.k_means(POINTS, 20, 0)) == list(range(20))


def test_with_one_image_all_choose_that_nearest_to_the_mean() -> None:
    nearest = int(np.linalg.norm(POINTS - POINTS.mean(0), axis=1).argmin())
    assert {int(choose(POINTS, 1, 0)[0]) for choose in coresets.CHOICES.values()} == {nearest}


def run(count: int = 6, **changes: Any) -> Setup:
    """Of which every image has its number as brightness; those of a chunk are every other one."""
    labels = (np.arange(24) % 3).astype(np.int32)
    raw = np.arange(24, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    few = {"seen": whole(Split(raw, labels)), "whitened": lambda images: jnp.asarray(images, jnp.float32) / 255}
    return setup(images=count, **few | changes)


def chosen(method: Any) -> list[int]:
    distilled: Distilled = method.init(None, None)
    numbers = (255 * np.asarray(distilled.images)[:, 0, 0, 0]).round().astype(int).tolist()
    hard = np.eye(3)[np.array(numbers) % 3] - 1 / 3
    np.testing.assert_allclose(distilled.labels, hard, rtol=1e-6)
    return [int(number) for number in numbers]


@pytest.mark.parametrize("choice", list(coresets.CHOICES))
def test_real_images_are_chosen_class_by_class_by_a_network_of_the_seed(choice: Any) -> None:
    settings = coresets.Settings(choice=choice, network_steps=3)
    seen = View(run().seen.split, np.arange(0, 24, 2))
    found = chosen(coresets.make(settings, run(seen=seen)))
    assert [number % 3 for number in found] == [0, 0, 1, 1, 2, 2]
    assert len(set(found)) == 6
    assert all(number % 2 == 0 for number in found), "of what the run may see"
    assert chosen(coresets.make(settings, run(seen=seen))) == found


def test_features_are_of_a_network_that_has_learned_the_classes() -> None:
    """Images whose class is a spot's place: features of one class end up nearer to each other than to the others'."""
    images, labels = spots(60, 0)
    given = setup(
        shape=images.shape[1:],
        classes=int(labels.max()) + 1,
        seen=whole(Split(images, labels.astype(np.int32))),
        whitened=lambda some: jnp.asarray(some, jnp.float32) / 255,
    )

    def spread(steps: int) -> float:
        settings = coresets.Settings(network_steps=steps, network_rate=0.01, network_batch_size=32)
        features = coresets.trained(settings, given)(given.seen)
        assert len(features) == 60
        centred = features - features.mean(0)
        own = np.concatenate(
            [features[labels == c] - features[labels == c].mean(0) for c in range(int(labels.max()) + 1)]
        )
        return float((own**2).sum() / (centred**2).sum())

    assert spread(100) < 0.5 * spread(1)


SCORES = np.array([3, 0, 1] * 4 + [0, 2, 1] * 4, np.int32)


def scores(folder: Path, count: int = 24) -> Path:
    path = folder / "scores.npz"
    store.save(path, store.SCORES, missed=SCORES[:count], networks=np.int32(3))
    return path


def test_the_least_and_the_most_missed_are_chosen_and_ties_by_the_seed(tmp_path: Path) -> None:
    needs = scores(tmp_path)

    def found(first: Any, count: int, seed: int = 0) -> list[int]:
        return chosen(missed.make(missed.Settings(first), run(count, needs=needs, seed=seed)))

    assert {number for number in found("least", 12) if number % 3 == 0} == {12, 15, 18, 21}
    assert {number for number in found("most", 12) if number % 3 == 0} == {0, 3, 6, 9}
    assert {number for number in found("least", 12) if number % 3 == 1} == {1, 4, 7, 10}
    assert {number for number in found("most", 12) if number % 3 == 1} == {13, 16, 19, 22}
    draws = {tuple(found("least", 3, seed)) for seed in range(8)}
    assert len(draws) > 1
    assert found("least", 3, 5) == found("least", 3, 5)


def test_scores_of_another_dataset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"scores of 12 images, the training split has 24; use those of this dataset"):
        missed.make(missed.Settings(), run(needs=scores(tmp_path, 12)))


def test_a_coreset_larger_than_the_class_is_refused(tmp_path: Path) -> None:
    message = r"9 images per class asked for, class .*0 has 8.*; lower images_per_class, or let more be seen"
    with pytest.raises(ParamsError, match=message):
        missed.make(missed.Settings(), run(27, needs=scores(tmp_path)))
    images, labels = spots(60, 0)
    with pytest.raises(ParamsError, match=r"images per class asked for, class 0 has .*; lower images_per_class"):
        rcig.distil(images, labels, "herding", 60, width=4)


def test_a_network_that_does_not_fit_is_refused() -> None:
    with pytest.raises(
        TooLargeError, match=r"network of the coreset: needs about .* lower width or network_batch_size"
    ):
        coresets.make(coresets.Settings(), run(width=1_000_000))


def test_a_run_says_how_long_the_choice_took(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(runs, "meta", lambda one, *rest, of=runs.meta: made.append(one) or of(one, *rest))
    distilled = rcig.distil(*spots(60, 0), "herding", 2, width=4, network_steps=3)
    assert distilled.meta["method"] == "herding"
    assert float(made[0].curve["seconds"].max()) > 0


def test_hardness_methods_need_scores() -> None:
    with pytest.raises(ParamsError, match=r"x\.needs: missing; name the file"):
        resolved(method="most_missed")
    assert resolved(method="most_missed", needs="artifacts/scores/a.npz").run.loop.steps == 0
