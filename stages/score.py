"""score EXPERIMENT: how many networks trained on the distilled set miss each training image: its hardness.

Networks of the experiment's first protocol. An experiment with `hardness` needs the file artifacts/scores/NAME.npz.

Example: python -m stages.score mnist_sample-ipc1-rcig
"""

from pathlib import Path

import numpy as np

from rcig import planned, store
from rcig.judging import subject
from rcig.judging.evaluate import Entry, by_protocol
from stages.common import DISTILLED, run

SCORES = Path("artifacts/scores")


def main(name: str) -> None:
    entry, _ = planned.read("score", name, Entry)
    judged = subject.load(DISTILLED / f"{name}.npz", entry.judged, entry.dataset, on="train")
    found = by_protocol(judged, entry.evaluate, entry.evaluate.protocols[0])
    missed = (found.predicted != judged.test.labels).sum((0, 1)).astype(np.int32)
    networks = np.int32(found.predicted.shape[0] * found.predicted.shape[1])
    store.save(SCORES / f"{name}.npz", store.SCORES, missed=missed, networks=networks)


if __name__ == "__main__":
    run(main)
