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
import pandas as pd

from rcig import distill, nets, params, train, whiten
from rcig.data import splits
from rcig.distill import loop
from rcig.distill.given import load_external
from stages.common import DATA
from stages.real import Real, load_real, visible

CHECKPOINTS = Path(".checkpoints")


class Source(NamedTuple):
    """The real images of a distillation."""

    dataset: params.DatasetParams
    real: Real
    heldout_accuracy: Callable[[distill.Distilled], float]
    """of networks trained on a set, on the held-out part"""


def load_source(settings: params.Params, experiment: params.Experiment) -> Source:
    dataset = settings.dataset(experiment.dataset)
    real = load_real(experiment.dataset, dataset)
    shape = (dataset.resolution, dataset.resolution, dataset.channels)
    net = nets.build("conv", shape, dataset.classes, width=experiment.width, depth=dataset.depth)
    judge = train.validator(net, real.held_out, whiten.on_device(real.whitening))
    mirror = params.mirrored(dataset, experiment)
    accuracy = lambda distilled: judge(*distill.support(distilled, mirror))  # noqa: E731
    return Source(dataset, real, accuracy)


def make_task(source: Source, experiment: params.Experiment, seed: int) -> loop.Task:
    """The run of an experiment from that seed. Raises ParamsError where its settings do not fit its set."""
    return loop.Task(
        distill.make(source.dataset, experiment),
        initial(source, experiment, seed),
        visible(source.real.seen, experiment, seed),
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
    classes, dataset = source.dataset.classes, source.dataset
    if isinstance(experiment.settings, params.ExternalParams):
        shape = (dataset.resolution, dataset.resolution, dataset.channels)
        count = experiment.images_per_class * classes
        return load_external(experiment.settings, source.real.whitening, shape, count, classes)
    seen = visible(source.real.seen, experiment, seed)
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
