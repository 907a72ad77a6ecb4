"""What is judged: a distilled set, and the test split of its dataset."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcig import passes, rows, store, whiten
from rcig.data import splits
from rcig.data.real import load_split, load_whitening
from rcig.data.settings import Dataset
from rcig.errors import ParamsError, StoreError
from rcig.methods import blocks
from rcig.methods.base import Distilled, support


@dataclass(frozen=True)
class Judged:
    """What judging has to know of an experiment beside its set."""

    dataset: str
    images_per_class: int
    seeds: tuple[int, ...]
    mirror: bool
    """whether networks see every image together with its mirror image, as while it was distilled"""


class Subject(NamedTuple):
    judged: Judged
    dataset: Dataset
    whitened: Callable[[np.ndarray], jax.Array]
    """from uint8 images"""
    images: np.ndarray
    """(seeds, n, h, w, c) in whitened space"""
    labels: np.ndarray
    """(seeds, n, C)"""
    test: splits.View
    """the real images that networks are tested on"""
    class_names: list[str]
    meta: dict[str, Any]
    """what the set's file says of it"""
    is_part: bool = False
    """of a set that was distilled as a whole"""

    def part(self, per_class: int) -> "Subject":
        """The same with so many images per class of every seed's set, see rcig.methods.blocks."""
        of, boost, classes = self.judged.images_per_class, self.meta["boost"], self.dataset.classes
        if boost is not None and per_class % boost["block"]:
            raise ParamsError(f"evaluate.parts: {per_class} images per class are not whole blocks of {boost['block']}")
        chosen = [blocks.part(per_class, of, classes, boost is not None, seed) for seed in self.judged.seeds]
        every = np.arange(len(chosen))[:, None]
        smaller = Judged(self.judged.dataset, per_class, self.judged.seeds, self.judged.mirror)
        return self._replace(
            judged=smaller,
            images=self.images[every, np.stack(chosen)],
            labels=self.labels[every, np.stack(chosen)],
            is_part=True,
        )

    @property
    def where(self) -> dict[str, Any]:
        """Columns of its rows."""
        method = self.meta["method"] + (rows.PART if self.is_part else "")
        return {
            "dataset": self.judged.dataset,
            "images_per_class": self.judged.images_per_class,
            "method": method,
        }

    def supports(self) -> Iterator[tuple[int, tuple[jax.Array, jax.Array]]]:
        """(seed, (images, labels)) to train on, mirror images included where the dataset uses them."""
        for seed, images, labels in zip(self.judged.seeds, self.images, self.labels, strict=True):
            one = Distilled(jnp.asarray(images), jnp.asarray(labels), jnp.zeros(()))
            yield seed, support(one, self.judged.mirror)

    def shapes(self) -> tuple[Any, Any]:
        """Shapes of the images and labels of one seed."""
        return passes.shapes(lambda: next(self.supports())[1])


def load(path: Path, judged: Judged, dataset: Dataset, on: str = "test") -> Subject:
    """Everything that is needed to judge the set in that file, by images of that part of the dataset."""
    distilled = store.load(path, store.DISTILLED)
    meta = json.loads(str(distilled["meta"]))
    check(path, distilled, judged, dataset)
    test, class_names = load_split(judged.dataset, on)
    return Subject(
        judged,
        dataset,
        whiten.on_device(load_whitening(judged.dataset)),
        distilled["images"],
        distilled["labels"],
        splits.whole(test),
        class_names,
        meta,
    )


def check(path: Path, distilled: dict[str, np.ndarray], judged: Judged, dataset: Dataset) -> None:
    """Raise StoreError unless the set is one of the experiment's, with numbers that networks can be trained on."""
    sets = (len(judged.seeds), judged.images_per_class * dataset.classes)
    expected = {"images": (*sets, *dataset.shape), "labels": (*sets, dataset.classes)}
    for name, shape in expected.items():
        if distilled[name].shape != shape:
            raise StoreError(
                f"{path}: a set of another experiment: expected {name} {shape}, got {distilled[name].shape};"
                " remove it and run `dvc repro`"
            )
        bad = np.count_nonzero(~np.isfinite(distilled[name]))
        if bad:
            raise StoreError(f"{path}: {bad} NaN or infinite {name}; remove it and distil again")
