"""Tidy rows: one number measured on one network each.

Accuracies, AUCs and rates are fractions.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rcig import escape
from rcig.errors import StoreError, of_path
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
    "step": int,
    "metric": str,
    "value": float,
    "code": str,
}
"""Columns in order, and their types. `step`: training steps that the network has had; `code`: what the code means that
measured it, see rcig.fingerprint."""

PART = "+part"
"""ends the method of rows that are of a part of a set"""

Row = dict[str, Any]


def by_network(values: Iterable[float], **shared: Any) -> list[Row]:
    """One row for each of the networks' values, with all other columns but the experiment's in `shared`."""
    return [shared | {"network": i, "value": float(value)} for i, value in enumerate(values)]


def save(path: Path, name: str, rows: Sequence[Row], code: str) -> None:
    """Write the rows of the experiment of that name as CSV; an empty table keeps its header."""
    table = pd.DataFrame([{"experiment": name, "code": code} | row for row in rows], columns=list(COLUMNS))
    atomic_write(path, escape.csv(table))


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """All rows of these CSV files, in their order.

    Raises StoreError naming the file whose columns, or the types of their values, are not those of COLUMNS.
    """
    none = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    return pd.concat([none, *map(_read_file, paths)], ignore_index=True)


def _read_file(path: Path) -> pd.DataFrame:
    return read_table(path, COLUMNS, list(COLUMNS))


def read_table(path: Path, types: Mapping[str, type], columns: list[str]) -> pd.DataFrame:
    """A CSV file of results with these columns, of which `types` names some. Raises StoreError for another."""
    fix = "remove it and run `dvc repro`"
    try:
        table = pd.read_csv(path, dtype=types)
    except OSError as error:
        raise StoreError(of_path(error)) from None
    except ValueError as error:
        raise StoreError(f"{path}: not a table of results ({error}); {fix}") from None
    if list(table) != columns:
        raise StoreError(f"{path}: expected the columns {', '.join(columns)}, got {', '.join(map(str, table))}; {fix}")
    return escape.plain(table)
