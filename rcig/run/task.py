"""From the settings of a run and its real images to a task for the loop."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcig import nets, store, whiten
from rcig.data import splits
from rcig.data.real import Real, visible
from rcig.data.settings import Dataset
from rcig.data.splits import View
from rcig.errors import ParamsError
from rcig.fields import build
from rcig.judging.protocols import PROTOCOLS
from rcig.methods import blocks, saved
from rcig.methods.base import Distilled, Setup, support
from rcig.passes import everywhere, shapes
from rcig.run.loop import Task
from rcig.run.settings import Run
from rcig.run.validate import validator


@dataclass(frozen=True)
class Entry:
    """What the stage `distill` reads of plan.json."""

    dataset: Dataset
    run: Run


class Source(NamedTuple):
    """The real images of a run."""

    dataset: Dataset
    real: Real
    heldout_accuracy: Callable[[Distilled], float]
    """of networks trained on a set, on the held-out part"""
    validations: Callable[[Distilled], list[jax.stages.Lowered]] = lambda distilled: []
    """the programs that find this accuracy of such a set, for the compiler"""


def source_of(run: Run, dataset: Dataset, real: Real) -> Source:
    protocol = PROTOCOLS[run.loop.protocol]
    width = protocol.width or run.width
    net = nets.build(protocol.architecture, dataset.shape, dataset.classes, width=width, depth=dataset.depth)
    schedule = protocol.schedule(run.images_per_class * dataset.classes)
    judge = validator(net, schedule, protocol.labels, real.held_out, whiten.on_device(real.whitening))
    pairs = partial(support, mirror=run.mirror and protocol.mirror)
    return Source(dataset, real, lambda one: judge(*pairs(one)), lambda one: judge.lowered(*shapes(pairs, one)))


def method_of(run: Run) -> Any:
    """The module of the run's method, see rcig.methods."""
    return importlib.import_module(f"rcig.methods.{run.module}")


def typed(run: Run) -> Run:
    """The run with its method's settings as that method's Settings, where they are a mapping."""
    return replace(run, settings=build(method_of(run).Settings, run.settings))


def prepared(run: Run, real: Real) -> Real:
    """The real images of a run: those of its dataset, whitened as a set is that was made elsewhere."""
    file = method_of(run)
    return file.prepared(run.settings, Path(run.needs), run.dataset, real) if hasattr(file, "prepared") else real


def make_task(source: Source, run: Run, seed: int, before: Distilled | None = None) -> Task:
    """The task of a run from that seed, or of its next block. Raises ParamsError where settings do not fit.

    `before`: the blocks that are there already, of a run with `boost`.
    """
    seen = visible(source.real.seen, run.chunk, seed)
    own_seed = seed if before is None else blocks.seed_of(seed, len(before.images))
    file = method_of(run)
    old, new = 0 if before is None else len(before.images), run.blocks[0] * source.dataset.classes
    start = None
    if file.MEMBERS[run.method].starts:
        start = initial(source, run, own_seed, seen)
        if before is not None:
            start = blocks.join(before, start)
    mobility = None if run.boost is None else (run.boost.mobility,) * old + (1.0,) * new
    setup = make_setup(source, run, own_seed, seen, old + new, mobility)
    method = file.make(run.settings, setup)
    return Task(method, start, run.loop.steps, run.loop.validate_every, own_seed, run.loop.returned)


def make_setup(
    source: Source, run: Run, seed: int, seen: View, images: int, mobility: tuple[float, ...] | None = None
) -> Setup:
    """What the run's method gets, for a set of so many images."""
    dataset = source.dataset
    return Setup(
        shape=dataset.shape,
        class_names=source.real.class_names,
        images=images,
        steps=run.loop.steps,
        mirror=run.mirror,
        l2_rate=dataset.l2_rate,
        basis=run.basis,
        mobility=mobility,
        network=partial(_network, run, dataset),
        seen=seen,
        whitened=whiten.on_device(source.real.whitening, everywhere()),
        whitening=source.real.whitening,
        batch_size=run.loop.batch_size,
        weights=weights_of(run, seen),
        seed=seed,
        needs=Path(run.needs),
    )


def chosen_settings(source: Source, run: Run) -> Any:
    """The method's settings in force on this machine, for the whole set."""
    module = method_of(run)
    if not hasattr(module, "chosen"):
        return run.settings
    count = run.images_per_class * source.dataset.classes
    return module.chosen(run.settings, make_setup(source, run, run.seeds[0], source.real.seen, count))


def initial(source: Source, run: Run, seed: int, seen: View) -> Distilled:
    """The first block of a run: random real images or noise, with hard labels; or the set that the run needs."""
    classes = source.dataset.classes
    if run.initialisation == "stored":
        shape = (run.blocks[0] * classes, *source.dataset.shape)
        return saved.of_seed(Path(run.needs), seed, shape, classes, source.real.whitening)
    chosen = seen.take(splits.sample_per_class(seen.labels, run.blocks[0], classes, seed))
    images = whiten.apply(source.real.whitening, chosen.images)
    if run.initialisation != "real":
        images = jax.random.normal(jax.random.key(seed), images.shape)
    if run.initialisation == "unit_noise":
        images = images / jnp.linalg.norm(images.reshape(len(images), -1), axis=1)[:, None, None, None]
    return Distilled(images, jax.nn.one_hot(chosen.labels, classes) - 1 / classes, jnp.zeros(()))


def weights_of(run: Run, seen: View) -> np.ndarray | None:
    """How often each of these images is to be drawn, in proportion; None: all alike."""
    weights = None
    if run.hardness is not None:
        weights = load_weights(Path(run.needs), run.hardness.strength, seen)
    if run.loop.drawn == "class":
        by_class = 1 / np.bincount(seen.labels)[seen.labels]
        weights = by_class if weights is None else weights * by_class
    return weights


def load_weights(path: Path, strength: float, seen: View) -> np.ndarray:
    """How often each of these images is to be drawn, in proportion. Raises ParamsError for scores that do not fit."""
    scores = store.load(path, store.SCORES)
    if len(scores["missed"]) != len(seen.split.labels):
        raise ParamsError(
            f"{path}: scores of {len(scores['missed'])} images, the training split has {len(seen.split.labels)};"
            " use those of this dataset"
        )
    return 1 + strength * scores["missed"][seen.members] / scores["networks"]


def _network(run: Run, dataset: Dataset, architecture: str, **more: Any) -> nets.Net:
    net = nets.build(architecture, dataset.shape, dataset.classes, width=run.width, depth=dataset.depth, **more)
    return nets.at_precision(net, run.loop.precision)
