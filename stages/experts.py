"""experts EXPERTS: weights of networks after every epoch on real images, which experiments of mtt need.

They are kept in artifacts/experts/NAME.npz, neither cached nor pushed as they are large; their size is said first.

Example: python -m stages.experts mnist
"""

import dataclasses
import json
from pathlib import Path

from rcig import planned
from rcig.data import real
from rcig.methods import experts
from stages.common import run

CHECKPOINTS = Path(".checkpoints")
"""as in rcig.run.distil, which is not imported: experts take long, and are to outlive a change of how sets are made"""


def main(name: str) -> None:
    entry, code = planned.read("experts", name, experts.Entry)
    dataset = entry.experts.dataset
    loaded = real.load_real(dataset, entry.dataset)
    made_of = planned.digest_of(json.dumps([dataclasses.asdict(entry), code, real.fingerprint(dataset)]).encode())
    checkpoints = CHECKPOINTS / f"experts-{name}-{made_of}"
    experts.make(entry, loaded, checkpoints, experts.FOLDER / f"{name}.npz")


if __name__ == "__main__":
    run(main)
