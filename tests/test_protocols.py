"""Protocols by which others judge: their augmentation, CutMix, the learning rate that was learned with a set."""

import dataclasses
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_judging import bright, given

from rcig import dsa, train
from rcig.data import splits
from rcig.errors import ParamsError
from rcig.judging import evaluate, networks, teachers
from rcig.judging.evaluate import Evaluate, by_protocol
from rcig.judging.protocols import PROTOCOLS, TEMPERATURE, Name, Protocol, cut_mixed
from rcig.judging.subject import Subject

IMAGE = np.random.default_rng(0).normal(size=(8, 8, 3)).astype(np.float32)
STAY, EYE = np.zeros(2, np.float32), np.eye(2, dtype=np.float32)


def test_resampling_by_nothing_by_whole_pixels_and_by_a_quarter_turn() -> None:
    np.testing.assert_allclose(dsa.resampled(IMAGE, EYE, STAY), IMAGE, atol=1e-6)
    moved = np.asarray(dsa.resampled(IMAGE, EYE, np.array([2.0, -1.0])))
    np.testing.assert_allclose(moved[:6, 1:], IMAGE[2:, :7], atol=1e-6)
    assert not moved[6:].any()
    assert not moved[:, 0].any()
    turned = dsa.resampled(IMAGE, np.array([[0.0, 1.0], [-1.0, 0.0]]), STAY)
    np.testing.assert_allclose(turned, np.rot90(IMAGE), atol=1e-5)


def test_scaling_a_ramp_changes_its_slope() -> None:
    ramp = np.repeat(np.arange(9.0, dtype=np.float32)[:, None], 9, 1)[..., None]
    found = np.asarray(dsa.resampled(ramp, np.diag([0.5, 1.2]).astype(np.float32), STAY))[:, 2:7, 0]
    np.testing.assert_allclose(found, np.repeat(4 + 0.5 * (np.arange(9) - 4)[:, None], 5, 1), atol=1e-5)


def kind_of(batch: np.ndarray) -> str:
    """What has been done to images of ones, looked at all together."""
    if (batch == 1).all():
        return "flip"
    if np.ptp(batch, axis=(1, 2, 3)).max() < 1e-5:
        return "colour"
    whole = np.isin(batch.round(5), (0, 1)).all()
    middle = batch[:, 6:10, 6:10].reshape(len(batch), -1)
    return "crop or cutout" if whole else "scale or rotate" if (middle.round(5) == 1).all() else "several"


def test_a_batch_has_one_kind_of_transform_and_each_image_its_own_strength() -> None:
    run = jax.jit(dsa.augment)
    for channels, expected in ((3, {"flip", "colour"}), (1, {"colour"})):
        batches = [
            np.asarray(run(key, jnp.ones((8, 16, 16, channels)))) for key in jax.random.split(jax.random.key(0), 60)
        ]
        assert {kind_of(batch) for batch in batches} == expected | {"crop or cutout", "scale or rotate"}
        coloured = next(batch for batch in batches if kind_of(batch) == "colour")
        assert len(np.unique(coloured[:, 0, 0, 0].round(4))) == 8


def test_a_cut_square_has_half_the_side_and_may_lie_partly_outside() -> None:
    cuts = jax.vmap(lambda key: dsa._blanked(key, jnp.ones((16, 16, 1))))(jax.random.split(jax.random.key(0), 400))
    rows = (np.asarray(cuts)[..., 0] == 0).any(2).sum(1)
    assert (rows.min(), rows.max()) == (4, 8)
    assert np.mean(rows == 8) == pytest.approx(9 / 17, abs=0.08), "of 17 places of its centre 9 are far enough inside"


def test_cutmix_keeps_labels_in_proportion_to_pixels() -> None:
    images, labels = jnp.broadcast_to(jnp.arange(6.0)[:, None, None, None], (6, 8, 8, 1)), jnp.eye(6)
    mixed_batches = 0
    for key in jax.random.split(jax.random.key(1), 40):
        mixed, proportions = map(np.asarray, jax.jit(cut_mixed)(key, images, labels))
        pixels = np.stack([(mixed == i).mean((1, 2, 3)) for i in range(6)], 1)
        np.testing.assert_allclose(pixels, proportions, atol=1e-6)
        mixed_batches += bool((pixels < 1).all(1).any())
    assert 8 <= mixed_batches <= 32, "half of the batches"


