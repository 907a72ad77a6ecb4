"""One outer step of RCIG with everything that belongs to it: whitening of the batch, solve, gradient, pool training.

    python -m benchmarks.outer_step --dataset cifar10 --images-per-class 1 --width 128 --batch 1024

Prints one line of JSON. `share` is the arithmetic that must be done over the time spent, as a fraction of the rate of
the machine's matrix products at the same precision. Images are noise of the dataset's shape, whitened by a matrix of
its size, so nothing has to be prepared.
"""

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import matmul_gflops, peak_rss_mib, run, seconds
from rcig import nets, plan, planned, resources, whiten
from rcig.data.settings import Dataset
from rcig.data.splits import Split, whole
from rcig.methods import implicit
from rcig.methods.base import Distilled, Setup
from rcig.run import loop

MNIST = Dataset(28, 1, 10, depth=3, whitening="standard", mirror=False, l2_rate=5e-4, held_out=0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist", help="one that params.yaml lists (default: mnist)")
    parser.add_argument("--images-per-class", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--body-weight", type=float, default=implicit.Settings.body_weight)
    parser.add_argument("--solver", choices=["auto", "adam", "dense", "cg"], default="auto")
    parser.add_argument("--iterations", type=int, help="of cg, or of each kind of adam's steps (default: the method's)")
    parser.add_argument(
        "--backward-images", type=int, help="distilled images that a backward pass goes through (default: all)"
    )
    parser.add_argument("--precision", choices=["float32", "tensorfloat32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--profile", metavar="FOLDER", help="leave there what the kernels of three steps took")
    options = parser.parse_args()
    dataset = plan.read(planned.PARAMS)[0].datasets[options.dataset]
    settings = dataclasses.replace(
        solver_settings(options.solver, options.iterations, options.backward_images), body_weight=options.body_weight
    )
    images = options.images_per_class * dataset.classes
    case = prepare(implicit, settings, options.width, options.batch, images, dataset, options.precision)
    spent = seconds(case.run, options.repeats)
    with jax.profiler.trace(options.profile) if options.profile else contextlib.nullcontext():
        jax.block_until_ready([case.run() for _ in range(3 if options.profile else 0)])
    work = gflop(dataset, options.width, options.batch, images, case.settings)
    rate = matmul_gflops(options.precision)
    found = {
        "dataset": options.dataset,
        "images_per_class": options.images_per_class,
        "width": options.width,
        "batch": options.batch,
        "solver": case.settings.solver,
        "body_weight": options.body_weight,
        "precision": options.precision,
        "device": jax.devices()[0].device_kind,
        "seconds": round(spent, 4),
        "gflop": round(work, 2),
        "gflops": round(work / spent, 1),
        "matmul_gflops": round(rate, 1),
        "share": round(work / spent / rate, 3),
        "step_memory_mib": round(case.memory_mib),
        "peak_rss_mib": round(peak_rss_mib()),
    }
    print(json.dumps(found))


def solver_settings(solver: str, iterations: int | None, backward_images: int | None = None) -> implicit.Settings:
    """RCIG's defaults with what the command line gives. A first step that searches for adam's rates is not timed."""
    numbers = ("cg_iterations", "inner_steps", "inverse_steps")
    given: dict[str, Any] = {"solver": solver, "backward_images": backward_images}
    if iterations:
        given |= dict.fromkeys(numbers, iterations)
    return dataclasses.replace(implicit.Settings(), **given)


class Case(NamedTuple):
    run: Callable[[], jax.Array]
    """one step; returns its loss"""
    memory_mib: float
    """of the compiled step"""
    settings: Any
    """with the solver that was picked"""


def prepare(
    method: ModuleType,
    settings: Any,
    width: int,
    batch: int,
    images: int,
    dataset: Dataset = MNIST,
    precision: str = "float32",
) -> Case:
    """A compiled outer step of a method, a file of rcig/methods, on noise of the shape of a dataset."""
    train, start = noise(batch, dataset), initial(images, dataset)
    whitening = whitening_of(train.images, dataset)
    setup = make_setup(train, whitening, width, batch, images, dataset=dataset, precision=precision)
    if hasattr(method, "chosen"):
        settings = method.chosen(settings, setup)
    task = loop.Task(method.make(settings, setup), start, setup.steps, setup.steps, setup.seed)
    state, step = loop.initial(task), loop.compiled_step(task)
    compiled = step.lower(0, state, task.method.feed(0)).compile()
    steps = 0

    def one() -> jax.Array:
        nonlocal state, steps
        state, info = compiled(steps, state, task.method.feed(steps))
        steps += 1
        return info["loss"]

    return Case(one, resources.planned(compiled) / 2**20, settings)


def noise(images: int, dataset: Dataset = MNIST) -> Split:
    """Images of noise, with as many of one class as of another."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, *dataset.shape)).astype(np.uint8)
    return Split(pixels, (np.arange(images) % dataset.classes).astype(np.int32))


def initial(images: int, dataset: Dataset = MNIST) -> Distilled:
    """A set of noise with hard labels."""
    pixels = jnp.asarray(np.random.default_rng(1).normal(size=(images, *dataset.shape)), jnp.float32)
    labels = jax.nn.one_hot(jnp.arange(images) % dataset.classes, dataset.classes) - 1 / dataset.classes
    return Distilled(pixels, labels, jnp.zeros(()))


def whitening_of(images: np.ndarray, dataset: Dataset) -> whiten.Whitening:
    """By mean and deviation, and then by a matrix of the size that the dataset's whitening has: the unit matrix."""
    fitted = whiten.fit(images, "standard")
    if dataset.whitening == "standard":
        return fitted
    side = whiten.BLOCK if dataset.whitening == "zca_checkerboard" else dataset.resolution
    unit = np.eye(side**2 * dataset.channels, dtype=np.float32)
    none = np.zeros(dataset.shape, np.float32)
    return fitted._replace(mean_image=none, forward=unit, inverse=unit, eigenvalues=np.ones(len(unit), np.float32))


def make_setup(
    train: Split,
    whitening: whiten.Whitening,
    width: int,
    batch: int,
    images: int,
    steps: int = 10**6,
    dataset: Dataset = MNIST,
    precision: str = "float32",
) -> Setup:
    """What the method of a run on these real images gets."""

    def network(architecture: str, **more: Any) -> nets.Net:
        net = nets.build(architecture, dataset.shape, dataset.classes, width=width, depth=dataset.depth, **more)
        return nets.at_precision(net, precision)

    return Setup(
        shape=dataset.shape,
        class_names=[str(i) for i in range(dataset.classes)],
        images=images,
        steps=steps,
        mirror=dataset.mirror,
        l2_rate=dataset.l2_rate,
        basis=None,
        mobility=None,
        network=network,
        seen=whole(train),
        whitened=whiten.on_device(whitening),
        whitening=whitening,
        batch_size=batch,
        weights=None,
        seed=0,
        needs=Path("inputs/none"),
    )


def gflop(dataset: Dataset, width: int, batch: int, images: int, settings: implicit.Settings) -> float:
    """Arithmetic that must be done in 10⁹ operations: of the convolutions, and of the system of `dense`.

    A layer's forward pass, weight gradient and input gradient cost the same; the first layer needs no input gradient.
    Of the iterations of `cg` and `adam` none is counted: how many must be done is a choice.
    """
    channels, side = dataset.channels, dataset.resolution + (4 if dataset.channels == 1 else 0)
    layers, weights = [], 0
    for stage in range(dataset.depth):
        filters = width * 2**stage
        layers.append(2 * side**2 * 9 * channels * filters)
        weights += 9 * channels * filters
        channels, side = filters, side // 2
    first, rest = layers[0], sum(layers[1:])
    forward, tangent, backward = first + rest, first + 2 * rest, first + 2 * rest
    support = images * (2 if dataset.mirror else 1)
    real = forward + tangent + backward
    stationarity = 3 * (forward + 2 * tangent)
    trained = (settings.pool_steps + 1) / 2 * (forward + backward)
    work = batch * real + support * (stationarity + trained)
    if settings.solver == "dense":
        work += support * (forward + dataset.classes * backward) + (support * dataset.classes) ** 2 * weights
    return work / 1e9


if __name__ == "__main__":
    run(main)
