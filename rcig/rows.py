"""Tidy rows: one number measured on one network each. Accuracies, AUCs and rates are fractions."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rcig.params import Experiment
from rcig.store import atomic_write

COLUMNS: dict[str, type] = {
    "experiment": str,
    "dataset": str,
    "images_per_class": int,
    "method": str,
    "protocol": str,
    "architecture": str,
    "width": int,
    "seed": int,
    "network": int,
    "metric": str,
    "value": float,
}
"""Columns in order, and their types."""

Row = dict[str, Any]


def of_networks(experiment: Experiment, values: Iterable[float], **where: Any) -> list[Row]:
    """One row for each of the networks' values; `where` gives protocol, architecture, width, seed and metric."""
    shared = {
        "dataset": experiment.dataset,
        "images_per_class": experiment.images_per_class,
        "method": experiment.method,
    }
    return [shared | where | {"network": i, "value": float(value)} for i, value in enumerate(values)]


def save(path: Path, name: str, rows: Sequence[Row]) -> None:
    """Write the rows of the experiment of that name as CSV; an empty table keeps its header."""
    table = pd.DataFrame([{"experiment": name} | row for row in rows], columns=list(COLUMNS))
    buffer = io.StringIO()
    table.to_csv(buffer, index=False)
    atomic_write(path, buffer.getvalue())


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """All rows of these CSV files, in their order.

    Raises ValueError naming the file whose columns, or the types of their values, are not those of COLUMNS.
    """
    none = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    return pd.concat([none, *map(_read_file, paths)], ignore_index=True)


def _read_file(path: Path) -> pd.DataFrame:
    fix = "remove it and run `dvc repro`"
    try:
        table = pd.read_csv(path, dtype=COLUMNS)
    except ValueError as error:
        raise ValueError(f"{path}: not a table of results ({error}); {fix}") from None
    if list(table) != list(COLUMNS):
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(map(str, table))}; {fix}")
    return table
