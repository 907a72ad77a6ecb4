"""The real images of a dataset: what `preprocess` has left, or arrays that a caller has."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcig import store, whiten
from rcig.data import splits
from rcig.data.settings import Dataset
from rcig.data.splits import Split, View
from rcig.errors import StoreError

DATA = Path("artifacts/data")


class Real(NamedTuple):
    """The training images of a dataset, in two parts, and their whitening."""

    seen: View
    """what a distiller sees"""
    held_out: View
    """what all selection is made on"""
    whitening: whiten.Whitening
    class_names: list[str]


def load_split(name: str, part: str, dataset: Dataset | None = None) -> tuple[Split, list[str]]:
    """Raw images and labels of a dataset's `train` or `test` part, and its class names.

    Raises StoreError where they are not those of the settings, if these are given.
    """
    path = DATA / name / f"{part}.npz"
    arrays = store.load(path, store.SPLIT)
    if dataset is not None:
        shape, classes = arrays["images"].shape[1:], len(arrays["class_names"])
        _check(path, name, {"images": (shape, dataset.shape), "classes": (classes, dataset.classes)})
    return Split(arrays["images"], arrays["labels"]), arrays["class_names"].tolist()


def load_whitening(name: str, dataset: Dataset | None = None) -> whiten.Whitening:
    """The whitening of a dataset. Raises StoreError where it is not that of the settings, if these are given."""
    path = DATA / name / "whitening.npz"
    whitening = whiten.Whitening(**store.load(path, store.WHITENING))
    if dataset is not None and not whiten.fits(whitening, dataset.whitening, dataset.shape):
        found: dict[str, tuple[Any, Any]] = {"whitening": (whiten.kind_of(whitening), dataset.whitening)}
        if whitening.mean_image.size:
            found["images"] = (whitening.mean_image.shape, dataset.shape)
        _check(path, name, found | {"channels": (len(whitening.mean), dataset.channels)})
    return whitening


def _check(path: Path, name: str, found: dict[str, tuple[Any, Any]]) -> None:
    """Raise StoreError where what a file has, first, is not what the settings say, second."""
    different = [(key, has, said) for key, (has, said) in found.items() if has != said]
    if different:
        has, said = (", ".join(f"{one[0]} {one[i]}" for one in different) for i in (1, 2))
        raise StoreError(
            f"{path}: was made of other settings: it has {has}, datasets.{name} in params.yaml says {said};"
            f" run `dvc repro preprocess@{name}`, or correct params.yaml"
        )


def load_parts(name: str, dataset: Dataset) -> tuple[View, View, list[str]]:
    """The training images that distillers see, those that are held out, and the class names."""
    split, class_names = load_split(name, "train", dataset)
    return *in_parts(split, dataset.held_out), class_names


def load_real(name: str, dataset: Dataset) -> Real:
    seen, held_out, class_names = load_parts(name, dataset)
    return Real(seen, held_out, load_whitening(name, dataset), class_names)


def from_arrays(images: np.ndarray, labels: np.ndarray, class_names: list[str], dataset: Dataset) -> Real:
    """The same of images uint8 (n, h, w, c) and class numbers (n,), with a whitening that is fitted to them."""
    seen, held_out = in_parts(Split(images, labels), dataset.held_out)
    return Real(seen, held_out, whiten.fit(images, dataset.whitening), class_names)


def in_parts(split: Split, held_out: float) -> tuple[View, View]:
    """The part that is seen and the held-out one."""
    mask = splits.held_out_mask(split.labels, held_out)
    return View(split, np.flatnonzero(~mask)), View(split, np.flatnonzero(mask))


def fingerprint(dataset: str) -> str:
    """16 digits that name the training images and their whitening."""
    return store.fingerprint([DATA / dataset / "train.npz", DATA / dataset / "whitening.npz"])


def visible(seen: View, chunk: int | None, seed: int) -> View:
    """The part of the training images that a distiller sees with that seed: all, or a chunk of so many."""
    return seen if chunk is None else View(seen.split, splits.chunk(seen.members, chunk, seed))
