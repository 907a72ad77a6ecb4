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

from rcig import distill, nets, params, store, train, whiten
from rcig.data import splits
from rcig.data.splits import View
from rcig.distill import blocks, loop
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


def make_task(
    source: Source, experiment: params.Experiment, seed: int, before: distill.Distilled | None = None
) -> loop.Task:
    """The run of an experiment from that seed, or of its next block. Raises ParamsError where settings do not fit.

    `before`: the blocks that are there already, of an experiment with `boost`.
    """
    seen = visible(source.real.seen, experiment, seed)
    own_seed = seed if before is None else blocks.seed_of(seed, len(before.images))
    start = initial(source, experiment, own_seed, seen)
    mobility = None
    if not isinstance(experiment.boost, str):
        mobility = (1.0,) * len(start.images)
        if before is not None:
            mobility = (experiment.boost.mobility,) * len(before.images) + mobility
            start = blocks.join(before, start)
    return loop.Task(
        distill.make(source.dataset, experiment, mobility),
        start,
        seen,
        source.dataset.classes,
        source.real.whitening,
        params.steps(source.dataset, experiment),
        experiment.loop.batch_size,
        experiment.loop.validate_every,
        own_seed,
        experiment.loop.returned,
        experiment.loop.precision,
        None if isinstance(experiment.hardness, str) else load_weights(experiment.hardness, seen),
    )


def initial(source: Source, experiment: params.Experiment, seed: int, seen: View) -> distill.Distilled:
    """The first block of a run: random real images, or noise, with hard labels; or a set made elsewhere."""
    classes, dataset = source.dataset.classes, source.dataset
    if isinstance(experiment.settings, params.ExternalParams):
        shape = (dataset.resolution, dataset.resolution, dataset.channels)
        count = experiment.images_per_class * classes
        return load_external(experiment.settings, source.real.whitening, shape, count, classes)
    chosen = seen.take(splits.sample_per_class(seen.labels, experiment.blocks[0], classes, seed))
    images = whiten.apply(source.real.whitening, chosen.images)
    if experiment.initialisation != "real":
        images = jax.random.normal(jax.random.key(seed), images.shape)
    if experiment.initialisation == "unit_noise":
        images = images / jnp.linalg.norm(images.reshape(len(images), -1), axis=1)[:, None, None, None]
    return distill.Distilled(images, jax.nn.one_hot(chosen.labels, classes) - 1 / classes, jnp.zeros(()))


def load_weights(hardness: params.HardnessParams, seen: View) -> np.ndarray:
    """How often each of these images is to be drawn, in proportion. Raises ParamsError for scores that do not fit."""
    where = f"hardness.scores {hardness.scores}"
    path = Path(hardness.scores)
    if not path.exists():
        raise params.ParamsError(f"{where}: no such file; make scores by `python -m stages.score EXPERIMENT`")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != hardness.sha256:
        raise params.ParamsError(f"{where}: its sha256 is {found}, not {hardness.sha256}; correct it if that is right")
    scores = store.load(path, store.SCORES)
    if len(scores["missed"]) != len(seen.split.labels):
        raise params.ParamsError(
            f"{where}: scores of {len(scores['missed'])} images, the training split has {len(seen.split.labels)};"
            " use those of this dataset"
        )
    return 1 + hardness.strength * scores["missed"][seen.members] / scores["networks"]


def returned_accuracy(experiment: params.Experiment, curve: pd.DataFrame) -> pd.Series:
    """Held-out accuracy of the returned set of every seed; of a boosted one as it is with its last block."""
    if "block" in curve:
        curve = curve[curve["block"] == curve["block"].max()]
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
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] in ("rcig", "stages")]
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
