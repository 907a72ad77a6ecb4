"""Two ratios: k networks trained together over k times one, and the time that the loop spends waiting for data.

    python -m benchmarks.together --width 32 --networks 5

`--steps` are those of either loop. Median of three runs each.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.machine import run, seconds
from benchmarks.outer_step import initial, make_setup, noise
from rcig import whiten
from rcig.methods import implicit
from rcig.nets import build
from rcig.run import loop
from rcig.train import Schedule, adam, trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    one, many = (training(options.width, options.images, k, options.steps) for k in (1, options.networks))
    k = options.networks
    print(f"{k} networks together {many:.2f} s, one {one:.2f} s: {many / (k * one):.2f} of {k} times one")
    print(f"share of the loop spent waiting for data: {waiting(options.width, options.steps):.3f}")


def training(width: int, images: int, networks: int, steps: int) -> float:
    """Seconds to train networks on a distilled set."""
    net = build("conv", (28, 28, 1), 10, width=width, depth=3)
    schedule = Schedule(steps, adam(warmup=10 / steps), 1e-4, 256)
    fit = trainer(net, schedule, networks)
    x = jax.random.normal(jax.random.key(0), (images, 28, 28, 1))
    y = jax.nn.one_hot(jnp.arange(images) % 10, 10) - 0.1
    return seconds(lambda: fit(jax.random.key(1), x, y), 3)


def waiting(width: int, steps: int) -> float:
    """1 − (steps on a batch that lies ready) / (the loop with batches drawn from 60,000 images)."""
    train = noise(60_000)
    setup = make_setup(train, whiten.fit(train.images[:1000], "standard"), width, 256, 10, steps)
    task = loop.Task(implicit.make(implicit.Settings(), setup), initial(10), steps, 10**6, setup.seed)
    step = loop.compiled_step(task)
    ready = task.method.feed(0)

    def fixed() -> jax.Array:
        state = loop.initial(task)
        for i in range(steps):
            state, info = step(i, state, ready)
        return info["loss"]

    def drawn() -> float:
        with tempfile.TemporaryDirectory() as folder:
            _, curve = loop.run(task, lambda distilled: 0.0, Path(folder) / "c.npz", "waiting", step)
        return float(curve[-1]["seconds"] or 0)

    alone = seconds(fixed, 3)
    return max(0.0, 1 - alone / sorted(drawn() for _ in range(3))[1])


if __name__ == "__main__":
    run(main)
