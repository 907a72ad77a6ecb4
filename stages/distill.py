"""distill EXPERIMENT: the distilled set of every seed, and its training curve.

Example: python -m stages.distill mnist_sample-ipc1-rcig
"""

import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

import jax

from rcig import passes, planned, store
from rcig.data import real
from rcig.run import distil as runs
from rcig.run.preview import painter
from rcig.run.task import Entry, prepared, source_of, typed
from stages.common import DISTILLED, RESULTS, run
from stages.provenance import machine, revision

PREVIEWS = Path("previews")
"""pictures of sets while they are distilled, for those who wait"""


def main(name: str) -> None:
    writes = passes.join_processes()
    entry, code = planned.read("distill", name, Entry)
    dataset, settings = entry.dataset, typed(entry.run)
    loaded = prepared(settings, real.load_real(settings.dataset, dataset))
    data = real.fingerprint(settings.dataset)
    origin = {
        "code": code,
        "data": data,
        "machine": machine(),
        "versions": {package: importlib.metadata.version(package) for package in ("jax", "numpy", "flax", "optax")},
        "revision": revision(),
    }
    read = f"{data} {store.fingerprint(store.files(Path(settings.needs)))}"
    checkpoints = runs.CHECKPOINTS / f"{name}-{runs.digest(code, read, dataset, settings)}"
    show = painter(PREVIEWS / f"{name}.png", name, loaded.whitening) if writes and settings.loop.steps else None
    with jax.set_mesh(passes.all_devices()):
        made = runs.distil(source_of(settings, dataset, loaded), settings, checkpoints, name, show)
    if writes:
        save(name, made, loaded, origin)
        shutil.rmtree(checkpoints, ignore_errors=True)


def save(name: str, made: runs.Made, loaded: real.Real, origin: dict[str, Any]) -> None:
    """Curve and summary first; the distilled set itself last."""
    folder = RESULTS / "distill" / name
    store.atomic_write(folder / "curve.csv", runs.table(made))
    store.save_json(folder / "summary.json", {"experiment": name, **runs.summary(made, loaded, origin)})
    described = runs.meta(made, loaded, origin)
    store.save(DISTILLED / f"{name}.npz", store.DISTILLED, **runs.arrays(made, loaded, described))


if __name__ == "__main__":
    run(main)
