"""describe DATASET: what a dataset holds, and what whitening does to it.

Example: python -m stages.describe mnist_sample
"""

import warnings
from dataclasses import dataclass

import numpy as np

from rcig import planned, store, whiten
from rcig.data import catalogue, facts, splits
from rcig.data.real import load_split, load_whitening
from rcig.data.settings import Dataset, Own
from rcig.report.drawing import image_grid
from stages.common import RESULTS, run

SHOWN = 10
"""images of the picture, of the first classes"""


@dataclass(frozen=True)
class Described:
    """What the stage reads of plan.json."""

    dataset: Dataset
    own: Own


def main(name: str) -> None:
    settings, code = planned.read("describe", name, Described)
    dataset = settings.dataset
    (train, class_names), (test, _) = (load_split(name, part, dataset) for part in ("train", "test"))
    whitening = load_whitening(name, dataset)
    chosen = splits.sample_per_class(train.labels, 1, dataset.classes, seed=0)[:SHOWN]
    images, labels = splits.whole(train).take(chosen)
    white = np.asarray(whiten.apply(whitening, images))
    back = whiten.to_pixels(whitening, white)
    source = catalogue.source_of(name, settings.own)._asdict()
    del source["holds"]  # what is measured says it
    known = {
        "code": code,
        **source,
        "class_names": class_names,
        **facts.measured(train, test, dataset, whitening),
        "round_trip": int(np.abs(images.astype(int) - back).max()),
    }
    if known["duplicates"] and not settings.own.known:
        warnings.warn(f"{name}: {known['duplicates']} test images are training images too", stacklevel=1)
    titles = [class_names[label] for label in labels]
    titles += ["whitened"] * len(labels) + ["back"] * len(labels)
    picture = image_grid(np.concatenate([images, facts.visible(white), back]), titles, columns=len(labels))
    store.save_json(RESULTS / "data" / f"{name}.json", known)
    store.atomic_write(RESULTS / "data" / f"{name}.png", picture)


if __name__ == "__main__":
    run(main)
