"""What the judging stages share: a distilled set, the test split of its dataset, and networks tested on it."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcig import distill, nets, params, rows, store, train, whiten
from rcig.data import splits
from rcig.distill import blocks
from rcig.nets import Variables
from stages.common import DISTILLED
from stages.real import load_split, load_whitening


class Inputs(NamedTuple):
    experiment: params.Experiment
    dataset: params.DatasetParams
    whitened: Callable[[np.ndarray], jax.Array]
    """from uint8 images"""
    images: np.ndarray
    """(seeds, n, h, w, c) in whitened space"""
    labels: np.ndarray
    """(seeds, n, C)"""
    test: splits.View
    class_names: list[str]
    method: str
    """in the rows of what is found"""
    mirror: bool
    """whether it is used with its mirror images, as it was distilled; a part is used as the whole is"""

    def part(self, per_class: int) -> "Inputs":
        """The same with so many images per class of every seed's set, see rcig.distill.blocks."""
        experiment, boosted = self.experiment, not isinstance(self.experiment.boost, str)
        sizes = per_class, experiment.images_per_class, self.dataset.classes
        chosen = np.stack([blocks.part(*sizes, boosted, seed) for seed in experiment.seeds])
        every = np.arange(len(chosen))[:, None]
        judged = dataclasses.replace(experiment.evaluate, subsets=())
        smaller = dataclasses.replace(experiment, images_per_class=per_class, boost="none", evaluate=judged)
        return self._replace(
            experiment=smaller,
            images=self.images[every, chosen],
            labels=self.labels[every, chosen],
            method=f"{self.method}{rows.SUBSET}",
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape[2:]

    def supports(self) -> Iterator[tuple[int, tuple[jax.Array, jax.Array]]]:
        """(seed, (images, labels)) to train on, mirror images included where the dataset uses them."""
        for seed, images, labels in zip(self.experiment.seeds, self.images, self.labels, strict=True):
            one = distill.Distilled(jnp.asarray(images), jnp.asarray(labels), jnp.zeros(()))
            yield seed, distill.support(one, self.mirror)


def load_inputs(name: str) -> Inputs:
    """Everything that is needed to judge the experiment of that name."""
    settings = params.load()
    experiment = settings.experiment(name)
    dataset = settings.datasets[experiment.dataset]
    path = DISTILLED / f"{name}.npz"
    distilled = store.load(path, store.DISTILLED)
    check_set(path, distilled, experiment, dataset)
    test, class_names = load_split(experiment.dataset, "test")
    return Inputs(
        experiment,
        dataset,
        whiten.on_device(load_whitening(experiment.dataset)),
        distilled["images"],
        distilled["labels"],
        splits.whole(test),
        class_names,
        experiment.label,
        params.mirrored(dataset, experiment),
    )


def check_set(
    path: Path, distilled: dict[str, np.ndarray], experiment: params.Experiment, dataset: params.DatasetParams
) -> None:
    """Raise StoreError unless the set is one of the experiment's, with numbers that networks can be trained on."""
    side, classes = dataset.resolution, dataset.classes
    sets = (len(experiment.seeds), experiment.images_per_class * classes)
    expected = {"images": (*sets, side, side, dataset.channels), "labels": (*sets, classes)}
    for name, shape in expected.items():
        if distilled[name].shape != shape:
            raise store.StoreError(
                f"{path}: a set of another experiment: expected {name} {shape}, got {distilled[name].shape};"
                " remove it and run `dvc repro`"
            )
        bad = np.count_nonzero(~np.isfinite(distilled[name]))
        if bad:
            raise store.StoreError(f"{path}: {bad} NaN or infinite {name}; remove it and distil again")


class Networks(NamedTuple):
    """How networks of one kind are trained and tested, compiled once."""

    course: Callable[..., Iterator[tuple[int, Variables]]]
    """see rcig.train"""
    outputs: Callable[[Variables, splits.View], np.ndarray]


class Judged(NamedTuple):
    rows: list[rows.Row]
    predicted: np.ndarray
    """(seeds, k, n) classes, of the fully trained networks"""


def networks(inputs: Inputs, architecture: str, width: int, schedule: train.Schedule, count: int) -> Networks:
    depth = {"depth": inputs.dataset.depth} if architecture in nets.WITH_DEPTH else {}
    net = nets.build(architecture, inputs.shape, inputs.dataset.classes, width=width, **depth)
    return Networks(train.course(net, schedule, count), train.tester(net, inputs.whitened))


def judge(
    inputs: Inputs,
    trained: Networks,
    where: dict[str, Any],
    labels: train.Relabel = train.own_labels,
    **course: Any,
) -> Judged:
    """Test accuracy of networks trained on the set of every seed, after each step that `course` looks at.

    `labels` makes those trained on of the set's own; `where` gives protocol, architecture and width.
    """
    found, predicted = [], []
    for seed, (x, y) in inputs.supports():
        for step, variables in trained.course(jax.random.key(seed), x, labels(y), **course):
            logits = trained.outputs(variables, inputs.test)
            values = train.accuracy(logits, inputs.test.labels)
            place = where | {"method": inputs.method, "seed": seed, "step": step}
            found += rows.of_networks(inputs.experiment, values, **place, metric="accuracy")
        predicted.append(logits.argmax(-1))
    return Judged(found, np.stack(predicted))
