"""One outer step of RCIG with everything that belongs to it: whitening of the batch, solve, gradient, pool training.

    python -m benchmarks.outer_step --width 32 --batch 256 --images 10 --json

`share` is the arithmetic that must be done over the time spent, as a fraction of the machine's matrix-product rate.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import matmul_gflops, peak_rss_mb, seconds
from rcig import params, whiten
from rcig.data.splits import Split, whole
from rcig.distill import Distilled, chosen_settings, loop, make
from stages.common import run
from stages.distilling import memory_mb

EXPERIMENT = "mnist_sample-ipc1-rcig"
"""gives all settings that the command line does not"""


def main(*_: str) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--images", type=int, default=10, help="distilled images")
    parser.add_argument("--solver", choices=["auto", "adam", "dense", "cg"], default="auto")
    parser.add_argument(
        "--iterations", type=int, help="of cg, or of each kind of adam's steps (default: params.yaml's)"
    )
    parser.add_argument("--subset", type=int, help="distilled images that a backward pass goes through (default: all)")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    settings = solver_settings(options.solver, options.iterations, options.subset)
    found = measure(options.width, options.batch, options.images, options.repeats, settings)
    print(json.dumps(found) if options.json else "\n".join(f"{name:15} {value}" for name, value in found.items()))


def solver_settings(solver: str, iterations: int | None, subset: int | None = None) -> dict[str, Any]:
    """The settings that the command line gives. A first step that searches for adam's rates is not timed."""
    numbers = ("cg_iterations", "inner_steps", "inverse_steps")
    return {"solver": solver, "subset": subset or "all"} | (dict.fromkeys(numbers, iterations) if iterations else {})


class Case(NamedTuple):
    run: Callable[[], jax.Array]
    """one step; returns its loss"""
    memory_mb: float
    """of the compiled step, in MiB"""
    experiment: params.Experiment
    """with the solver that was picked"""


def prepare(width: int, batch: int, images: int, settings: Mapping[str, Any]) -> Case:
    """A compiled outer step on noise, with these settings over the demo's."""
    experiment = params.load().experiments[EXPERIMENT]
    experiment = dataclasses.replace(
        experiment, width=width, settings=dataclasses.replace(experiment.settings, **settings)
    )
    return prepare_experiment(experiment, batch, images)


def prepare_experiment(experiment: params.Experiment, batch: int, images: int) -> Case:
    """A compiled outer step of the experiment with so many images, on noise of the shape of MNIST."""
    dataset = params.load().datasets["mnist_sample"]
    experiment = dataclasses.replace(experiment, images_per_class=-(-images // dataset.classes))
    experiment = dataclasses.replace(experiment, settings=chosen_settings(dataset, experiment))
    rng = np.random.default_rng(0)
    train = Split(rng.integers(0, 256, (batch, 28, 28, 1)).astype(np.uint8), (np.arange(batch) % 10).astype(np.int32))
    whitening = whiten.fit(train.images, "standard")
    start = Distilled(
        jnp.asarray(rng.normal(size=(images, 28, 28, 1)), jnp.float32),
        jax.nn.one_hot(jnp.arange(images) % 10, 10) - 0.1,
        jnp.zeros(()),
    )
    task = loop.Task(
        make(dataset, experiment), start, whole(train), dataset.classes, whitening, 10**6, batch, 10**6, seed=0
    )
    state, step = loop.begin(task)
    read = loop.reader(task)
    compiled = step.lower(0, state, *read(0)).compile()
    steps = 0

    def one() -> jax.Array:
        nonlocal state, steps
        state, info = compiled(steps, state, *read(steps))
        steps += 1
        return info["loss"]

    return Case(one, memory_mb(compiled), experiment)


def measure(width: int, batch: int, images: int, repeats: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    case = prepare(width, batch, images, settings)
    rate = matmul_gflops()
    spent = seconds(case.run, repeats)
    chosen = case.experiment.settings
    work = gflop(width, batch, images, chosen.solver, 10, (chosen.pool_steps + 1) / 2)
    return {
        "width": width,
        "batch": batch,
        "images": images,
        "solver": chosen.solver,
        "seconds": round(spent, 4),
        "gflop": round(work, 2),
        "matmul_gflops": round(rate, 1),
        "share": round(work / spent / rate, 3),
        "step_memory_mb": round(case.memory_mb),
        "peak_rss_mb": round(peak_rss_mb()),
    }


def gflop(width: int, batch: int, images: int, solver: str, classes: int, pool_steps: float) -> float:
    """Arithmetic that must be done, 28 px grey, 3 stages, in 10⁹ operations: convolutions, and the system of `dense`.

    A layer's forward pass, weight gradient and input gradient cost the same; the first layer needs no input gradient.
    Of the iterations of `cg` and `adam` none is counted: how many must be done is a choice.
    """
    first = 2 * 32**2 * 9 * 1 * width
    rest = 2 * 16**2 * 9 * width * 2 * width + 2 * 8**2 * 9 * 2 * width * 4 * width
    weights = 9 * width + 9 * 2 * width**2 + 9 * 8 * width**2
    forward, tangent, backward = first + rest, first + 2 * rest, first + 2 * rest
    real = forward + tangent + backward
    stationarity = 3 * (forward + 2 * tangent)
    trained = pool_steps * (forward + backward)
    work = batch * real + images * (stationarity + trained)
    if solver == "dense":
        work += images * (forward + classes * backward) + (images * classes) ** 2 * weights
    return work / 1e9


if __name__ == "__main__":
    run(main)
