"""release SET.npz RESULTS: a released set of a distilled one and of the folder with its summary.json and curve.csv.

Writes released/NAME.npz, NAME being the set's; pin it by `dvc add`. For sets that a machine made which the pipeline
cannot count on, such as a GPU, or that an earlier revision made. Not a stage.
"""

import json
from pathlib import Path

import numpy as np

from rcig import store
from rcig.errors import StoreError
from rcig.methods import saved
from rcig.run.distil import OF_ITS_MAKER
from stages.common import run

RELEASED = Path("released")


def main(path: str, results: str) -> None:
    arrays, meta = saved.load(Path(path))
    summary = json.loads((Path(results) / "summary.json").read_text())
    missing = [name for name in (*OF_ITS_MAKER, "code", "data", "heldout_accuracy") if name not in summary]
    if missing:
        raise StoreError(f"{results}/summary.json: lacks {', '.join(missing)}; is it the summary of {path}?")
    summary |= {"arrays": store.digest(arrays, store.LEARNED), "curve": (Path(results) / "curve.csv").read_text()}
    arrays["meta"] = np.asarray(json.dumps(meta | {"record": summary}, sort_keys=True))
    target = RELEASED / Path(path).name
    store.save(target, store.DISTILLED, **arrays)
    print(f"{target}: {meta['method']} on {meta['dataset']}; pin it: dvc add {target}")


if __name__ == "__main__":
    run(main)
