"""What the judging stages refuse, and what their numbers do not depend on."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig import train
from rcig.data import splits
from rcig.data.settings import Dataset
from rcig.errors import ParamsError, StoreError
from rcig.judging import cross_architecture, membership, networks, subject
from rcig.judging.networks import Networks
from rcig.judging.subject import Judged, Subject

DATASET = Dataset(
    resolution=8, channels=1, classes=3, depth=2, whitening="standard", mirror=False, l2_rate=5e-4, held_out=0.125
)
JUDGED = Judged("mnist_sample", images_per_class=2, seeds=(0, 1), mirror=False)
META = {"method": "rcig", "boost": None, "basis": None, "chunk": None}
LABELS = np.tile(np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]] - 1 / 3, (2, 1, 1))


def bright(labels: np.ndarray, seed: int) -> np.ndarray:
    """Images (n, 8, 8, 1) in whitened space whose class is the place of a bright spot."""
    images = 0.1 * np.random.default_rng(seed).normal(size=(len(labels), 8, 8, 1))
    images[np.arange(len(labels)), 2 * labels + 1, 3] += 3
    return images.astype(np.float32)


def given(images: int = 100) -> Subject:
    """Two distilled sets of six images, and test images whose raw form is the whitened one."""
    labels = (np.arange(images) % 3).astype(np.int32)
    test = splits.whole(splits.Split(bright(labels, 9), labels))
    sets = np.stack([bright(np.array([0, 0, 1, 1, 2, 2]), seed) for seed in (0, 1)])
    return Subject(JUDGED, DATASET, jnp.asarray, sets, LABELS, test, ["a", "b", "c"], META)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another size": (
        {"images": np.zeros((2, 6, 9, 9, 1))},
        r"expected images \(2, 6, 8, 8, 1\), got \(2, 6, 9, 9, 1\)",
    ),
    "other seeds": ({"images": np.zeros((1, 6, 8, 8, 1))}, "a set of another experiment: expected images"),
    "labels that are no rows": ({"labels": np.zeros((2, 6, 4))}, r"expected labels \(2, 6, 3\), got \(2, 6, 4\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_sets_that_cannot_be_judged(case: str) -> None:
    changes, message = BAD[case]
    good = {"images": np.zeros((2, 6, 8, 8, 1)), "labels": np.zeros((2, 6, 3))}
    subject.check(Path("set.npz"), good, META, JUDGED, DATASET)
    with pytest.raises(StoreError, match=rf"^set\.npz: .*{message}"):
        subject.check(Path("set.npz"), good | changes, META, JUDGED, DATASET)


@pytest.mark.parametrize(
    ("name", "said", "message"),
    [
        ("dataset", "mnist", "expected dataset mnist_sample, got mnist"),
        ("images_per_class", 3, "expected images_per_class 2, got 3"),
        ("seeds", [0, 2], r"expected seeds \[0, 1\], got \[0, 2\]"),
        ("mirror", True, "expected mirror False, got True"),
        ("held_out", 0.5, r"expected held_out 0\.125, got 0\.5"),
    ],
)
def test_sets_of_other_settings(name: str, said: Any, message: str) -> None:
    good = {"images": np.zeros((2, 6, 8, 8, 1)), "labels": np.zeros((2, 6, 3))}
    own = {"dataset": "mnist_sample", "images_per_class": 2, "seeds": [0, 1], "mirror": False, "held_out": 0.125}
    subject.check(Path("set.npz"), good, META | own, JUDGED, DATASET)
    with pytest.raises(StoreError, match=rf"^set\.npz: a set of another experiment: {message}; remove it and run"):
        subject.check(Path("set.npz"), good, META | own | {name: said}, JUDGED, DATASET)


SCHEDULE = train.Schedule(60, train.adam(warmup=5 / 60), 1e-2, batch_size=32)
WHERE = {"protocol": "p", "architecture": "conv", "width": 4}


@pytest.fixture(scope="module")
def trained() -> Networks:
    """Two networks, whose training is compiled once for all tests."""
    return networks.build(given(), "conv", 4, SCHEDULE, 2)


def test_accuracy_does_not_depend_on_the_order_of_the_test_images(trained: Networks) -> None:
    one = given()
    order = np.random.default_rng(0).permutation(100)
    other = one._replace(test=splits.View(one.test.split, order))
    first, second = (networks.measure(some, trained, WHERE) for some in (one, other))
    assert [row["value"] for row in first.rows] == pytest.approx([row["value"] for row in second.rows])
    np.testing.assert_array_equal(first.predicted[..., order], second.predicted)
    assert {(row["seed"], row["network"], row["step"]) for row in first.rows} == {
        (seed, network, 60) for seed in (0, 1) for network in (0, 1)
    }
    assert min(row["value"] for row in first.rows) > 0.9


def test_classes_may_come_in_any_order() -> None:
    one = given()
    # The networks that start alike up to the order of their outputs see the classes renamed.
    order = np.array([2, 0, 1])
    net_labels = lambda labels: labels[:, order]  # noqa: E731
    split = one.test.split
    renamed = one._replace(test=splits.whole(split._replace(labels=np.argsort(order)[split.labels].astype(np.int32))))
    trained = networks.build(one, "conv", 4, SCHEDULE, 3)
    first = networks.measure(one, trained, WHERE)
    second = networks.measure(renamed, trained, WHERE, net_labels)
    means = [np.mean([row["value"] for row in some.rows]) for some in (first, second)]
    assert means[0] == pytest.approx(means[1], abs=0.05)
    assert (np.argsort(order)[first.predicted] == second.predicted).mean() > 0.9


def test_a_part_of_a_set_is_judged_as_a_set_of_its_size(trained: Networks) -> None:
    part = given().part(1)
    assert part.images.shape == (2, 3, 8, 8, 1)
    assert (part.judged.images_per_class, part.where["method"], part.is_part) == (1, "rcig+part", True)
    for seed in (0, 1):
        for image, label in zip(part.images[seed], part.labels[seed], strict=True):
            place = [i for i, other in enumerate(given().images[seed]) if np.array_equal(image, other)]
            assert len(place) == 1
            np.testing.assert_array_equal(label, LABELS[seed][place[0]])
    judged = networks.measure(part, trained, WHERE)
    mirrored = dataclasses.replace(JUDGED, mirror=True)
    assert {(row["images_per_class"], row["method"]) for row in judged.rows} == {(1, "rcig+part")}
    _, (images, _) = next(given()._replace(judged=mirrored).part(1).supports())
    assert len(images) == 6, "with their mirror images, as the whole set was distilled"
    boosted = given()._replace(meta=META | {"method": "rcig+boost", "boost": {"block": 1, "mobility": 0.0}})
    first = boosted.part(1)
    assert first.where["method"] == "rcig+boost+part"
    np.testing.assert_array_equal(first.images, given().images[:, :3])


def test_parts_of_a_boosted_set_are_whole_blocks() -> None:
    boosted = given()._replace(meta=META | {"boost": {"block": 2, "mobility": 0.0}})
    with pytest.raises(ParamsError, match=r"^evaluate\.parts: 1 images per class are not whole blocks of 2$"):
        boosted.part(1)


def test_a_set_of_mixtures_has_no_parts() -> None:
    mixed = given()._replace(meta=META | {"basis": 4})
    with pytest.raises(ParamsError, match=r"^evaluate\.parts: a part of a set of mixtures needs the whole basis"):
        mixed.part(1)


def test_the_learning_rate_is_chosen_on_held_out_images(trained: Networks) -> None:
    one = given()._replace(test=None)
    found = cross_architecture.best_rate(one, (1e-9, 1e-2, 1e-8), trained, given().test)
    assert found == 1e-2, "no test images are there to look at"


def test_one_learning_rate_is_no_choice(trained: Networks) -> None:
    assert cross_architecture.best_rate(given(), (3e-3,), trained._replace(course=None), given().test) == 3e-3


def test_a_choice_is_made_on_a_sample_of_many_held_out_images(monkeypatch: pytest.MonkeyPatch) -> None:
    view = given().test
    np.testing.assert_array_equal(cross_architecture.some(view).members, view.members)
    monkeypatch.setattr(cross_architecture, "CHOOSING", 30)
    chosen = cross_architecture.some(view).members
    assert len(set(chosen)) == 30
    assert set(chosen) < set(view.members)
    np.testing.assert_array_equal(cross_architecture.some(view).members, chosen)


def test_members_are_the_chunk_that_was_distilled() -> None:
    labels = (np.arange(90) % 3).astype(np.int32)
    split = splits.Split(np.arange(90 * 64, dtype=np.int64).reshape(90, 8, 8, 1), labels)
    seen = splits.View(split, np.arange(80))
    one = given()._replace(meta=META | {"chunk": 30})
    found = [membership.load_examples(one, seen, seed) for seed in (0, 1)]
    for seed, (images, is_member) in enumerate(found):
        assert is_member.sum() == 30
        assert len(is_member) == 130
        chunk = splits.chunk(seen.members, 30, seed)
        np.testing.assert_array_equal(images.labels[is_member], labels[chunk])
        np.testing.assert_array_equal(images.take(np.arange(30)).images, split.images[chunk])
        np.testing.assert_array_equal(images.labels[~is_member], one.test.labels)
    with pytest.raises(ValueError, match="chunk 2 of 30 images does not fit into 80"):
        membership.load_examples(one, seen, 2)


def test_a_real_set_is_of_members_alone_and_of_the_asked_size() -> None:
    one = given()
    chosen = np.arange(100) < 40
    x, y = membership.real_set(one, one.test, chosen, 0, subset=False)
    np.testing.assert_array_equal(x, one.test.split.images[:40])
    np.testing.assert_allclose(y, jax.nn.one_hot(one.test.labels[:40], 3) - 1 / 3)
    x, y = membership.real_set(one, one.test, chosen, 0, subset=True)
    assert len(x) == JUDGED.images_per_class * 3
    assert {image.tobytes() for image in np.asarray(x)} <= {image.tobytes() for image in one.test.split.images[:40]}
    assert np.asarray(y).argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