SMALL = Evaluate(("mtt",), width=4, networks=2)


def with_meta(**settings: Any) -> Subject:
    subject = given()
    return subject._replace(meta=subject.meta | {"settings": settings})


def short(images: int) -> train.Schedule:
    return train.Schedule(30, train.sgd(), 0.01, 256, loss=train.cross_entropy)


def test_the_rate_that_was_learned_with_the_set_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "mtt", Protocol("narrow_in", 4, short, own_rate=True, mirror=False))
    found = by_protocol(with_meta(learned_rate=0.05), SMALL, "mtt")
    same = networks.build(given(), "narrow_in", 4, short(6)._replace(learning_rate=0.05), 2)
    where = {"protocol": "mtt", "architecture": "narrow_in", "width": 4}
    expected = networks.measure(given(), same, where, at=[30])
    assert [row["value"] for row in found.rows] == [row["value"] for row in expected.rows]
    slow = by_protocol(with_meta(learned_rate=1e-9), SMALL, "mtt")
    assert found.accuracy > slow.accuracy
    for settings in ({}, {"learned_rate": None}):
        with pytest.raises(ParamsError, match="protocol mtt: the set has no learned rate; give that of its authors"):
            by_protocol(with_meta(**settings), SMALL, "mtt")


def test_mirror_images_are_used_where_the_protocol_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def build(subject: Subject, *_: Any) -> Any:
        seen.append(next(subject.supports())[1][0].shape[0])
        raise ParamsError("seen enough")

    monkeypatch.setattr(evaluate.networks, "build", build)
    monkeypatch.setattr(teachers, "STEPS", 1)
    subject = with_training_images([])
    subject = subject._replace(judged=dataclasses.replace(subject.judged, mirror=True))
    for name in PROTOCOLS:
        with pytest.raises(ParamsError, match="seen enough"):
            by_protocol(subject, SMALL, name)
        assert seen[-1] == (12 if PROTOCOLS[name].mirror else 6), name
    assert not any(PROTOCOLS[name].mirror for name in ("dsa", "mtt", "datm", "idc", "ncfm", "teacher"))
    assert set(get_args(Name)) == set(PROTOCOLS)


@pytest.mark.parametrize(
    ("name", "images", "steps", "rates"),
    [
        ("dsa", 10, 1000, {0: 0.01, 499: 0.01, 500: 0.001}),
        ("dsa", 500, 2000, {999: 0.01, 1000: 0.001}),
        ("datm", 500, 4000, {1999: 0.01, 2000: 0.001}),
        ("idc", 40, 1000, {665: 0.01, 700: 0.002, 900: 0.0004}),
        ("ncfm", 40, 2000, {399: 1e-3, 401: 5e-4, 1999: 6.25e-5}),
        ("frepo", 10, 1000, {500: 3e-4, 1000: 3e-6}),
    ],
)
def test_steps_and_rates_are_those_of_the_authors(name: str, images: int, steps: int, rates: dict[int, float]) -> None:
    """By the size of the step that the optimiser takes along one gradient, from its start at any step number."""
    schedule = PROTOCOLS[name].schedule(images)
    assert schedule.steps == steps
    optimizer = schedule.optimizer(schedule.steps, schedule.learning_rate)
    plain = optimizer.init(jnp.zeros(()))
    for step, rate in rates.items():
        state = jax.tree.map(
            lambda leaf, step=step: jnp.asarray(step, leaf.dtype) if leaf.dtype == jnp.int32 else leaf, plain
        )
        change, _ = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
        adam = name in ("ncfm", "frepo")
        moment = (1 - 0.9) / np.sqrt(1 - 0.999) if adam and step else 1.0  # of moments that are as if they had begun
        corrected = moment * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1)) if adam else 1.0
        assert float(-change) == pytest.approx(rate * corrected, rel=0.01)


