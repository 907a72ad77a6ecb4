"""What the judging stages load: a distilled set and the whitened test split of its dataset."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcig import distill, nets, params, rows, store, train, whiten
from stages.common import DATA, DISTILLED


class Inputs(NamedTuple):
    experiment: params.Experiment
    dataset: params.DatasetParams
    whitening: whiten.Whitening
    images: np.ndarray
    """(seeds, n, h, w, c) in whitened space"""
    labels: np.ndarray
    """(seeds, n, C)"""
    test_images: np.ndarray
    """(N, h, w, c) in whitened space"""
    test_labels: np.ndarray
    """(N,)"""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.test_images.shape[1:]

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
    test = store.load(DATA / experiment.dataset / "test.npz", store.SPLIT)
    whitening = whiten.Whitening(**store.load(DATA / experiment.dataset / "whitening.npz", store.WHITENING))
    return Inputs(
        experiment,
        settings.datasets[experiment.dataset],
        whitening,
        distilled["images"],
        distilled["labels"],
        np.asarray(whiten.apply(whitening, test["images"])),
        test["labels"],
    )


def accuracy_rows(
    inputs: Inputs, net: nets.Net, schedule: train.Schedule, networks: int, where: dict[str, Any]
) -> list[rows.Row]:
    """Test accuracy of networks trained on the set of every seed; `where` gives protocol, architecture and width."""
    fit, outputs = train.trainer(net, schedule, networks), train.tester(net)
    found = []
    for seed, (x, y) in inputs.supports():
        values = train.accuracy(outputs(fit(jax.random.key(seed), x, y), inputs.test_images), inputs.test_labels)
        found += rows.of_networks(inputs.experiment, values, **where, seed=seed, metric="accuracy")
    return found
