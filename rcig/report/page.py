"""The report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

import base64
import io
from collections.abc import Collection, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, get_args

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from rcig.report.blocks import Block, Section


class Cell(NamedTuple):
    text: str
    rows: int
    """lines that the cell covers"""
    heads: bool
    """whether it names its lines, as those of the first column do"""
    column: str


def render(sections: Sequence[Section], datasets: Collection[str]) -> str:
    """The page, without the sections that have no blocks; `datasets` names all that are used."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"data_uri": data_uri, "merged": merged}
    environment.tests |= {kind.__name__.lower(): partial(_is_a, kind) for kind in get_args(Block)}
    shown = [section for section in sections if section.blocks]
    return environment.get_template("page.html.j2").render(sections=shown, datasets=datasets)


def _is_a(kind: type, block: Block) -> bool:
    return isinstance(block, kind)


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
    names = list(map(str, table))
    return [
        [
            Cell(text, rows, name == names[0], name)
            for text, rows, name in zip(texts, covered, names, strict=True)
            if rows
        ]
        for texts, covered in zip(lines, spans, strict=True)
    ]


def data_uri(png: bytes) -> str:
    """The picture as lossless WebP, which takes little more than half of the bytes."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, "webp", lossless=True, exact=True)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
