"""What is judged: a distilled set, and the test split of its dataset."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
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
from rcig.external import spaces
from rcig.methods import blocks, saved
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
    train: Callable[[], splits.Split] | None = None
    """gives the raw training images, where they are at hand"""

    def part(self, per_class: int) -> "Subject":
        """The same with so many images per class of every seed's set, see rcig.methods.blocks."""
        of, boost, classes = self.judged.images_per_class, self.meta["boost"], self.dataset.classes
        if self.meta["basis"] is not None:
            raise ParamsError("evaluate.parts: a part of a set of mixtures needs the whole basis; give none")
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
    """Everything that is needed to judge the set in that file, by images of that part of the dataset.

    Raises StoreError for a set, raw arrays or a whitening that are not of these settings.
    """
    distilled, meta = store.load_distilled(path)
    check(path, distilled, meta, judged, dataset)
    test, class_names = load_split(judged.dataset, on, dataset)

    def train() -> splits.Split:
        return load_split(judged.dataset, "train", dataset)[0]

    whitening = spaces.of_set(meta, load_whitening(judged.dataset, dataset), lambda: train().images)
    saved.check_whitening(path, distilled, meta, whitening)
    return Subject(
        judged,
        dataset,
        whiten.on_device(whitening),
        distilled["images"],
        distilled["labels"],
        splits.whole(test),
        class_names,
        meta,
        train=train,
    )


def check(
    path: Path, distilled: Mapping[str, np.ndarray], meta: Mapping[str, Any], judged: Judged, dataset: Dataset
) -> None:
    """Raise StoreError unless the set is one of the experiment's."""
    said = json.loads(json.dumps(asdict(judged) | {"held_out": dataset.held_out}))
    for name, value in said.items():
        if meta.get(name, value) != value:  # not every set says all of it
            raise StoreError(
                f"{path}: a set of another experiment: expected {name} {value}, got {meta[name]};"
                f" remove it and run `dvc repro distill@{path.stem}`"
            )
    sets = (len(judged.seeds), judged.images_per_class * dataset.classes)
    expected = {"images": (*sets, *dataset.shape), "labels": (*sets, dataset.classes)}
    for name, shape in expected.items():
        if distilled[name].shape != shape:
            raise StoreError(
                f"{path}: a set of another experiment: expected {name} {shape}, got {distilled[name].shape};"
                f" remove it and run `dvc repro distill@{path.stem}`"
            )
