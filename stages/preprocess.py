"""preprocess DATASET: raw images as arrays, and the whitening fitted on the training split.

Example: python -m stages.preprocess mnist_sample
"""

from dataclasses import dataclass

from rcig import planned, store, whiten
from rcig.data import own, sources
from rcig.data.real import DATA
from rcig.data.settings import Own
from rcig.errors import DataError
from stages.common import run


@dataclass(frozen=True)
class Raw:
    """What the stage reads of plan.json: what raw images and their whitening depend on."""

    resolution: int
    channels: int
    classes: int
    whitening: whiten.Kind
    own: Own


def main(name: str) -> None:
    settings = planned.read("preprocess", name, Raw).settings
    if settings.own.known:
        dataset = sources.open_dataset(name, settings.resolution)
    else:
        dataset = own.open_dataset(settings.own, settings.resolution, settings.channels)
    expected = (settings.resolution, settings.resolution, settings.channels)
    if dataset.train.shape != expected or len(dataset.class_names) != settings.classes:
        raise DataError(
            f"datasets.{name} in params.yaml says images {expected} and {settings.classes} classes,"
            f" the data has {dataset.train.shape} and {len(dataset.class_names)}; correct params.yaml"
        )
    folder = DATA / name
    for file, part in (("train", dataset.train), ("test", dataset.test)):
        sources.write(folder / f"{file}.npz", part, dataset.class_names)
    whitening = whiten.fit(store.load(folder / "train.npz", store.SPLIT)["images"], settings.whitening)
    store.save(folder / "whitening.npz", store.WHITENING, **whitening._asdict())


if __name__ == "__main__":
    run(main)
