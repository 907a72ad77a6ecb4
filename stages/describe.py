"""describe DATASET: what a dataset holds, and what whitening does to it."""

from typing import Any

import numpy as np

from rcig import planned, store, whiten
from rcig.data import catalogue, splits
from rcig.data.real import load_split, load_whitening
from rcig.data.settings import Dataset
from rcig.report.drawing import image_grid
from stages.common import RESULTS, run

SHOWN = 10
"""images of the picture, of the first classes"""
RANKS = 200
"""eigenvalues kept, at most, evenly spaced in the logarithm of their rank"""


def main(name: str) -> None:
    dataset, code = planned.read("describe", name, Dataset)
    (train, class_names), (test, _) = (load_split(name, part) for part in ("train", "test"))
    whitening = load_whitening(name)
    images, labels = splits.whole(train).take(splits.sample_per_class(train.labels, 1, dataset.classes, seed=0)[:SHOWN])
    white = np.asarray(whiten.apply(whitening, images))
    back = whiten.to_pixels(whitening, white)
    counts = {
        part: np.bincount(split.labels, minlength=dataset.classes).tolist()
        for part, split in (("train", train), ("test", test))
    }
    facts: dict[str, Any] = {
        "code": code,
        **catalogue.known(name)._asdict(),
        "class_names": class_names,
        "counts": counts,
        "held_out": int(splits.held_out_mask(train.labels, dataset.held_out).sum()),
        "shape": list(images.shape[1:]),
        "whitening": dataset.whitening,
        "mean": whitening.mean.tolist(),
        "std": whitening.std.tolist(),
        "spectrum": spectrum(whitening.eigenvalues),
        "ridge": float(whiten.ZCA_REGULARISATION * whitening.eigenvalues.mean())
        if whitening.eigenvalues.size
        else None,
        "round_trip": int(np.abs(images.astype(int) - back).max()),
    }
    titles = [class_names[label] for label in labels]
    titles += ["whitened"] * len(labels) + ["back"] * len(labels)
    picture = image_grid(np.concatenate([images, visible(white), back]), titles, columns=len(labels))
    store.save_json(RESULTS / "data" / f"{name}.json", facts)
    store.atomic_write(RESULTS / "data" / f"{name}.png", picture)


def visible(x: np.ndarray) -> np.ndarray:
    """Whitened images as uint8: grey is 0, and the largest deviation of each image reaches black or white."""
    largest = np.abs(x).max((1, 2, 3), keepdims=True)
    return np.round(127.5 + 127.5 * x / largest).astype(np.uint8)


def spectrum(eigenvalues: np.ndarray) -> list[list[float]]:
    """[rank from 1, eigenvalue] pairs."""
    if not len(eigenvalues):
        return []
    ranks = np.unique(np.round(np.geomspace(1, len(eigenvalues), RANKS)).astype(int))
    return [[int(rank), float(eigenvalues[rank - 1])] for rank in ranks]


if __name__ == "__main__":
    run(main)
