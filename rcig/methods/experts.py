"""Expert trajectories (Cazenavette et al. 2022): the weights of networks after every epoch on real images.

They are made once for a dataset and a network, and any number of runs of `mtt` read them. What differs from the
published code: an epoch leaves out the images that fill no batch, and no rate ever falls.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from rcig import dsa, nets, resources, store, train, whiten
from rcig.data.real import Real
from rcig.data.settings import Dataset
from rcig.errors import DivergedError, StoreError
from rcig.fields import POSITIVE, build
from rcig.methods.base import Batch
from rcig.methods.feeds import batches
from rcig.passes import sum_images
from rcig.whiten import Whitening

FOLDER = Path("artifacts/experts")
SCHEMA = store.Schema(
    "file of expert trajectories", {"weights": ("float32", "k e p"), "meta": ("str", "")}, mapped="weights"
)
"""p weights of k networks, before the first epoch and after each"""
MIB = 2**20


@dataclass(frozen=True)
class Experts:
    """Networks that are trained on real images, and whose weights are kept."""

    dataset: str
    """one of `datasets` in params.yaml"""
    width: Annotated[int, POSITIVE]
    """of the networks; that of the runs that read them (paper: 128)"""
    architecture: Literal["conv", "narrow_in"] = "narrow_in"
    """of the networks; that of the runs that read them (paper: narrow_in)"""
    trajectories: Annotated[int, POSITIVE] = 100
    """networks that are trained, one after the other (paper: 100)"""
    epochs: Annotated[int, POSITIVE] = 50
    """of each (paper: 50)"""
    batch_size: Annotated[int, POSITIVE] = 256
    """images per training step (paper: 256)"""
    learning_rate: Annotated[float, POSITIVE] = 0.01
    """of stochastic gradient descent without momentum on the cross-entropy (paper: 0.01)"""
    augment: bool = True
    """one kind of transform for each batch, as DSA has it (paper: true)"""
    seed: int = 0
    """of the weights and the batches"""


@dataclass(frozen=True)
class Entry:
    """What the stage `experts` reads of plan.json."""

    dataset: Dataset
    experts: Experts


class Trajectories(NamedTuple):
    """What a file of experts holds."""

    weights: np.ndarray
    """float32 (k, epochs + 1, p), left in the file"""
    experts: Experts


def flat(net: nets.Net) -> tuple[int, Callable[[jax.Array], Any]]:
    """(p, (p,) -> the parameters of a network with these numbers)."""
    shapes = jax.eval_shape(net.init, jax.random.key(0))["params"]
    zeros, unravel = ravel_pytree(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))
    return zeros.size, unravel


def make(entry: Entry, real: Real, checkpoints: Path, path: Path) -> None:
    """Train the experts of an entry on the real images, and write their file.

    Says beforehand how large it will be. A run that was killed goes on with the first trajectory that `checkpoints`
    has not. Raises StoreError where the disk is too small, and DivergedError for weights that are not finite.
    """
    dataset, settings = entry.dataset, entry.experts
    body = {"width": settings.width, "depth": dataset.depth}
    net = nets.at_precision(nets.build(settings.architecture, dataset.shape, dataset.classes, **body), "auto")
    shape = settings.trajectories, settings.epochs + 1, flat(net)[0]
    _say_size(path, shape)
    fix = f"remove {checkpoints} to train the experts anew"
    files = [checkpoints / f"{i}.npz" for i in range(settings.trajectories)]
    for file, weights in _trained(net, settings, dataset.classes, real, files):
        store.save_arrays(file, {"weights": weights})
    pieces = (store.load_arrays(file, fix)["weights"][None] for file in files)
    meta = {"experts": dataclasses.asdict(settings), **_of(real.class_names, real.whitening)}
    store.save(path, SCHEMA, weights=store.Chunks(shape, "float32", pieces), meta=json.dumps(meta, sort_keys=True))
    shutil.rmtree(checkpoints)


def _say_size(path: Path, shape: tuple[int, int, int]) -> None:
    size = 4 * np.prod(shape)
    words = f"{path}: {shape[0]} trajectories of {shape[1]} times {shape[2]:,} weights, {size / MIB:,.1f} MiB"
    print(f"{words}, which stay on this machine", file=sys.stderr, flush=True)
    if (free := shutil.disk_usage(Path()).free) < 2 * size:  # while they are put together they are there twice
        raise StoreError(f"{words}, twice while it is made; {free / MIB:,.1f} MiB are free; lower trajectories")


def _trained(
    net: nets.Net, settings: Experts, classes: int, real: Real, files: list[Path]
) -> Iterator[tuple[Path, np.ndarray]]:
    """(file, weights (epochs + 1, p)) of every trajectory that has no file yet."""
    step = jax.jit(_step(net, settings, classes))
    key, whitened = jax.random.key(settings.seed), whiten.on_device(real.whitening)
    each = len(real.seen.members) // min(settings.batch_size, len(real.seen.members))
    waiting = [i for i, file in enumerate(files) if not file.exists()]
    what = f"experts, {settings.architecture} of width {settings.width}"
    feed = batches(real.seen, whitened, settings.batch_size, settings.seed)
    example = net.init(key)["params"], key, *feed(0)
    memory = resources.check(what, "width", resources.Use(0, step.lower(*example)))
    with resources.progress(what, len(waiting) * settings.epochs * each, "no more", memory) as reached:
        for done, i in enumerate(waiting):
            own = jax.random.fold_in(key, i)
            feed = batches(real.seen, whitened, settings.batch_size, _seed(settings.seed, i))
            params = net.init(jax.random.fold_in(own, 0))["params"]
            kept = [ravel_pytree(params)[0]]
            for epoch in range(settings.epochs):
                for number in range(epoch * each, (epoch + 1) * each):
                    params = step(params, jax.random.fold_in(own, number + 1), *feed(number))
                kept.append(jax.block_until_ready(ravel_pytree(params)[0]))
                reached((done * settings.epochs + epoch + 1) * each)
            weights = np.stack(kept)
            if not np.isfinite(weights).all():
                raise DivergedError(f"{what}: weights are not finite after their training; lower learning_rate")
            yield files[i], weights


def _step(net: nets.Net, settings: Experts, classes: int) -> Callable[..., Any]:
    """(parameters, key, images, class numbers) -> parameters after one step of gradient descent."""

    def step(params: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> Any:
        images = dsa.augment(key, images) if settings.augment else images
        batch = Batch(images, jax.nn.one_hot(labels, classes) - 1 / classes)

        def total(part: Batch) -> Any:
            def loss(params: Any) -> jax.Array:
                return train.cross_entropy(net.apply({"params": params}, part.images), part.labels) * len(part.images)

            return jax.grad(loss)(params)

        rate = settings.learning_rate / len(images)
        return jax.tree.map(lambda leaf, slope: leaf - rate * slope, params, sum_images(total, batch))

    return step


def _seed(seed: int, number: int) -> int:
    """Of the batches of the trajectory of that number."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def load(path: Path, class_names: list[str], whitening: Whitening) -> Trajectories:
    """The trajectories in a file. Raises StoreError for those of other images than have these classes and whitening."""
    arrays = store.load(path, SCHEMA)
    try:
        meta = json.loads(str(arrays["meta"]))
        experts = build(Experts, meta["experts"])
        others = [(name, meta[name], value) for name, value in _of(class_names, whitening).items()]
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{path}: not a file of experts by its meta; remove it and run `dvc repro`") from None
    for name, theirs, ours in others:
        if theirs != ours:
            raise StoreError(
                f"{path}: experts of {experts.dataset}, with {name} {theirs}, the run's dataset has {ours}; name those"
                " of this dataset, or have them trained again"
            )
    return Trajectories(arrays["weights"], experts)


def _of(class_names: list[str], whitening: Whitening) -> dict[str, Any]:
    """What tells the images of one dataset from those of another."""
    numbers = {name: getattr(whitening, name).tolist() for name in ("mean", "std")}
    return {"class_names": list(class_names), **numbers, "whitening": whiten.kind_of(whitening)}
