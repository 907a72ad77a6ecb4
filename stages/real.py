"""What `preprocess` has left of a dataset, for the stages after it."""

from typing import NamedTuple

import numpy as np

from rcig import params, store, whiten
from rcig.data import splits
from rcig.data.splits import Split, View
from stages.common import DATA


class Real(NamedTuple):
    """The training images of a dataset, in two parts, and their whitening."""

    seen: View
    """what a distiller sees"""
    held_out: View
    """what all selection is made on"""
    whitening: whiten.Whitening
    class_names: list[str]


def load_split(dataset: str, part: str) -> tuple[Split, list[str]]:
    """Raw images and labels of a dataset's `train` or `test` part, and its class names."""
    arrays = store.load(DATA / dataset / f"{part}.npz", store.SPLIT)
    return Split(arrays["images"], arrays["labels"]), arrays["class_names"].tolist()


def load_whitening(dataset: str) -> whiten.Whitening:
    return whiten.Whitening(**store.load(DATA / dataset / "whitening.npz", store.WHITENING))


def load_parts(name: str, dataset: params.DatasetParams) -> tuple[View, View, list[str]]:
    """The training images that distillers see, those that are held out, and the class names."""
    split, class_names = load_split(name, "train")
    mask = splits.held_out_mask(split.labels, dataset.held_out)
    return View(split, np.flatnonzero(~mask)), View(split, np.flatnonzero(mask)), class_names


def load_real(name: str, dataset: params.DatasetParams) -> Real:
    seen, held_out, class_names = load_parts(name, dataset)
    return Real(seen, held_out, load_whitening(name), class_names)


def visible(seen: View, experiment: params.Experiment, seed: int) -> View:
    """The part of the training images that the experiment's distiller sees with that seed."""
    if experiment.chunk == "all":
        return seen
    return View(seen.split, splits.chunk(seen.members, experiment.chunk, seed))
