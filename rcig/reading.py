"""The verb for sets that others have published. The pipeline has the method `external` for them."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from rcig import strict, whiten
from rcig.data import real, splits
from rcig.errors import ParamsError
from rcig.external.arrays import Data
from rcig.fields import NOT_NEGATIVE, check_name, shown
from rcig.methods import external
from rcig.sets import DistilledSet


def read(path: str | Path, dataset: str, *, seed: int = 0, **settings: Any) -> DistilledSet:
    """A set that others have published: a file or a folder in one of the layouts of rcig.external.layouts.

    `dataset`: the name of the one that it is of, which the pipeline has prepared in this folder. `settings` say what
    the numbers mean where the file does not, see rcig.methods.external.Settings: space="kornia_zca", labels="logits".
    `seed` is the number of the set in a file that has several. The set keeps the space of its authors, and `judge`
    tests its networks on real images of that space.

    Warns of what is odd. Raises ParamsError for a file that is no such set and for numbers that do not fit what is
    said of them, StoreError for a dataset that is not there, and TooLargeError.

    >>> theirs = rcig.read("logged_files/CIFAR10/run", "cifar10", space="kornia_zca")
    >>> theirs.images.shape, theirs.meta["settings"]["learned_rate"]
    ((100, 32, 32, 3), 0.018)
    """
    if not isinstance(path, str | Path):
        raise ParamsError(f"read.path: expected the path of a file or a folder, got {shown(path)}")
    check_name("read.dataset", strict.convert(str, dataset, "read.dataset"))
    given = strict.parse(external.Settings, settings, "read")
    seed = strict.convert(Annotated[int, NOT_NEGATIVE], seed, "read.seed")
    train, class_names = real.load_split(dataset, "train")
    view, path = splits.whole(train), Path(path)
    loaded = real.Real(view, view, real.load_whitening(dataset), class_names)
    data = Data(train.images.shape[1:], class_names)
    found = external.find(path, data, seed)
    said, whitening = external.meaning(given, found), external.whitening_of(given, found, dataset, loaded)
    seen, labels = external.taken(path, found, said, data, whitening)
    images = np.asarray(seen, np.float32)
    meta = {
        "dataset": dataset,
        "images_per_class": -(-len(images) // len(class_names)),
        "method": "external",
        "mirror": found.mirror and data.shape[-1] > 1,
        "seeds": [seed],
        "class_names": class_names,
        "mean": whitening.mean.tolist(),
        "std": whitening.std.tolist(),
        "settings": dataclasses.asdict(external.in_force(given, said)),
    }
    return DistilledSet(images, labels.astype(np.float32), whiten.to_pixels(whitening, images), meta, whitening)
