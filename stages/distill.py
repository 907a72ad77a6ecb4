"""distill EXPERIMENT: the distilled set of every seed, and its training curve."""

import dataclasses
import hashlib
import importlib.metadata
import io
import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import rcig
from rcig import data, distill, nets, params, passes, store, train, whiten
from rcig.distill import loop
from stages.common import DATA, DISTILLED, RESULTS, machine, run

CHECKPOINTS = Path(".checkpoints")


def main(name: str) -> None:
    writes = passes.join_processes()
    with jax.set_mesh(passes.all_devices()):
        distill_all(name, writes)


def distill_all(name: str, writes: bool) -> None:
    """Distil the sets of all seeds of an experiment."""
    settings = params.load()
    experiment = settings.experiment(name)
    dataset = settings.dataset(experiment.dataset)
    split = store.load(DATA / experiment.dataset / "train.npz", store.SPLIT)
    whitening = whiten.Whitening(**store.load(DATA / experiment.dataset / "whitening.npz", store.WHITENING))
    held_out = data.held_out_mask(split["labels"], dataset.held_out)
    seen = data.Split(split["images"][~held_out], split["labels"][~held_out])

    judge = train.validator(
        nets.build("conv", seen.images.shape[1:], dataset.classes, width=experiment.width, depth=dataset.depth),
        np.asarray(whiten.apply(whitening, split["images"][held_out])),
        split["labels"][held_out],
    )
    checkpoints = CHECKPOINTS / f"{name}-{digest(settings, name)}"
    sets, curves = [], []
    for seed in experiment.seeds:
        task = loop.Task(
            distill.make(dataset, experiment),
            initial(dataset, experiment, seen, whitening, seed),
            seen,
            whitening,
            params.steps(dataset, experiment),
            experiment.loop.batch_size,
            experiment.loop.validate_every,
            seed,
            experiment.loop.returned,
            experiment.loop.precision,
        )
        distilled, curve = loop.distill(
            task,
            lambda s: judge(*distill.support(s, dataset.mirror)),
            checkpoints / f"{seed}.npz",
            f"{name} seed {seed}",
        )
        sets.append(distilled)
        curves.append(pd.DataFrame(curve).assign(seed=seed))
    if writes:
        chosen = dataclasses.replace(experiment, settings=distill.chosen_settings(dataset, experiment))
        save(name, chosen, split["class_names"], whitening, sets, pd.concat(curves))
        shutil.rmtree(checkpoints, ignore_errors=True)


def initial(
    dataset: params.DatasetParams,
    experiment: params.Experiment,
    seen: data.Split,
    whitening: whiten.Whitening,
    seed: int,
) -> distill.Distilled:
    """The set a run starts from: random real images, or noise, with hard labels."""
    index = data.sample_per_class(seen.labels, experiment.images_per_class, dataset.classes, seed)
    images = whiten.apply(whitening, seen.images[index])
    if experiment.initialisation == "noise":
        images = jax.random.normal(jax.random.key(seed), images.shape)
    labels = jax.nn.one_hot(seen.labels[index], dataset.classes) - 1 / dataset.classes
    return distill.Distilled(images, labels, jnp.zeros(()))


def heldout_accuracy(experiment: params.Experiment, curve: pd.DataFrame) -> pd.Series:
    """Of the returned set of every seed."""
    measured = curve.groupby("seed")["heldout_accuracy"]
    return measured.max() if experiment.loop.returned == "best" else measured.last()


def digest(settings: params.Params, name: str) -> str:
    """Names what a run depends on, so that a checkpoint is never continued by another: settings, code, inputs."""
    experiment = settings.experiments[name]
    used = {
        "experiment": {
            key: value
            for key, value in dataclasses.asdict(experiment).items()
            if key not in ("evaluate", "cross_arch", "attack")
        },
        "dataset": dataclasses.asdict(settings.datasets[experiment.dataset]),
        "jax": jax.__version__,
    }
    content = hashlib.sha256(json.dumps(used, sort_keys=True).encode())
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "rcig"]
    files = [Path(module.__file__) for module in modules if module.__file__]
    folder = DATA / experiment.dataset
    for file in [*files, folder / "train.npz", folder / "whitening.npz"]:
        content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()[:16]


def save(
    name: str,
    experiment: params.Experiment,
    class_names: np.ndarray,
    whitening: whiten.Whitening,
    sets: list[distill.Distilled],
    curve: pd.DataFrame,
) -> None:
    """Curve and summary first; the distilled set itself last."""
    summary = {
        "experiment": name,
        "dataset": experiment.dataset,
        "images_per_class": experiment.images_per_class,
        "method": experiment.method,
        "width": experiment.width,
        "seeds": experiment.seeds,
        "steps": int(curve["step"].max()),
        "seconds": round(float(curve.groupby("seed")["seconds"].max().sum()), 1),
        "heldout_accuracy": float(heldout_accuracy(experiment, curve).mean()),
        "solver": getattr(experiment.settings, "solver", None),
        "machine": machine(),
        "versions": {package: importlib.metadata.version(package) for package in ("jax", "numpy", "flax", "optax")},
        "class_names": class_names.tolist(),
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
        "method": experiment.method,
        "seeds": experiment.seeds,
        "class_names": class_names.tolist(),
        "mean": whitening.mean.tolist(),
        "std": whitening.std.tolist(),
        "rcig": rcig.__version__,
        "settings": dataclasses.asdict(experiment.settings),
        "loop": dataclasses.asdict(experiment.loop),
    }
    store.save(
        DISTILLED / f"{name}.npz",
        store.DISTILLED,
        images=np.stack([s.images for s in sets]),
        labels=np.stack([s.labels for s in sets]),
        log_temperature=np.stack([s.log_temperature for s in sets]),
        pixels=np.stack([whiten.to_pixels(whitening, s.images) for s in sets]),
        meta=json.dumps(meta, sort_keys=True),
    )


if __name__ == "__main__":
    run(main)
