"""One outer step of RCIG with everything that belongs to it: whitening of the batch, solve, gradient, pool training.

    python -m benchmarks.outer_step --width 32 --batch 256 --images 10 --json

`share` is the arithmetic that must be done over the time spent, as a fraction of the machine's matrix-product rate.
"""

import argparse
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import matmul_gflops, peak_rss_mb, seconds
from rcig import params, whiten
from rcig.data import Split
from rcig.distill import Distilled, loop, make
from stages.common import run

EXPERIMENT = "mnist_sample-ipc1-rcig"
"""gives all settings that the command line does not"""


def main(*_: str) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--images", type=int, default=10, help="distilled images")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    found = measure(options.width, options.batch, options.images, options.repeats)
    print(json.dumps(found) if options.json else "\n".join(f"{name:15} {value}" for name, value in found.items()))


def measure(width: int, batch: int, images: int, repeats: int) -> dict[str, float | int]:
    settings = params.load()
    dataset = settings.datasets["mnist_sample"]
    experiment = dataclasses.replace(settings.experiments[EXPERIMENT], width=width)
    rng = np.random.default_rng(0)
    train = Split(rng.integers(0, 256, (batch, 28, 28, 1)).astype(np.uint8), (np.arange(batch) % 10).astype(np.int32))
    whitening = whiten.fit(train.images, zca=False)
    start = Distilled(
        jnp.asarray(rng.normal(size=(images, 28, 28, 1)), jnp.float32),
        jax.nn.one_hot(jnp.arange(images) % 10, 10) - 0.1,
        jnp.zeros(()),
    )
    task = loop.Task(make(dataset, experiment), start, train, whitening, 10**6, batch, 10**6, seed=0)
    step, state = loop.compiled_step(task, jax.random.key(1)), task.distiller.init(jax.random.key(0), start)
    steps = 0

    def one() -> jax.Array:
        nonlocal state, steps
        state, info = step(steps, state, train.images, train.labels)
        steps += 1
        return info["loss"]

    rate = matmul_gflops()
    spent = seconds(one, repeats)
    work = gflop(width, batch, images, 10, (experiment.settings.pool_steps + 1) / 2)
    return {
        "width": width,
        "batch": batch,
        "images": images,
        "seconds": round(spent, 4),
        "gflop": round(work, 2),
        "matmul_gflops": round(rate, 1),
        "share": round(work / spent / rate, 3),
        "peak_rss_mb": round(peak_rss_mb()),
    }


def gflop(width: int, batch: int, images: int, classes: int, pool_steps: float) -> float:
    """Arithmetic of the convolutions and of the dense dual system, 28 px grey, 3 stages, in 10⁹ operations.

    A layer's forward pass, weight gradient and input gradient cost the same; the first layer needs no input gradient.
    """
    first = 2 * 32**2 * 9 * 1 * width
    rest = 2 * 16**2 * 9 * width * 2 * width + 2 * 8**2 * 9 * 2 * width * 4 * width
    weights = 9 * width + 9 * 2 * width**2 + 9 * 8 * width**2
    forward, tangent, backward = first + rest, first + 2 * rest, first + 2 * rest
    real = forward + tangent + backward
    rows = forward + classes * backward
    solution = 2 * (forward + backward) + forward + tangent  # δ, Ω; the adjoint's right-hand side and its pullback
    stationarity = 3 * (forward + 2 * tangent)
    trained = pool_steps * (forward + backward)
    gram = 2 * (images * classes) ** 2 * weights
    return (batch * real + images * (rows + solution + stationarity + trained) + gram) / 1e9


if __name__ == "__main__":
    run(main)
