"""release SET.npz RESULTS: a released set of a distilled one and of the folder with its summary.json and curve.csv.

Writes released/NAME.npz, NAME being the set's; pin it by `dvc add`. For sets that a machine made which the pipeline
cannot count on, such as a GPU, or that an earlier revision made. Not a stage.

Example: python -m stages.release artifacts/distilled/mnist_sample-ipc1-rcig.npz results/distill/mnist_sample-ipc1-rcig
"""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from rcig import elsewhere, lock, store
from rcig.errors import StoreError
from rcig.run.distil import OF_ITS_MAKER
from stages.common import run

RELEASED = Path("released")
SHARED = ("dataset", "images_per_class", "method", "seeds", "code", "data")
"""what a set and its summary both say"""


def main(path: str, results: str) -> None:
    release(Path(path), Path(results))


def release(path: Path, results: Path) -> None:
    """Write the released set of a file and of the folder of its results.

    Raises StoreError where they do not fit, and where another set of that name could not be had back.
    """
    arrays, meta = store.load_distilled(path)
    try:
        curve = (results / "curve.csv").read_text("utf-8")
    except (OSError, ValueError) as error:
        raise StoreError(f"{results}: no results of a distillation ({error}); name the folder of its summary") from None
    summary = store.load_json(results / "summary.json")
    missing = [name for name in (*OF_ITS_MAKER, "code", "data", "heldout_accuracy") if name not in summary]
    if missing:
        raise StoreError(f"{results}/summary.json: lacks {', '.join(missing)}; is it the summary of {path}?")
    other = [name for name in SHARED if meta.get(name) != summary.get(name)]
    if other:
        raise StoreError(f"{results}/summary.json: {', '.join(other)} are not those of {path}; is it that set's?")
    summary |= {"arrays": store.digest(arrays, store.LEARNED), "curve": curve}
    arrays["meta"] = np.asarray(json.dumps(meta | {"record": summary}, sort_keys=True))
    target = RELEASED / path.name
    if target.exists() and not (is_pinned(target) or has_arrays(target, summary["arrays"])):
        raise StoreError(f"{target}: is another set that is not pinned; pin it (dvc add {target}), rename or remove it")
    store.save(target, store.DISTILLED, **arrays)
    print(f"{target}: {meta['method']} on {meta['dataset']}; pin it: dvc add {target}")


def is_pinned(path: Path) -> bool:
    """Whether DVC has kept what lies there."""
    return lock.pins([path.with_name(f"{path.name}.dvc")]) == {path: elsewhere.md5(path)}


def has_arrays(path: Path, digest: str) -> bool:
    with suppress(StoreError):
        return store.digest(store.load(path, store.DISTILLED), store.LEARNED) == digest
    return False


if __name__ == "__main__":
    run(main)
