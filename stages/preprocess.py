"""preprocess DATASET: raw images as arrays, and the whitening fitted on the training split."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rcig import planned, store, whiten
from rcig.data import sources
from rcig.data.real import DATA
from rcig.errors import DataError
from stages.common import run


@dataclass(frozen=True)
class Raw:
    """What the stage reads of plan.json: what raw images and their whitening depend on."""

    resolution: int
    channels: int
    classes: int
    whitening: whiten.Kind


def main(name: str) -> None:
    settings = planned.read("preprocess", name, Raw).settings
    dataset = sources.open_dataset(name, settings.resolution)
    expected = (settings.resolution, settings.resolution, settings.channels)
    if dataset.train.shape != expected or len(dataset.class_names) != settings.classes:
        raise DataError(
            f"datasets.{name} in params.yaml says images {expected} and {settings.classes} classes,"
            f" the data has {dataset.train.shape} and {len(dataset.class_names)}; correct params.yaml"
        )
    folder = DATA / name
    for file, part in (("train", dataset.train), ("test", dataset.test)):
        write(folder / f"{file}.npz", part, dataset.class_names)
    whitening = whiten.fit(store.load(folder / "train.npz", store.SPLIT)["images"], settings.whitening)
    store.save(folder / "whitening.npz", store.WHITENING, **whitening._asdict())


def write(path: Path, part: sources.Part, class_names: list[str]) -> None:
    """Write a split while it is read."""
    labels = np.empty(part.examples, np.int32)

    def images() -> Iterator[np.ndarray]:
        done = 0
        with tqdm(total=part.examples, desc=part.where, unit="image", disable=None, file=sys.stderr) as bar:
            for chunk in part.chunks():
                labels[done : done + len(chunk.labels)] = chunk.labels
                done += len(chunk.labels)
                yield chunk.images
                bar.update(len(chunk.labels))

    pieces = store.Chunks((part.examples, *part.shape), "uint8", images())
    # The labels are complete when the images are written, which come first.
    store.save(path, store.SPLIT, images=pieces, labels=labels, class_names=class_names)


if __name__ == "__main__":
    run(main)
