"""Tidy rows: one number measured on one network each; and the tables of studies.

Accuracies, AUCs and rates are fractions.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rcig.params import Experiment, Study
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
}
"""Columns in order, and their types. `step`: training steps that the network has had."""

MEASURED: dict[str, type] = {
    "seed": int,
    "images": int,
    "seconds_per_step": float,
    "memory_mb": float,
    "heldout_accuracy": float,
    "seconds_total": float,
    "machine": str,
}
"""Columns of a study's table after its settings. `images` are the distilled ones, mirror images included."""

SUBSET = "+subset"
"""ends the method of rows that are of a part of a set"""

Row = dict[str, Any]


def of_networks(experiment: Experiment, values: Iterable[float], **where: Any) -> list[Row]:
    """One row for each of the networks' values; `where` gives protocol, architecture, width, seed and metric.

    It may give another name than the experiment's to the method.
    """
    set_of = {"dataset": experiment.dataset, "images_per_class": experiment.images_per_class}
    return by_network(values, **set_of | {"method": experiment.label} | where)


def by_network(values: Iterable[float], **shared: Any) -> list[Row]:
    """One row for each of the networks' values, with all other columns but the experiment's in `shared`."""
    return [shared | {"network": i, "value": float(value)} for i, value in enumerate(values)]


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


def save_study(path: Path, name: str, study: Study, rows: Sequence[Row]) -> None:
    """Write a study's rows, each with settings and MEASURED, as CSV; a setting that a row lacks stays empty."""
    named = [{"study": name, "dataset": study.base.dataset} | row for row in rows]
    buffer = io.StringIO()
    pd.DataFrame(named, columns=_study_columns(study), dtype=object).to_csv(buffer, index=False)
    atomic_write(path, buffer.getvalue())


def read_study(path: Path, study: Study) -> pd.DataFrame:
    """A study's rows with all their settings, those of the base included, and a number for `subset: all`.

    Raises ValueError naming a file whose columns, or the types of their values, are others.
    """
    table = _read_table(path, MEASURED, _study_columns(study))
    for name in study.varied:
        given = table[name].astype(object)
        table[name] = given.where(given.notna(), getattr(study.base.settings, name)).infer_objects()
    if "subset" in table:
        table["subset"] = pd.to_numeric(table["subset"], errors="coerce").fillna(table["images"]).astype(int)
    return table


def _study_columns(study: Study) -> list[str]:
    return ["study", "dataset", *study.varied, *MEASURED]


def _read_file(path: Path) -> pd.DataFrame:
    return _read_table(path, COLUMNS, list(COLUMNS))


def _read_table(path: Path, types: Mapping[str, type], columns: list[str]) -> pd.DataFrame:
    fix = "remove it and run `dvc repro`"
    try:
        table = pd.read_csv(path, dtype=types)
    except ValueError as error:
        raise ValueError(f"{path}: not a table of results ({error}); {fix}") from None
    if list(table) != columns:
        raise ValueError(f"{path}: expected the columns {', '.join(columns)}, got {', '.join(map(str, table))}; {fix}")
    return table
