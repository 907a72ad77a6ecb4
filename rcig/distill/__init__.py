"""Distillation methods behind one interface, see `base.Distiller`, and the loop that runs any of them."""

from rcig.distill.base import Batch, Distilled, Distiller
from rcig.distill.implicit import implicit_gradient, support
from rcig.distill.random_real import random_real
from rcig.nets import build
from rcig.params import DatasetParams, Experiment, ImplicitParams, steps

__all__ = ["Batch", "Distilled", "Distiller", "make", "support"]


def make(dataset: DatasetParams, experiment: Experiment) -> Distiller:
    """The distiller that an experiment asks for."""
    settings = experiment.settings
    if not isinstance(settings, ImplicitParams):
        return random_real()
    net = build(
        "conv",
        (dataset.resolution, dataset.resolution, dataset.channels),
        dataset.classes,
        width=experiment.width,
        depth=dataset.depth,
        temperature=settings.softplus_temperature,
    )
    return implicit_gradient(net, settings, dataset.l2_rate, dataset.mirror, steps(dataset, experiment))
