"""distill EXPERIMENT: the distilled set of every seed, and its training curve."""

import dataclasses
import importlib.metadata
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

import rcig
from rcig import distill, params, passes, store, whiten
from rcig.distill import basis as bases
from rcig.distill import loop
from stages.common import DISTILLED, RESULTS, machine, run
from stages.distilling import (
    CHECKPOINTS,
    Source,
    digest,
    estimate,
    load_source,
    make_task,
    provenance,
    returned_accuracy,
)
from stages.real import Real

LONG = 100
"""steps of a run that is announced by an estimate"""


def main(name: str) -> None:
    writes = passes.join_processes()
    with jax.set_mesh(passes.all_devices()):
        distill_all(name, writes)


def distill_all(name: str, writes: bool) -> None:
    """Distil the sets of all seeds of an experiment."""
    settings = params.load()
    experiment = settings.experiment(name)
    source = load_source(settings, experiment)
    origin = provenance(experiment.dataset)
    checkpoints = CHECKPOINTS / f"{name}-{digest(origin, source.dataset, experiment)}"
    sets, curves = [], []
    for seed in experiment.seeds:
        distilled, curve = grow(source, experiment, seed, checkpoints, f"{name} seed {seed}")
        sets.append(distilled)
        curves.append(curve)
    if writes:
        chosen = dataclasses.replace(experiment, settings=distill.chosen_settings(source.dataset, experiment))
        save(name, chosen, source.real, origin, sets, pd.concat(curves))
        shutil.rmtree(checkpoints, ignore_errors=True)


def grow(
    source: Source, experiment: params.Experiment, seed: int, checkpoints: Path, label: str
) -> tuple[distill.Distilled, pd.DataFrame]:
    """The set of one seed and its training curve; a boosted set block after block, whose steps and seconds add up."""
    distilled: Any = None
    curves, steps, seconds = [], 0, 0.0
    for count in experiment.blocks:
        task = make_task(source, experiment, seed, distilled)
        boosted = len(experiment.blocks) > 1
        checkpoint, step = checkpoints / (f"{seed}-{count}.npz" if boosted else f"{seed}.npz"), None
        title = f"{label}, {count} per class" if boosted else label
        if task.steps >= LONG and not checkpoint.exists():
            words, step = estimate(task)
            print(f"{title}: {words}", file=sys.stderr, flush=True)
        distilled, rows = loop.distill(task, source.heldout_accuracy, checkpoint, title, step)
        curve = pd.DataFrame(rows).assign(seed=seed, **({"block": count} if boosted else {}))
        curves.append(curve.assign(step=curve["step"] + steps, seconds=curve["seconds"] + seconds))
        steps, seconds = curves[-1]["step"].max(), curves[-1]["seconds"].max()
    return distilled, pd.concat(curves)


def revision() -> str | None:
    """The commit of the code, marked where files differ from it; None where this is no git repository."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def save(
    name: str,
    experiment: params.Experiment,
    real: Real,
    origin: dict[str, str],
    sets: list[distill.Distilled],
    curve: pd.DataFrame,
) -> None:
    """Curve and summary first; the distilled set itself last."""
    count, *shape = sets[0].images.shape
    classes = len(real.class_names)
    basis = None if isinstance(experiment.basis, str) else experiment.basis
    numbers = bases.numbers(count, classes, math.prod(shape), basis)
    summary = {
        "experiment": name,
        "dataset": experiment.dataset,
        "images_per_class": experiment.images_per_class,
        "chunk": experiment.chunk,
        "method": experiment.label,
        "numbers": numbers,
        "storage_images_per_class": -(-numbers // bases.numbers(classes, classes, math.prod(shape), None)),
        "width": experiment.width,
        "seeds": experiment.seeds,
        "steps": int(curve["step"].max()),
        "seconds": round(float(curve.groupby("seed")["seconds"].max().sum()), 1),
        "heldout_accuracy": float(returned_accuracy(experiment, curve).mean()),
        "solver": getattr(experiment.settings, "solver", None),
        "machine": machine(),
        "versions": {package: importlib.metadata.version(package) for package in ("jax", "numpy", "flax", "optax")},
        "class_names": real.class_names,
        "revision": revision(),
        **origin,
    }
    folder = RESULTS / "distill" / name
    columns = ["seed", "step", "seconds", "loss", "heldout_accuracy"]
    rest = [column for column in curve if column not in columns]
    text = io.StringIO()
    curve.reindex(columns=columns + rest).to_csv(text, index=False)
    store.atomic_write(folder / "curve.csv", text.getvalue())
    store.save_json(folder / "summary.json", summary)
    meta = {
        "dataset": experiment.dataset,
        "images_per_class": experiment.images_per_class,
        "method": experiment.label,
        "seeds": experiment.seeds,
        "class_names": real.class_names,
        "mean": real.whitening.mean.tolist(),
        "std": real.whitening.std.tolist(),
        "rcig": rcig.__version__,
        **origin,
    }
    described = dataclasses.asdict(experiment)
    for part in ("settings", "loop", "width", "chunk", "initialisation", "basis", "boost", "hardness"):
        meta[part] = described[part]
    store.save(
        DISTILLED / f"{name}.npz",
        store.DISTILLED,
        images=np.stack([s.images for s in sets]),
        labels=np.stack([s.labels for s in sets]),
        log_temperature=np.stack([s.log_temperature for s in sets]),
        pixels=np.stack([whiten.to_pixels(real.whitening, s.images) for s in sets]),
        meta=json.dumps(meta, sort_keys=True),
    )


if __name__ == "__main__":
    run(main)
