"""What the distilling stages share: their inputs, the start of a run, its judge, the names of its checkpoints."""

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
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
from stages.real import Real, load_real, visible

CHECKPOINTS = Path(".checkpoints")
TIMED = 3
"""steps that an estimate rests on"""
UNTIMED = 2
"""The first steps are not timed: at automatic rates, solver adam searches for them in the first."""


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


def estimate(task: loop.Task) -> tuple[str, loop.Step]:
    """What a run will take, in words, and its compiled step."""
    state, step = loop.begin(task)
    memory = memory_mb(step.lower(0, state, *loop.reader(task)(0)).compile())
    seconds = seconds_per_step(task, step, state, TIMED)
    minutes = task.steps * seconds / 60
    return (
        f"{task.steps} steps of {seconds:.2g} s each, about {minutes:.0f} minutes and the validations;"
        f" {memory:.0f} MiB for a step",
        step,
    )


def memory_mb(compiled: jax.stages.Compiled) -> float:
    """MiB for the arguments, results and temporaries of a step: the compiler's plan, which is no measurement.

    It is the same on every machine of one backend, whatever else runs there.
    """
    plan: Any = compiled.memory_analysis()
    # The State that goes in shares its memory with the one that comes out.
    inputs = plan.argument_size_in_bytes - plan.alias_size_in_bytes
    return (plan.temp_size_in_bytes + inputs + plan.output_size_in_bytes) / 2**20


def seconds_per_step(task: loop.Task, step: loop.Step, state: Any, timing_steps: int) -> float:
    """Median over the steps after the first UNTIMED, each waited for."""
    read, seconds = loop.reader(task), []
    for i in range(UNTIMED + timing_steps):
        images, labels = read(i)
        start = time.perf_counter()
        state, _ = jax.block_until_ready(step(i, state, images, labels))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[UNTIMED:]))


def digest(origin: dict[str, str], *settings: Any) -> str:
    """Names what a run depends on, so that a checkpoint is never continued by another: its provenance and settings."""
    parts = json.dumps([*settings, jax.__version__, origin], sort_keys=True, default=_as_dict)
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def provenance(dataset: str) -> dict[str, str]:
    """Fingerprints of the code that is loaded and of the real images with their whitening."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "rcig"]
    code = [Path(module.__file__) for module in modules if module.__file__]
    data = [DATA / dataset / "train.npz", DATA / dataset / "whitening.npz"]
    return {"code": _fingerprint(code), "data": _fingerprint(data)}


def _fingerprint(paths: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()[:16]


def _as_dict(settings: Any) -> dict[str, Any]:
    """Settings without those that only judge a set."""
    judging = ("evaluate", "cross_arch", "attack")
    return {key: value for key, value in dataclasses.asdict(settings).items() if key not in judging}
