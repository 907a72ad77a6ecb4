"""A run from beginning to end: the sets of all its seeds, the curve of their making, and what is written of both."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rcig import store, whiten
from rcig.data.real import Real
from rcig.errors import StoreError
from rcig.methods import basis as bases
from rcig.methods.base import Distilled, Record
from rcig.run import estimate, loop
from rcig.run.settings import Run
from rcig.run.task import Source, chosen_settings, make_task, method_of

CHECKPOINTS = Path(".checkpoints")
OF_ITS_MAKER = (
    *("method", "size", "chunk", "width", "steps", "seconds", "solver", "machine", "versions", "revision"),
    *("stored_floats", "storage_images_per_class"),
)
"""what a summary says of a released set is what its maker's did"""


class Made(NamedTuple):
    """What a run has made."""

    run: Run
    """with the method's settings in force on the machine, and those that were learned with the sets"""
    sets: list[Distilled]
    """one for each seed"""
    curve: pd.DataFrame
    """seed, step, seconds, loss, heldout_accuracy, and what else the method says of its steps"""
    record: Record | None
    """of sets that were made elsewhere, what their maker says"""
    held_out: float
    """fraction of the training images that were not seen"""


Show = Callable[[int, Distilled, float], None]
"""(step, set, its held-out accuracy): looks at a set while it is distilled"""


def distil(source: Source, run: Run, checkpoints: Path, label: str, show: Show | None = None) -> Made:
    """The sets of all seeds."""
    sets, curves = [], []
    for seed in run.seeds:
        distilled, curve = grow(source, run, seed, checkpoints, f"{label} seed {seed}", show)
        sets.append(distilled)
        curves.append(curve)
    settings, file = chosen_settings(source, run), method_of(run)
    if hasattr(file, "learned"):
        settings = file.learned(settings, sets)
    chosen = dataclasses.replace(run, settings=settings)
    return Made(chosen, sets, pd.concat(curves), record_of(run), source.dataset.held_out)


def record_of(run: Run) -> Record | None:
    """What the maker of a released set says of it. Raises StoreError for one that is not the run's as a whole."""
    module = method_of(run)
    if not hasattr(module, "record"):
        return None
    record: Record = module.record(run.settings, Path(run.needs))
    if list(run.seeds) != record.meta["seeds"]:
        raise StoreError(f"{run.needs}: has the seeds {record.meta['seeds']}, got {list(run.seeds)}; give them all")
    if record.meta["mirror"] != run.mirror:
        raise StoreError(
            f"{run.needs}: was distilled with mirror: {str(record.meta['mirror']).lower()}; correct its dataset"
        )
    return record


def grow(
    source: Source, run: Run, seed: int, checkpoints: Path, label: str, show: Show | None = None
) -> tuple[Distilled, pd.DataFrame]:
    """The set of one seed and its training curve; a boosted set block after block, whose steps and seconds add up."""
    distilled: Any = None
    curves, steps, seconds = [], 0, 0.0
    boosted = len(run.blocks) > 1
    for count in run.blocks:
        begin = time.perf_counter()
        task = make_task(source, run, seed, distilled)
        seconds += time.perf_counter() - begin  # of a method that chooses images, it is all that takes time
        checkpoint = checkpoints / (f"{seed}-{count}.npz" if boosted else f"{seed}.npz")
        title = f"{label}, {count} per class" if boosted else label
        step = estimate.announce(task, checkpoint, title, source.validations)
        distilled, rows = loop.run(task, source.heldout_accuracy, checkpoint, title, step, show)
        curve = pd.DataFrame(rows).assign(seed=seed, **({"block": count} if boosted else {}))
        curves.append(curve.assign(step=curve["step"] + steps, seconds=curve["seconds"] + seconds))
        steps, seconds = curves[-1]["step"].max(), curves[-1]["seconds"].max()
    return distilled, pd.concat(curves)


def returned_accuracy(run: Run, curve: pd.DataFrame) -> pd.Series:
    """Held-out accuracy of the returned set of every seed; of a boosted one as it is with its last block."""
    if "block" in curve:
        curve = curve[curve["block"] == curve["block"].max()]
    measured = curve.groupby("seed")["heldout_accuracy"]
    return measured.max() if run.loop.returned == "best" else measured.last()


def digest(code: str, data: str, *settings: Any) -> str:
    """Names what a run depends on, so that a checkpoint is never continued by another."""
    import jax

    parts = json.dumps([*map(dataclasses.asdict, settings), jax.__version__, code, data], sort_keys=True)
    return store.digest({"parts": np.asarray(parts)}, ["parts"])


def summary(made: Made, real: Real, origin: dict[str, Any]) -> dict[str, Any]:
    """What summary.json says of a run: what was made, from what, by what, how long it took and how good it is.

    Of a set that was made elsewhere its maker says most of that. `origin`: code, data, machine, versions and revision.
    """
    run, (count, *shape) = made.run, made.sets[0].images.shape
    classes = len(real.class_names)
    # A set made elsewhere may be stored as fewer images, which are decoded to these.
    stored = count // (getattr(run.settings, "factor", None) or 1) ** 2
    stored_floats = bases.stored_floats(stored, classes, math.prod(shape), run.basis)
    found = {
        "dataset": run.dataset,
        "images_per_class": run.images_per_class,
        "chunk": run.chunk,
        "method": run.label,
        "size": run.size,
        "stored_floats": stored_floats,
        "storage_images_per_class": -(-stored_floats // bases.stored_floats(classes, classes, math.prod(shape), None)),
        "width": run.width,
        "seeds": list(run.seeds),
        "steps": int(made.curve["step"].max()),
        "seconds": round(float(made.curve.groupby("seed")["seconds"].max().sum()), 1),
        "heldout_accuracy": float(returned_accuracy(run, made.curve).mean()),
        "solver": getattr(run.settings, "solver", None),
        "class_names": real.class_names,
        **origin,
    }
    if made.record is None:
        return found
    return found | {name: made.record.made[name] for name in OF_ITS_MAKER} | {"record": made.record.made}


def meta(made: Made, real: Real, origin: dict[str, Any]) -> dict[str, Any]:
    """What the file of the sets says of them: of released ones what it said before."""
    if made.record is not None:
        return made.record.meta
    run = made.run
    settings = dataclasses.asdict(run)
    names = ("settings", "loop", "size", "width", "chunk", "initialisation", "basis", "boost", "hardness", "needs")
    return {
        "dataset": run.dataset,
        "images_per_class": run.images_per_class,
        "method": run.label,
        "mirror": run.mirror,
        "seeds": list(run.seeds),
        "class_names": real.class_names,
        "mean": real.whitening.mean.tolist(),
        "std": real.whitening.std.tolist(),
        "held_out": made.held_out,
        "code": origin["code"],
        "data": origin["data"],
        **{name: settings[name] for name in names},
    }


def arrays(made: Made, real: Real, described: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of rcig.store.DISTILLED, with the meta as `described`."""
    return {name: np.stack([getattr(one, name) for one in made.sets]) for name in store.LEARNED} | {
        "pixels": np.stack([whiten.to_pixels(real.whitening, one.images) for one in made.sets]),
        "meta": np.asarray(json.dumps(described, sort_keys=True)),
    }


def table(made: Made) -> str:
    """The curve as CSV, what every method has first; of released sets their maker's."""
    if made.record is not None:
        return made.record.curve
    columns = ["seed", "step", "seconds", "loss", "heldout_accuracy"]
    more = [column for column in made.curve if column not in columns]
    return made.curve.reindex(columns=[*columns, *more]).to_csv(index=False)
