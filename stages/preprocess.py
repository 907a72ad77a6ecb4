"""preprocess DATASET: raw images as arrays, and the whitening fitted on the training split."""

from rcig import data, params, store, whiten
from stages.common import DATA, run


def main(name: str) -> None:
    settings = params.load().dataset(name)
    raw = data.read(name)
    expected = (settings.resolution, settings.resolution, settings.channels)
    if raw.train.images.shape[1:] != expected or len(raw.class_names) != settings.classes:
        raise data.DataError(
            f"datasets.{name} in params.yaml says images {expected} and {settings.classes} classes,"
            f" the data has {raw.train.images.shape[1:]} and {len(raw.class_names)}; correct params.yaml"
        )
    whitening = whiten.fit(raw.train.images, zca=settings.whitening == "zca")
    for part, split in (("train", raw.train), ("test", raw.test)):
        store.save(DATA / name / f"{part}.npz", store.SPLIT, **split._asdict(), class_names=raw.class_names)
    store.save(DATA / name / "whitening.npz", store.WHITENING, **whitening._asdict())


if __name__ == "__main__":
    run(main)