def with_training_images(loads: list[int]) -> Subject:
    """Its training images are such as the test images, and `loads` grows when they are read."""
    subject = given()
    labels = (np.arange(300) % 3).astype(np.int32)
    real = splits.Split(bright(labels, 4), labels)
    return subject._replace(train=lambda: loads.append(1) or real)


def test_students_learn_what_a_teacher_says_of_mixed_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "STEPS", 60)
    loads: list[int] = []
    subject = with_training_images(loads)
    teacher = teachers.of(subject, "narrow_in", 4)
    logits = np.asarray(teacher.net.apply(teacher.variables, subject.test.split.images))
    assert (logits.argmax(1) == subject.test.labels).mean() > 0.9
    schedule = teachers.taught(PROTOCOLS["teacher"].schedule(6), teacher)
    set_images, own = jnp.asarray(subject.images[0]), jnp.asarray(subject.labels[0])
    batches = [schedule.mix(key, set_images, own) for key in jax.random.split(jax.random.key(3), 8)]
    assert sum(not np.allclose(mixed, set_images) for mixed, _ in batches) > 4
    mixed, labels = batches[0]
    exponents = np.exp(np.asarray(teacher.net.apply(teacher.variables, mixed)) / TEMPERATURE)
    np.testing.assert_allclose(labels + 1 / 3, exponents / exponents.sum(1, keepdims=True), atol=1e-5)
    # The divergence has no slope in a student that says the same, and has one in any other.
    slope = jax.grad(lambda said: schedule.loss(said, labels))
    np.testing.assert_allclose(slope(TEMPERATURE * jnp.log(labels + 1 / 3)), 0, atol=1e-6)
    assert np.abs(slope(jnp.zeros_like(labels))).max() > 1e-6


def test_random_real_images_stand_beside_the_set_under_the_same_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "STEPS", 60)
    for name in ("teacher", "teacher_random"):
        few = PROTOCOLS[name].schedule(6)._replace(steps=40)
        monkeypatch.setitem(PROTOCOLS, name, PROTOCOLS[name]._replace(width=4, schedule=lambda _, few=few: few))
    loads: list[int] = []
    subject = with_training_images(loads)
    found = {name: by_protocol(subject, SMALL, name) for name in ("teacher", "teacher_random")}
    assert len(loads) == 2, "one teacher for both, and one draw of random images"
    assert {row["protocol"] for row in found["teacher_random"].rows} == {"teacher_random"}
    random = teachers.random_real(subject)
    real = subject.train()  # type: ignore[misc]
    for images, labels in zip(random.images, random.labels, strict=True):
        for image, label in zip(images, labels, strict=True):
            (at,) = np.flatnonzero((real.images == image).all((1, 2, 3)))
            assert real.labels[at] == label.argmax()
    assert len(np.unique(random.images.reshape(12, -1), axis=0)) > 6, "each seed draws its own"
    with pytest.raises(ParamsError, match="protocol teacher: needs the training images; give the name of a prepared"):
        by_protocol(given(), SMALL, "teacher")


def test_a_crop_is_a_part_of_the_image() -> None:
    """Of a ramp in both directions: every pixel lies within it, in order or mirrored; none is below a quarter."""
    places = np.stack(np.meshgrid(np.arange(16.0), np.arange(16.0), indexing="ij"), -1).astype(np.float32)
    crops = np.asarray(dsa.crop_and_flip(jax.random.key(0), jnp.broadcast_to(places, (100, 16, 16, 2))))
    assert crops.min() > -1e-4
    assert crops.max() < 15 + 1e-4
    heights, widths = np.ptp(crops[..., 0], axis=(1, 2)) / 15, np.ptp(crops[..., 1], axis=(1, 2)) / 15
    assert (heights * widths).min() > 0.2
    assert (heights * widths).max() > 0.8
    mirrored = crops[:, 0, -1, 1] < crops[:, 0, 0, 1]
    assert 30 < mirrored.sum() < 70
    assert (crops[:, -1, 0, 0] > crops[:, 0, 0, 0]).all()
