"""A released set: one that a machine made which the pipeline cannot count on, such as a GPU, with its maker's record.

The file that the experiment `needs` is an .npz as the stage `distill` writes it, whose meta has a `record`: what the
maker's summary said, the training curve, and a digest of the arrays. `stages.release` makes it; `dvc add` pins it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcig import store
from rcig.errors import StoreError
from rcig.methods import saved
from rcig.methods.base import Distilled, Member, Method, Record, Setup, kept


@dataclass(frozen=True)
class Settings:
    """It has none: its maker's settings are in its record."""


MEMBERS = {"stored": Member(learns=False, starts=False)}


def make(settings: Settings, setup: Setup) -> Method[Distilled, tuple[()], Distilled]:
    """The set of the file, whatever the initial one. Raises StoreError for one that does not fit the run."""
    seeds = read(setup.needs)["seeds"]
    if setup.seed not in seeds:
        raise StoreError(f"{setup.needs}: has no seed {setup.seed}; give some of seeds: {seeds} in params.yaml")
    given = saved.of_seed(setup.needs, setup.seed, (setup.images, *setup.shape), setup.classes, setup.whitening)
    return kept(lambda key, initial: given)


def record(settings: Settings, needs: Path) -> Record:
    """What its maker says of the set."""
    meta = read(needs)
    return Record(
        {name: value for name, value in meta["record"].items() if name != "curve"}, meta["record"]["curve"], meta
    )


def read(path: Path) -> dict[str, Any]:
    """The meta of a released set. Raises StoreError where its arrays are not those of its record."""
    arrays, meta = store.load_distilled(path)
    if "record" not in meta:
        raise StoreError(f"{path}: a distilled set without its maker's record; make one by `python -m stages.release`")
    if meta["record"]["arrays"] != (found := store.digest(arrays, store.LEARNED)):
        raise StoreError(
            f"{path}: its arrays have the digest {found}, its record says {meta['record']['arrays']};"
            " fetch the file again by `dvc pull`"
        )
    return meta
