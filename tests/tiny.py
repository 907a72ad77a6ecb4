"""A tiny problem in float64, small real images and a small run: what the engine's tests need."""

import dataclasses
import shutil
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from workspaces import ROOT, read_settings, save_settings

import stages.plan
from rcig import plan, strict, whiten
from rcig.data.settings import Dataset
from rcig.data.splits import Split, whole
from rcig.inner import Weights
from rcig.methods.base import Batch, Distilled, Setup
from rcig.methods.feeds import Examples
from rcig.nets import Net, Variables, build

slow = partial(pytest.param, marks=pytest.mark.slow)
"""a case of a parametrised test that is left out with the slow ones"""


class Tiny(NamedTuple):
    net: Net
    network: Variables
    distilled: Distilled
    batch: Batch

    @property
    def origin(self) -> Weights:
        return Weights(self.network["params"]["body"], self.network["params"]["head"]["kernel"])


@cache
def tiny(
    images: int = 4, channels: int = 1, classes: int = 3, temperature: float = 3.0, architecture: str = "conv"
) -> Tiny:
    """Call inside the float64 fixture. The softplus is mild, so that finite differences meet no kink."""
    net = build(architecture, (8, 8, channels), classes, width=2, depth=2, temperature=temperature)
    keys = jax.random.split(jax.random.key(0), 5)
    network = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), net.init(keys[0]))
    shape = (8, 8, channels)
    labels = jax.nn.one_hot(jnp.arange(images) % classes, classes, dtype=jnp.float64) - 1 / classes
    distilled = Distilled(
        jax.random.normal(keys[1], (images, *shape), jnp.float64),
        labels + 0.1 * jax.random.normal(keys[2], labels.shape, jnp.float64),
        jnp.asarray(0.3, jnp.float64),
    )
    targets = jax.nn.one_hot(jax.random.randint(keys[3], (5,), 0, classes), classes, dtype=jnp.float64)
    return Tiny(net, network, distilled, Batch(jax.random.normal(keys[4], (5, *shape), jnp.float64), targets))


def blobs(n: int, classes: int = 3) -> tuple[jax.Array, jax.Array, np.ndarray]:
    """Images whose class is the place of a bright spot, their centred labels, and their classes."""
    labels = np.arange(n) % classes
    images = 0.1 * jax.random.normal(jax.random.key(n), (n, 8, 8, 1))
    images = images.at[jnp.arange(n), 2 * labels + 1, 3].add(3.0)
    return images, jax.nn.one_hot(labels, classes) - 1 / classes, labels


def examples(n: int = 32) -> Examples:
    """Such images as a batch brings them."""
    images, _, labels = blobs(n)
    return Examples(images, labels)


def noise() -> Distilled:
    """A set to start from that teaches nothing: one image a class."""
    return Distilled(0.3 * jax.random.normal(jax.random.key(9), (3, 8, 8, 1)), jnp.eye(3) - 1 / 3, jnp.zeros(()))


def setup(**changes: Any) -> Setup:
    """A run of ten steps on a set as `noise` is one, which sees sixteen random images, raw for whitened."""
    shape, classes, width = changes.get("shape", (8, 8, 1)), changes.pop("classes", 3), changes.pop("width", 4)
    raw = np.random.default_rng(0).integers(0, 256, (16, *shape)).astype(np.uint8)
    few: dict[str, Any] = {
        "shape": shape,
        "class_names": [f"class {i}" for i in range(classes)],
        "images": 3,
        "steps": 10,
        "mirror": False,
        "l2_rate": 1e-3,
        "basis": None,
        "mobility": None,
        "network": partial(_network, shape, classes, width),
        "seen": whole(Split(raw, (np.arange(16) % classes).astype(np.int32))),
        "whitened": jnp.asarray,
        "whitening": whiten.fit(raw, "standard"),
        "batch_size": 8,
        "weights": None,
        "seed": 0,
        "needs": Path("inputs/none"),
    }
    return Setup(**few | changes)


def _network(shape: tuple[int, int, int], classes: int, width: int, architecture: str, **more: Any) -> Net:
    return build(architecture, shape, classes, width=width, depth=2, **more)


SAMPLE = Dataset(28, 1, 10, 3, "standard", mirror=False, l2_rate=5e-4, held_out=0.125)
"""as params.yaml has mnist_sample"""


def resolved(dataset: Dataset = SAMPLE, size: Mapping[str, Any] | None = None, **entry: Any) -> plan.Experiment:
    """The experiment `x` of ten steps of rcig, with what its entry has more or otherwise; its size has nothing."""
    few = {"dataset": "d", "images_per_class": 1, "method": "rcig", "size": "s", "width": 4, "loop": {"steps": 10}}
    return plan.resolve("x", strict.merged(few, entry), {"d": dataset}, {"s": size or {}})


def short_run(workspace: Path, prepared: Path, name: str, **changes: Any) -> None:
    """A folder with the project's code, the preprocessed sample, and the plan of one small experiment on it.

    `changes`: what its entry has more than that of params.yaml, or otherwise.
    """
    for part in ("rcig", "stages", "inputs"):
        (workspace / part).symlink_to(ROOT / part)
    shutil.copytree(prepared, workspace / "artifacts")
    settings = read_settings()
    sections: dict[str, Any] = {section.name: {} for section in dataclasses.fields(plan.Params)}
    entry = strict.merged(settings["experiments"][name], {"width": 4, "settings": {"pool_size": 2}}, changes)
    save_settings(
        workspace, sections | {part: settings[part] for part in ("datasets", "sizes")} | {"experiments": {name: entry}}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        stages.plan.main()
