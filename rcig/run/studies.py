"""What was measured at the points of a study, as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rcig import escape, rows
from rcig.run.settings import Study
from rcig.store import atomic_write

MEASURED: dict[str, type] = {
    "seed": int,
    "images": int,
    "seconds_per_step": float,
    "memory_mib": float,
    "heldout_accuracy": float,
    "seconds_total": float,
    "machine": str,
    "code": str,
}
"""Columns of a study's table after its settings. `images` are the distilled ones, mirror images included."""


def save(path: Path, name: str, study: Study, measured: Sequence[dict[str, Any]]) -> None:
    """Write a study's rows, each with settings and MEASURED, as CSV; a setting that a row lacks stays empty."""
    named = [{"study": name, "dataset": study.base.dataset} | row | _counted(row) for row in measured]
    atomic_write(path, escape.csv(pd.DataFrame(named, columns=_columns(study), dtype=object)))


def _counted(row: dict[str, Any]) -> dict[str, Any]:
    """All images of a backward pass as a number: an empty cell would stand for the base's."""
    return {"backward_images": row["images"]} if row.get("backward_images", 0) is None else {}


def read(path: Path, study: Study) -> pd.DataFrame:
    """A study's rows with all their settings, those of the base included; backward_images, where all, as their number.

    Raises StoreError naming a file whose columns, or the types of their values, are others.
    """
    table = rows.read_table(path, MEASURED, _columns(study))
    for name in study.varied:
        given = table[name].astype(object)
        table[name] = given.where(given.notna(), getattr(study.base.settings, name)).infer_objects()
    if "backward_images" in table:
        table["backward_images"] = table["backward_images"].fillna(table["images"]).astype(int)
    return table


def _columns(study: Study) -> list[str]:
    return ["study", "dataset", *study.varied, *MEASURED]
