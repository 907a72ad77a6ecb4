"""score EXPERIMENT: how many networks trained on the distilled set miss each training image: its hardness.

Networks of the experiment's first protocol. Prints what `hardness` of an experiment needs to draw batches by it.
"""

import hashlib
from pathlib import Path

import numpy as np

from rcig import store
from rcig.data import splits
from stages.common import run
from stages.evaluate import by_protocol
from stages.inputs import load_inputs
from stages.real import load_split

SCORES = Path("artifacts/scores")


def main(name: str) -> None:
    inputs = load_inputs(name)
    train, _ = load_split(inputs.experiment.dataset, "train")
    found = by_protocol(inputs._replace(test=splits.whole(train)), inputs.experiment.evaluate.protocols[0])
    missed = (found.predicted != train.labels).sum((0, 1)).astype(np.int32)
    networks = np.int32(found.predicted.shape[0] * found.predicted.shape[1])
    path = SCORES / f"{name}.npz"
    store.save(path, store.SCORES, missed=missed, networks=networks)
    print(f"hardness: {{scores: {path}, sha256: {hashlib.sha256(path.read_bytes()).hexdigest()}, strength: 1}}")


if __name__ == "__main__":
    run(main)
