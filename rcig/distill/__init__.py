"""Distillation methods behind one interface, see `base.Distiller`, and the loop that runs any of them."""

import dataclasses
import os
import warnings
from typing import Any

import jax
import numpy as np

from rcig.distill import basis as bases
from rcig.distill.base import Batch, Distilled, Distiller, support
from rcig.distill.given import given
from rcig.distill.implicit import implicit_gradient
from rcig.distill.outer import Setting
from rcig.distill.unrolled import unrolled_gradient
from rcig.nets import Net, build
from rcig.params import DatasetParams, Experiment, ImplicitParams, ParamsError, UnrolledParams, mirrored, steps

__all__ = ["Batch", "Distilled", "Distiller", "chosen_settings", "make", "support"]

DENSE_UNKNOWNS = 500
"""solver auto takes dense up to this many unknowns, images times classes"""
DENSE_MEMORY = 0.5
"""fraction of the device's memory that the Jacobian of solver dense may take"""


def make(dataset: DatasetParams, experiment: Experiment, mobility: tuple[float, ...] | None = None) -> Distiller:
    """The distiller that an experiment asks for. Raises ParamsError where its settings do not fit its set.

    `mobility`: a factor on the updates of each image of a set that grows, see `outer.Setting`. The set has so many
    images, and the solver is chosen for them; None: as many as the experiment says.
    """
    settings = chosen_settings(dataset, experiment)
    if mobility is not None:
        settings = chosen_settings(dataset, experiment, len(mobility))
    if not isinstance(settings, ImplicitParams | UnrolledParams):
        return given()
    mirror = mirrored(dataset, experiment)
    if mirror and dataset.channels == 1:
        warnings.warn("mirror: true on grey images; a mirrored digit or letter is often another one", stacklevel=2)
    basis = None if isinstance(experiment.basis, str) else experiment.basis
    count = experiment.images_per_class * dataset.classes
    pixels = dataset.resolution**2 * dataset.channels
    if basis is not None and basis > pixels:
        raise ParamsError(f"basis {basis} is more than the {pixels} pixels of an image; lower it, or set basis: none")
    stored, plain = (bases.numbers(count, dataset.classes, pixels, images) for images in (basis, None))
    if stored > plain:
        warnings.warn(
            f"basis {basis}: with their coefficients so many basis images take {stored:,} numbers, the {count} images"
            f" themselves {plain:,}; lower it, or set basis: none",
            stacklevel=2,
        )
    setting = Setting(steps(dataset, experiment), basis, mobility)
    net = _network(dataset, experiment)
    if isinstance(settings, UnrolledParams):
        return unrolled_gradient(net, settings, mirror, setting)
    return implicit_gradient(net, settings, dataset.l2_rate, mirror, setting)


def chosen_settings(dataset: DatasetParams, experiment: Experiment, count: int | None = None) -> Any:
    """The experiment's settings with `solver: auto` replaced by what it picks. Raises ParamsError, see `make`.

    `count`: images of the set, where it has not all of the experiment's yet; `subset` and `cg_iterations` may be too
    large for it then, which does no harm.
    """
    settings = experiment.settings
    if not isinstance(settings, ImplicitParams):
        return settings
    whole = count is None
    images = (count or experiment.images_per_class * dataset.classes) * (2 if mirrored(dataset, experiment) else 1)
    if whole and settings.subset != "all" and settings.subset > images:
        raise ParamsError(
            f"subset {settings.subset} is larger than the set of {images} images; give at most that, or all"
        )
    if settings.body_weight == 0:
        return settings
    unknowns = images * dataset.classes
    body = jax.eval_shape(_network(dataset, experiment).init, jax.random.key(0))["params"]["body"]
    # The Jacobian and the system's matrix with its factor, in float32.
    gib = 4 * unknowns * (sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(body)) + 2 * unknowns) / 2**30
    fits = gib <= DENSE_MEMORY * _memory_gib()
    if settings.solver == "auto":
        settings = dataclasses.replace(settings, solver="dense" if fits and unknowns <= DENSE_UNKNOWNS else "cg")
    if settings.solver == "dense" and not fits:
        raise ParamsError(
            f"solver dense would need {gib:.1f} GiB for the Jacobian and kernel of {images} images and"
            f" {dataset.classes} classes, of {_memory_gib():.1f} GiB on this device; use solver: cg"
        )
    if whole and settings.solver == "cg" and settings.cg_iterations > unknowns:
        raise ParamsError(
            f"cg_iterations {settings.cg_iterations} is more than the {unknowns} unknowns of {images} images and"
            f" {dataset.classes} classes; conjugate gradients ends by then, 20 are usually enough"
        )
    return settings


def _network(dataset: DatasetParams, experiment: Experiment) -> Net:
    shape, settings = (dataset.resolution, dataset.resolution, dataset.channels), experiment.settings
    sizes = {"width": experiment.width, "depth": dataset.depth}
    if isinstance(settings, UnrolledParams):
        return build(settings.architecture, shape, dataset.classes, **sizes)
    architecture = "conv_bn" if settings.batch_norm else "conv"
    return build(architecture, shape, dataset.classes, **sizes, temperature=settings.softplus_temperature)


def _memory_gib() -> float:
    """Memory of the first device; on a CPU that of the machine."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float(statistics.get("bytes_limit", installed)) / 2**30
