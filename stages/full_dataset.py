"""full_dataset DATASET: test accuracy of networks trained on all real images that distillers see.

Example: python -m stages.full_dataset mnist_sample
"""

import shutil

import jax
import numpy as np
import pandas as pd

from rcig import nets, passes, planned, predictions, rows, store, train, whiten
from rcig.data import real, splits
from rcig.judging.full_dataset import Entry, full_dataset
from rcig.methods.feeds import batches
from rcig.run import estimate, loop
from rcig.run.distil import CHECKPOINTS, digest
from stages.common import RESULTS, run


def main(name: str) -> None:
    entry, code = planned.read("full_dataset", name, Entry)
    dataset, settings = entry.dataset, entry.full_dataset
    loaded = real.load_real(name, dataset)
    net = nets.build("conv", dataset.shape, dataset.classes, width=settings.width, depth=dataset.depth)
    outputs = train.tester(net, whiten.on_device(loaded.whitening))

    def judge(variables: nets.Variables) -> float:
        return float(np.mean(train.accuracy(outputs(variables, loaded.held_out), loaded.held_out.labels)))

    checkpoints = CHECKPOINTS / f"full_dataset-{name}-{digest(code, real.fingerprint(name), dataset, settings)}"
    which = checkpoints / "networks.npz", f"full_dataset {name}"
    with jax.set_mesh(passes.all_devices()):
        whitened = whiten.on_device(loaded.whitening, passes.everywhere())
        feed = batches(loaded.seen, whitened, settings.batch_size, settings.seed)
        method = full_dataset(net, settings, dataset.classes, feed)
        task = loop.Task(method, None, settings.steps, settings.validate_every, settings.seed)
        step = estimate.announce(task, *which, lambda found: [outputs.lowered(found, dataset.shape)])
        variables, curve = loop.run(task, judge, *which, step)
    folder = RESULTS / "full_dataset"
    store.atomic_write(folder / f"{name}-curve.csv", pd.DataFrame(curve).to_csv(index=False))
    test = splits.whole(real.load_split(name, "test", dataset)[0])
    logits = outputs(variables, test)
    found = rows.by_network(
        train.accuracy(logits, test.labels),
        dataset=name,
        images_per_class=round(len(loaded.seen.members) / dataset.classes),
        method="full_dataset",
        protocol="full_dataset_augmented" if settings.augment else "full_dataset",
        architecture="conv",
        width=settings.width,
        seed=settings.seed,
        step=settings.steps,
        metric="accuracy",
    )
    predictions.save(folder / f"{name}-predictions.npz", logits.argmax(-1)[None], test.labels, loaded.class_names)
    rows.save(folder / f"{name}.csv", f"{name}-full_dataset", found, code)
    shutil.rmtree(checkpoints, ignore_errors=True)


if __name__ == "__main__":
    run(main)
