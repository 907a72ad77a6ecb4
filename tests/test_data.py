from pathlib import Path

import numpy as np
import pytest

from rcig import data, whiten
from rcig.data import DataError, sources


def test_the_embedded_sample_is_5000_digits_in_a_fixed_stratified_split() -> None:
    raw = data.read("mnist_sample")
    assert raw.train.images.shape == (4000, 28, 28, 1)
    assert raw.test.images.shape == (1000, 28, 28, 1)
    assert np.bincount(raw.train.labels).tolist() == [400] * 10
    assert np.bincount(raw.test.labels).tolist() == [100] * 10
    train = {image.tobytes() for image in raw.train.images}
    assert not any(image.tobytes() in train for image in raw.test.images)
    np.testing.assert_array_equal(data.read("mnist_sample").test.images, raw.test.images)


def test_held_out_part_is_stratified_and_depends_on_labels_alone() -> None:
    labels = np.repeat(np.arange(4), 50)
    mask = data.held_out_mask(labels, 0.1)
    assert np.bincount(labels[mask]).tolist() == [5] * 4
    np.testing.assert_array_equal(mask, data.held_out_mask(labels.copy(), 0.1))


def test_sample_per_class_takes_different_examples_of_the_right_class() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 100)
    chosen = data.sample_per_class(labels, 5, 3, seed=1)
    assert labels[chosen].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert len(set(chosen)) == 15
    assert set(chosen) != set(data.sample_per_class(labels, 5, 3, seed=2))


def test_more_images_per_class_than_the_class_has() -> None:
    with pytest.raises(ValueError, match=r"9 images per class asked for, class 1 has 2 .*; lower images_per_class"):
        data.sample_per_class(np.array([0] * 9 + [1] * 2), 9, 2, seed=0)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 4, 4, 1), np.float32), [0, 1], "expected uint8 images"),
        (np.zeros((2, 4, 4), np.uint8), [0, 1], "expected uint8 images"),
        (np.zeros((3, 4, 4, 1), np.uint8), [0, 1], "one a label"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0, 2], "expected labels 0 to 1, got 0 to 2"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0, -1], "got -1 to 0"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0, 0], "class 1 has no examples"),
    ],
)
def test_raw_data_is_checked(images: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        sources.check("x train", data.Split(images, np.array(labels, np.int32)), 2)


def test_unknown_dataset() -> None:
    with pytest.raises(DataError, match="unknown dataset 'minst'; known: fashion_mnist, mnist, mnist_sample"):
        data.read("minst")


def test_a_dataset_that_is_not_prepared_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=rf"mnist is not prepared in {tmp_path} .*python -m stages.prepare mnist"):
        data.read("mnist")
    assert list(tmp_path.iterdir()) == []


PUBLISHED = {"mnist": (0.1307, 0.3081), "fashion_mnist": (0.2860, 0.3530)}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_real_datasets_have_their_published_statistics(
    name: str, tfds_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_dir))
    raw = data.read(name)
    assert raw.train.images.shape == (60000, 28, 28, 1)
    assert raw.test.images.shape == (10000, 28, 28, 1)
    whitening = whiten.fit(raw.train.images, zca=False)
    np.testing.assert_allclose((whitening.mean[0], whitening.std[0]), PUBLISHED[name], atol=5e-5)
