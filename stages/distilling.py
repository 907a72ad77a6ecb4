"""What the distilling stages share: their inputs, the start of a run, its judge, the names of its checkpoints."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from rcig import data, distill, nets, params, store, train, whiten
from rcig.distill import loop
from stages.common import DATA

CHECKPOINTS = Path(".checkpoints")


class Source(NamedTuple):
    """The real images of a distillation."""

    dataset: params.DatasetParams
    seen: data.Split
    """the training images without their held-out part"""
    whitening: whiten.Whitening
    class_names: np.ndarray
    heldout_accuracy: Callable[[distill.Distilled], float]
    """of networks trained on a set, on the held-out part"""


def load_source(settings: params.Params, experiment: params.Experiment) -> Source:
    dataset = settings.dataset(experiment.dataset)
    split = store.load(DATA / experiment.dataset / "train.npz", store.SPLIT)
    whitening = whiten.Whitening(**store.load(DATA / experiment.dataset / "whitening.npz", store.WHITENING))
    held_out = data.held_out_mask(split["labels"], dataset.held_out)
    seen = data.Split(split["images"][~held_out], split["labels"][~held_out])
    judge = train.validator(
        nets.build("conv", seen.images.shape[1:], dataset.classes, width=experiment.width, depth=dataset.depth),
        np.asarray(whiten.apply(whitening, split["images"][held_out])),
        split["labels"][held_out],
    )
    return Source(dataset, seen, whitening, split["class_names"], lambda s: judge(*distill.support(s, dataset.mirror)))


def make_task(source: Source, experiment: params.Experiment, seed: int) -> loop.Task:
    """The run of an experiment from that seed. Raises ParamsError where its settings do not fit its set."""
    return loop.Task(
        distill.make(source.dataset, experiment),
        initial(source, experiment, seed),
        source.seen,
        source.whitening,
        params.steps(source.dataset, experiment),
        experiment.loop.batch_size,
        experiment.loop.validate_every,
        seed,
        experiment.loop.returned,
        experiment.loop.precision,
    )


def initial(source: Source, experiment: params.Experiment, seed: int) -> distill.Distilled:
    """The set a run starts from: random real images, or noise, with hard labels."""
    seen, classes = source.seen, source.dataset.classes
    index = data.sample_per_class(seen.labels, experiment.images_per_class, classes, seed)
    images = whiten.apply(source.whitening, seen.images[index])
    if experiment.initialisation == "noise":
        images = jax.random.normal(jax.random.key(seed), images.shape)
    return distill.Distilled(images, jax.nn.one_hot(seen.labels[index], classes) - 1 / classes, jnp.zeros(()))


def returned_accuracy(experiment: params.Experiment, curve: pd.DataFrame) -> pd.Series:
    """Held-out accuracy of the returned set of every seed."""
    measured = curve.groupby("seed")["heldout_accuracy"]
    return measured.max() if experiment.loop.returned == "best" else measured.last()


def digest(dataset: params.DatasetParams, experiment: params.Experiment, *more: Any) -> str:
    """Names what a run depends on, so that a checkpoint is never continued by another: settings, code, inputs."""
    judging = ("evaluate", "cross_arch", "attack")
    used = [
        {key: value for key, value in dataclasses.asdict(experiment).items() if key not in judging},
        dataclasses.asdict(dataset),
        jax.__version__,
        *more,
    ]
    content = hashlib.sha256(json.dumps(used, sort_keys=True).encode())
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "rcig"]
    files = [Path(module.__file__) for module in modules if module.__file__]
    folder = DATA / experiment.dataset
    for file in [*files, folder / "train.npz", folder / "whitening.npz"]:
        content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()[:16]
