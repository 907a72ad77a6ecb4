"""The report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

import base64
import io
from collections.abc import Collection, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from rcig.report.studies import Measured
from rcig.report.tables import IDENTITY


class Cell(NamedTuple):
    text: str
    rows: int
    """lines that the cell covers"""
    heads: bool
    """whether it names its lines, as those of the first column do"""


def render(
    *,
    tables: Mapping[str, pd.DataFrame],
    pictures: Mapping[str, bytes],
    curves: Mapping[str, bytes],
    gradients: Mapping[str, bytes],
    parts: Mapping[str, bytes],
    strata: Mapping[str, bytes],
    studies: Mapping[str, Measured],
    drawn: Mapping[str, bytes],
    datasets: Collection[str],
    facts: Mapping[str, Mapping[str, Any]],
    samples: Mapping[str, bytes],
    data: Mapping[str, bytes],
    confusions: Mapping[str, bytes],
    attacks: Mapping[str, bytes],
) -> str:
    """The page, without the sections that would be empty.

    Of `tables` it shows accuracy, comparisons, cross_architecture, robustness, hardness, membership_inference, times,
    slopes and datasets. `pictures`, `confusions` and `attacks` are PNG bytes by experiment, `curves` and
    `gradients` by dataset and size, `parts` by dataset, method, protocol and width, `strata`, `samples` and `data` by
    dataset, `drawn` by study; `datasets` names all that are used, `facts` says what is known of each.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "data_uri": _data_uri,
        "merged": merged,
        "by_size": _by_size,
        "by_experiment": _by_experiment,
    }
    return environment.get_template("page.html.j2").render(
        tables=tables,
        pictures=pictures,
        curves=curves,
        gradients=gradients,
        parts=parts,
        strata=strata,
        studies=studies,
        drawn=drawn,
        datasets=datasets,
        facts=facts,
        samples=samples,
        data=data,
        confusions=confusions,
        attacks=attacks,
    )


def merged(table: pd.DataFrame, keys: int) -> list[list[Cell]]:
    """Cells line by line, where one cell of the first `keys` columns stands for all lines below that repeat it.

    Cells are merged only where all cells to their left are, so that no cell spans two groups.
    """
    lines = table.astype(str).to_numpy().tolist()
    spans = [[1] * table.shape[1] for _ in lines]
    for column in range(keys):
        for _, group in groupby(range(len(lines)), key=lambda line: lines[line][: column + 1]):
            first, *repeats = group
            spans[first][column] += len(repeats)
            for line in repeats:
                spans[line][column] = 0
    return [
        [Cell(text, rows, column == 0) for column, (text, rows) in enumerate(zip(*pair, strict=True)) if rows]
        for pair in zip(lines, spans, strict=True)
    ]


def _by_size(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The lines of each dataset and number of images per class, without these columns."""
    size = ["Dataset", "Images per class"]
    groups = table.groupby(size, sort=False)
    return {f"{dataset}, {count} per class": lines.drop(columns=size) for (dataset, count), lines in groups}


def _by_experiment(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The lines of each experiment, without the columns that name it."""
    groups = table.groupby("Experiment", sort=False)
    return {str(experiment): lines.iloc[:, len(IDENTITY) :] for experiment, lines in groups}


def _data_uri(png: bytes) -> str:
    """The picture as lossless WebP, which takes little more than half of the bytes."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, "webp", lossless=True, exact=True)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
