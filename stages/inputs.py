"""What the judging stages load: a distilled set and the whitened test split of its dataset."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcig import distill, nets, params, rows, store, train, whiten
from rcig.data import splits
from stages.common import DATA, DISTILLED


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

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape[2:]

    def supports(self) -> Iterator[tuple[int, tuple[jax.Array, jax.Array]]]:
        """(seed, (images, labels)) to train on, mirror images included where the dataset uses them."""
        for seed, images, labels in zip(self.experiment.seeds, self.images, self.labels, strict=True):
            one = distill.Distilled(jnp.asarray(images), jnp.asarray(labels), jnp.zeros(()))
            yield seed, distill.support(one, self.dataset.mirror)


def load_inputs(name: str) -> Inputs:
    """Everything that is needed to judge the experiment of that name."""
    settings = params.load()
    experiment = settings.experiment(name)
    distilled = store.load(DISTILLED / f"{name}.npz", store.DISTILLED)
    test = load_split(experiment.dataset, "test")
    whitening = whiten.Whitening(**store.load(DATA / experiment.dataset / "whitening.npz", store.WHITENING))
    return Inputs(
        experiment,
        settings.datasets[experiment.dataset],
        whiten.on_device(whitening),
        distilled["images"],
        distilled["labels"],
        splits.whole(test),
    )


def load_split(dataset: str, part: str) -> splits.Split:
    """The raw images and labels of a dataset's `train` or `test` part."""
    arrays = store.load(DATA / dataset / f"{part}.npz", store.SPLIT)
    return splits.Split(arrays["images"], arrays["labels"])


def accuracy_rows(
    inputs: Inputs, net: nets.Net, schedule: train.Schedule, networks: int, where: dict[str, Any]
) -> list[rows.Row]:
    """Test accuracy of networks trained on the set of every seed; `where` gives protocol, architecture and width."""
    fit, outputs = train.trainer(net, schedule, networks), train.tester(net, inputs.whitened)
    found = []
    for seed, (x, y) in inputs.supports():
        values = train.accuracy(outputs(fit(jax.random.key(seed), x, y), inputs.test), inputs.test.labels)
        found += rows.of_networks(inputs.experiment, values, **where, seed=seed, metric="accuracy")
    return found
