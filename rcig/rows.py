"""Tidy rows: one measurement each. Accuracies, AUCs and rates are fractions."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rcig.params import Experiment
from rcig.store import atomic_write

COLUMNS = [
    "experiment",
    "dataset",
    "images_per_class",
    "method",
    "protocol",
    "architecture",
    "width",
    "seed",
    "network",
    "metric",
    "value",
]

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
    table = pd.DataFrame([{"experiment": name} | row for row in rows], columns=COLUMNS)
    buffer = io.StringIO()
    table.to_csv(buffer, index=False)
    atomic_write(path, buffer.getvalue())
