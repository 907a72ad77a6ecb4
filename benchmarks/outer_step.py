"""One outer step of RCIG with everything that belongs to it: whitening of the batch, solve, gradient, pool training.

    python -m benchmarks.outer_step --width 32 --batch 256 --images 10 --json

`share` is the arithmetic that must be done over the time spent, as a fraction of the machine's matrix-product rate.
"""

import argparse
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
from rcig import nets, whiten
from rcig.data.splits import Split, whole
from rcig.methods import implicit
from rcig.methods.base import Distilled, Setup
from rcig.resources import planned
from rcig.run import loop

SIDE, CLASSES, DEPTH = 28, 10, 3
"""of the noise that stands for MNIST, and of the network for it"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--images", type=int, default=10, help="distilled images")
    parser.add_argument("--solver", choices=["auto", "adam", "dense", "cg"], default="auto")
    parser.add_argument("--iterations", type=int, help="of cg, or of each kind of adam's steps (default: the method's)")
    parser.add_argument(
        "--backward-images", type=int, help="distilled images that a backward pass goes through (default: all)"
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    settings = solver_settings(options.solver, options.iterations, options.backward_images)
    found = measure(settings, options.width, options.batch, options.images, options.repeats)
    print(json.dumps(found) if options.json else "\n".join(f"{name:15} {value}" for name, value in found.items()))


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


def prepare(method: ModuleType, settings: Any, width: int, batch: int, images: int) -> Case:
    """A compiled outer step of a method, a file of rcig/methods, on noise of the shape of MNIST."""
    train, start = noise(batch), initial(images)
    setup = make_setup(train, whiten.fit(train.images, "standard"), width, batch, images)
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

    return Case(one, planned(compiled) / 2**20, settings)


def noise(images: int) -> Split:
    """Images of noise, with as many of one class as of another."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, SIDE, SIDE, 1)).astype(np.uint8)
    return Split(pixels, (np.arange(images) % CLASSES).astype(np.int32))


def initial(images: int) -> Distilled:
    """A set of noise with hard labels."""
    pixels = jnp.asarray(np.random.default_rng(1).normal(size=(images, SIDE, SIDE, 1)), jnp.float32)
    return Distilled(pixels, jax.nn.one_hot(jnp.arange(images) % CLASSES, CLASSES) - 1 / CLASSES, jnp.zeros(()))


def make_setup(
    train: Split, whitening: whiten.Whitening, width: int, batch: int, images: int, steps: int = 10**6
) -> Setup:
    """What the method of a run on these real images gets."""

    def network(architecture: str, **more: Any) -> nets.Net:
        return nets.build(architecture, (SIDE, SIDE, 1), CLASSES, width=width, depth=DEPTH, **more)

    return Setup(
        shape=(SIDE, SIDE, 1),
        classes=CLASSES,
        images=images,
        steps=steps,
        mirror=False,
        l2_rate=5e-4,
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


def measure(settings: implicit.Settings, width: int, batch: int, images: int, repeats: int) -> dict[str, Any]:
    case = prepare(implicit, settings, width, batch, images)
    rate = matmul_gflops()
    spent = seconds(case.run, repeats)
    chosen = case.settings
    work = gflop(width, batch, images, chosen.solver, CLASSES, (chosen.pool_steps + 1) / 2)
    return {
        "width": width,
        "batch": batch,
        "images": images,
        "solver": chosen.solver,
        "seconds": round(spent, 4),
        "gflop": round(work, 2),
        "matmul_gflops": round(rate, 1),
        "share": round(work / spent / rate, 3),
        "step_memory_mib": round(case.memory_mib),
        "peak_rss_mib": round(peak_rss_mib()),
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
