"""What the judging stages load: a distilled set, and the test split of its dataset with its whitening."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcig import distill, nets, params, rows, store, train, whiten
from rcig.data import splits
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
    test, _ = load_split(experiment.dataset, "test")
    return Inputs(
        experiment,
        settings.datasets[experiment.dataset],
        whiten.on_device(load_whitening(experiment.dataset)),
        distilled["images"],
        distilled["labels"],
        splits.whole(test),
    )


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
