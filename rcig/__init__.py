"""Distil a dataset into a handful of images, and trust and reproduce every number about it."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rcig.sets import DistilledSet

__version__ = "0.1.0"


def load(name: str, source: str | Path = ".", revision: str | None = None, seed: int | None = None) -> "DistilledSet":
    """A distilled set by its name: see rcig.sets.load."""
    from rcig import sets

    return sets.load(name, source, revision, seed)
