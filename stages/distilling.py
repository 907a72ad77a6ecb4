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

from rcig import distill, nets, params, train, whiten
from rcig.data import splits
from rcig.distill import loop
from rcig.distill.given import load_external
from stages.common import DATA
from stages.real import load_split, load_whitening

CHECKPOINTS = Path(".checkpoints")


class Real(NamedTuple):
    """The training images of a dataset, in two parts, and their whitening."""

    seen: splits.View
    """what a distiller sees"""
    held_out: splits.View
    """what all selection is made on"""
    whitening: whiten.Whitening
    class_names: list[str]


class Source(NamedTuple):
    """The real images of a distillation."""

    dataset: params.DatasetParams
    real: Real
    heldout_accuracy: Callable[[distill.Distilled], float]
    """of networks trained on a set, on the held-out part"""


def load_real(name: str, dataset: params.DatasetParams) -> Real:
    split, class_names = load_split(name, "train")
    mask = splits.held_out_mask(split.labels, dataset.held_out)
    seen, held_out = (splits.View(split, np.flatnonzero(part)) for part in (~mask, mask))
    return Real(seen, held_out, load_whitening(name), class_names)


def load_source(settings: params.Params, experiment: params.Experiment) -> Source:
    dataset = settings.dataset(experiment.dataset)
    real = load_real(experiment.dataset, dataset)
    shape = (dataset.resolution, dataset.resolution, dataset.channels)
    net = nets.build("conv", shape, dataset.classes, width=experiment.width, depth=dataset.depth)
    judge = train.validator(net, real.held_out, whiten.on_device(real.whitening))
    accuracy = lambda distilled: judge(*distill.support(distilled, dataset.mirror))  # noqa: E731
    return Source(dataset, real, accuracy)


def make_task(source: Source, experiment: params.Experiment, seed: int) -> loop.Task:
    """The run of an experiment from that seed. Raises ParamsError where its settings do not fit its set."""
    return loop.Task(
        distill.make(source.dataset, experiment),
        initial(source, experiment, seed),
        source.real.seen,
        source.dataset.classes,
        source.real.whitening,
        params.steps(source.dataset, experiment),
        experiment.loop.batch_size,
        experiment.loop.validate_every,
        seed,
        experiment.loop.returned,
        experiment.loop.precision,
    )


def initial(source: Source, experiment: params.Experiment, seed: int) -> distill.Distilled:
    """The set a run starts from: random real images, or noise, with hard labels; or a set made elsewhere."""
    seen, classes, dataset = source.real.seen, source.dataset.classes, source.dataset
    if isinstance(experiment.settings, params.ExternalParams):
        shape = (dataset.resolution, dataset.resolution, dataset.channels)
        count = experiment.images_per_class * classes
        return load_external(experiment.settings, source.real.whitening, shape, count, classes)
    chosen = seen.take(splits.sample_per_class(seen.labels, experiment.images_per_class, classes, seed))
    images = whiten.apply(source.real.whitening, chosen.images)
    if experiment.initialisation == "noise":
        images = jax.random.normal(jax.random.key(seed), images.shape)
    return distill.Distilled(images, jax.nn.one_hot(chosen.labels, classes) - 1 / classes, jnp.zeros(()))


def returned_accuracy(experiment: params.Experiment, curve: pd.DataFrame) -> pd.Series:
    """Held-out accuracy of the returned set of every seed."""
    measured = curve.groupby("seed")["heldout_accuracy"]
    return measured.max() if experiment.loop.returned == "best" else measured.last()


def digest(dataset: str, *settings: Any) -> str:
    """Names what a run depends on, so that a checkpoint is never continued by another: settings, code, real images."""
    content = hashlib.sha256(json.dumps([*settings, jax.__version__], sort_keys=True, default=_as_dict).encode())
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "rcig"]
    files = [Path(module.__file__) for module in modules if module.__file__]
    for path in [*files, DATA / dataset / "train.npz", DATA / dataset / "whitening.npz"]:
        with path.open("rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()[:16]


def _as_dict(settings: Any) -> dict[str, Any]:
    """Settings without those that only judge a set."""
    judging = ("evaluate", "cross_arch", "attack")
    return {key: value for key, value in dataclasses.asdict(settings).items() if key not in judging}
