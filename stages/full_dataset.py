"""full_dataset DATASET: test accuracy of networks trained on all real images that distillers see."""

import io
import shutil

import jax
import pandas as pd

from rcig import nets, params, passes, predictions, rows, store, train, whiten
from rcig.data import splits
from rcig.distill import loop
from rcig.distill.full_dataset import full_dataset
from stages.common import RESULTS, run
from stages.distilling import CHECKPOINTS, digest, provenance
from stages.real import load_real, load_split


def main(name: str) -> None:
    loaded = params.load()
    dataset, settings = loaded.dataset(name), loaded.full(name)
    real = load_real(name, dataset)
    shape = (dataset.resolution, dataset.resolution, dataset.channels)
    net = nets.build("conv", shape, dataset.classes, width=settings.width, depth=dataset.depth)
    outputs = train.tester(net, whiten.on_device(real.whitening))
    task = loop.Task(
        full_dataset(net, settings),
        None,
        real.seen,
        dataset.classes,
        real.whitening,
        settings.steps,
        settings.batch_size,
        settings.validate_every,
        settings.seed,
    )
    checkpoints = CHECKPOINTS / f"full_dataset-{name}-{digest(provenance(name), dataset, settings)}"
    judge = lambda variables: float(train.accuracy(outputs(variables, real.held_out), real.held_out.labels).mean())  # noqa: E731
    with jax.set_mesh(passes.all_devices()):
        variables, curve = loop.distill(task, judge, checkpoints / "networks.npz", f"full_dataset {name}")
    text = io.StringIO()
    pd.DataFrame(curve).to_csv(text, index=False)
    folder = RESULTS / "full_dataset"
    store.atomic_write(folder / f"{name}-curve.csv", text.getvalue())
    test = splits.whole(load_split(name, "test")[0])
    logits = outputs(variables, test)
    found = rows.by_network(
        train.accuracy(logits, test.labels),
        dataset=name,
        images_per_class=round(len(real.seen.members) / dataset.classes),
        method="full_dataset",
        protocol="full_dataset_augmented" if settings.augment else "full_dataset",
        architecture="conv",
        width=settings.width,
        seed=settings.seed,
        step=settings.steps,
        metric="accuracy",
    )
    predictions.save(folder / f"{name}-predictions.npz", logits.argmax(-1)[None], test.labels, real.class_names)
    rows.save(folder / f"{name}.csv", f"{name}-full_dataset", found)
    shutil.rmtree(checkpoints, ignore_errors=True)


if __name__ == "__main__":
    run(main)
