from pathlib import Path

import numpy as np
import pytest

from rcig import predictions
from rcig.errors import StoreError
from rcig.predictions import Predictions

# Two networks of one seed on four images of three classes; the third class has no image.
FOUND = Predictions(np.array([[[0, 1, 1, 0], [0, 0, 1, 2]]]), np.array([0, 0, 1, 1]), ["a", "b", "c"])


def test_confusion_against_a_table_counted_by_hand() -> None:
    found = predictions.confusion(FOUND)
    np.testing.assert_array_equal(found[:2], [[3 / 4, 1 / 4, 0], [1 / 4, 2 / 4, 1 / 4]])
    assert np.isnan(found[2]).all()


def test_hardness_against_a_table_counted_by_hand() -> None:
    # The three reference networks miss the first image never, the second once, the third never and the last always.
    reference = Predictions(np.array([[[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 1, 2]]]), FOUND.labels, FOUND.class_names)
    assert predictions.missed(reference).tolist() == [0, 1, 0, 3]
    table = predictions.by_hardness(FOUND, reference)
    expected = [(0, 0, 0, 2, 1.0), (0, 0, 1, 1, 0.0), (0, 0, 3, 1, 0.0)]
    expected += [(0, 1, 0, 2, 1.0), (0, 1, 1, 1, 1.0), (0, 1, 3, 1, 0.0)]
    assert list(table.itertuples(index=False, name=None)) == expected


def test_strata_weighted_by_their_images_give_the_accuracy() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 200)
    found, reference = (
        Predictions(np.where(rng.random((2, 3, 200)) < 0.6, labels, 0), labels, list("abcde")) for _ in range(2)
    )
    table = predictions.by_hardness(found, reference)
    for (seed, network), lines in table.groupby(["seed", "network"]):
        assert np.average(lines["value"], weights=lines["images"]) == pytest.approx(found.correct[seed, network].mean())


def test_classes_may_be_numbered_otherwise() -> None:
    order = np.array([2, 0, 1])
    other = FOUND._replace(predicted=order[FOUND.predicted], labels=order[FOUND.labels])
    np.testing.assert_array_equal(predictions.confusion(other)[order[:2]][:, order], predictions.confusion(FOUND)[:2])
    np.testing.assert_array_equal(predictions.missed(other), predictions.missed(FOUND))


def test_files_come_back(tmp_path: Path) -> None:
    predictions.save(tmp_path / "p.npz", *FOUND)
    back = predictions.read(tmp_path / "p.npz")
    np.testing.assert_array_equal(back.predicted, FOUND.predicted)
    assert back.class_names == FOUND.class_names
    (tmp_path / "p.npz").write_bytes((tmp_path / "p.npz").read_bytes()[:100])
    with pytest.raises(StoreError, match="not a whole"):
        predictions.read(tmp_path / "p.npz")


def test_other_test_images() -> None:
    with pytest.raises(ValueError, match="other test images"):
        predictions.by_hardness(FOUND, FOUND._replace(labels=np.array([0, 1, 1, 1])))
