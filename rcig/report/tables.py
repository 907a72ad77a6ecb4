"""What the tables of several sections share: cells of text, published values, what a set takes to store; and formats.

Rows hold fractions. Tables show accuracies and true positive rates in percent, AUCs as fractions.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rcig import escape
from rcig.rows import PART
from rcig.statistics import standard_error

IDENTITY = ["experiment", "dataset", "images_per_class", "method"]
"""What names a set. The experiment is part of it: two experiments may share all the rest and must not be pooled."""
HEADERS = {
    "experiment": "Experiment",
    "dataset": "Dataset",
    "images_per_class": "Images per class",
    "method": "Method",
    "width": "Width",
}
"""columns of rows that name a set -> the words for them in tables"""
OF_OTHERS = ("dsa", "mtt", "datm", "idc", "ncfm", "frepo", "teacher", "teacher_random")
"""protocols by which the authors of other sets judge them"""
PROTOCOLS = {"loo2023": "No augmentation", "loo2023_augmented": "Augmentation"}
OTHER_PROTOCOLS = {
    "loo2023_hard": "Hard labels",
    "reference": "Reference code",
    "inner_adam": "Inner Adam",
    "narrow_adam": "Narrow, Adam",
    "narrow_sgd": "Narrow, SGD",
} | {name: f"Protocol {name}" for name in OF_OTHERS}
"""these have a column where they were run"""
FULL = {"full_dataset": "loo2023", "full_dataset_augmented": "loo2023_augmented"}
"""protocols of the full dataset -> the column that they stand in"""


@cache
def published() -> dict[tuple[str, ...], str]:
    """(source, dataset, images per class or "full", method, metric) -> "69.1 ± 0.4", as the source prints it.

    Methods have the names that they have here. Where the paper has several values the first stands, which for rcig in
    table 3 is that of sets distilled without normalisation.
    """
    printed = pd.read_csv(Path(__file__).with_name("published.csv"), dtype=str)
    printed["method"] = printed["method"].replace({"random_subset": "random_real"})
    printed["dataset"] = printed["dataset"].str.removesuffix("/64x64")
    fields = ["source", "dataset", "images_per_class", "method", "metric"]
    lines = printed.drop_duplicates(fields)[[*fields, "value", "std"]].itertuples(index=False, name=None)
    return {tuple(key): value if pd.isna(std) else f"{value} ± {std}" for *key, value, std in lines}


def percent(fractions: pd.Series) -> str:
    """Fractions -> "94.7 ± 0.5 (15)": mean, sample standard deviation and number, the first two in percent.

    A single value has no spread: "94.7 (1)". A NaN among the values shows as nan; it is never left out.
    """
    values = 100 * fractions.to_numpy()
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread} ({len(values)})"


def networks(rows: pd.DataFrame) -> str:
    """Rows -> "94.7 ± 0.5 (15, SE 0.3)": as `percent`, and the standard error over seeds where there are several."""
    error = 100 * standard_error(rows)
    text = percent(rows["value"])
    return text if np.isnan(error) else f"{text[:-1]}, SE {error:.1f})"


def final(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of fully trained networks."""
    # Those of a part of a set, which has fewer images, may be trained for fewer steps.
    keys = ["experiment", "images_per_class", "protocol", "architecture", "width"]
    last = rows.groupby(keys)["step"].transform("max")
    return rows[rows["step"] == last]


def storage(rows: pd.DataFrame, summaries: Mapping[str, Mapping[str, Any]]) -> pd.Series:
    """Images per class that each row's set takes the room of: its own number, or fewer where it stores a basis."""
    sizes = {name: summary["storage_images_per_class"] for name, summary in summaries.items()}
    whole = ~rows["method"].str.endswith(PART) & rows["experiment"].isin(sizes)
    return rows["images_per_class"].where(~whole, rows["experiment"].map(sizes)).astype(int)


def by_experiment(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The lines of each experiment, without the columns that name it."""
    named = [HEADERS[column] for column in IDENTITY if HEADERS[column] in table]
    groups = table.groupby(HEADERS["experiment"], sort=False)
    return {str(experiment): lines.drop(columns=named) for experiment, lines in groups}


def duration(seconds: float) -> str:
    """Seconds in the largest unit that leaves two or more of it: "90.0 s", "12.5 min", "3.2 h"."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def least_squares(x: pd.DataFrame, y: pd.Series) -> tuple[np.ndarray, float]:
    """Slopes of a linear fit of y by all columns of x together, and its R²."""
    design = np.column_stack([x.to_numpy(float), np.ones(len(x))])
    solution = np.linalg.lstsq(design, y.to_numpy(), rcond=None)[0]
    rest, total = np.var(y.to_numpy() - design @ solution), np.var(y.to_numpy())
    return solution[:-1], float(1 - rest / total) if total else 1.0


def to_markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown, its columns padded to one width so that the source reads as a table too."""
    columns = [[escape.markdown(str(cell)) for cell in (name, *table[name])] for name in table]
    widths = [max(map(len, column)) for column in columns]
    header, *lines = zip(*columns, strict=True)
    rule = ["-" * width for width in widths]
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in (header, rule, *lines)
    )


def to_latex(table: pd.DataFrame) -> str:
    """A LaTeX tabular for the booktabs package; special characters are escaped, and a text is one line."""
    table = table.map(_in_one_line).rename(columns=_in_one_line)
    return table.to_latex(index=False, escape=True).replace("±", r"$\pm$")


def _in_one_line(cell: Any) -> Any:
    return " ".join(cell.split()) if isinstance(cell, str) else cell
