"""What a section of the report is made of: blocks of the page, and the tables that are files as well."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from rcig.escape import file_name


class Paragraph(NamedTuple):
    text: str
    """markupsafe.Markup where it has marks of its own"""


class Code(NamedTuple):
    text: str


class Facts(NamedTuple):
    """Short answers, each beside its name."""

    items: Mapping[str, str]


class Table(NamedTuple):
    """A reader sorts it by a click on a column's name, and chooses among the values of some columns."""

    lines: pd.DataFrame
    """cells are shown as they are; the first column names its line, and where it names a set, leads to it"""
    caption: str
    filters: Sequence[str] = ()
    """columns of which a reader may choose a value"""


class Entry(NamedTuple):
    """A set in the cell of a matrix or above its images: what it reaches, and all that this number is of."""

    set: str
    """"" where nothing was made, and only a published number is shown"""
    size: str
    """what its settings are made for: compact, paper, demo"""
    accuracy: str
    published: str
    best: bool
    notes: Sequence[str]
    """one line each, smaller than the accuracy"""


class Matrix(NamedTuple):
    columns: Sequence[str]
    rows: Mapping[tuple[str, str], Sequence[Sequence[Entry]]]
    """dataset and size in words -> by column what stands in its cell"""
    caption: str


class Images(NamedTuple):
    """Distilled images by their class; a click enlarges one."""

    groups: Sequence[tuple[str, Sequence[bytes]]]
    """class -> its images as WebP, one pixel a pixel"""


class Card(NamedTuple):
    title: str
    images: Images
    entry: Entry


class Cards(NamedTuple):
    cards: Sequence[Card]


class Picture(NamedTuple):
    """A click enlarges it."""

    png: bytes
    alt: str
    caption: str = ""


class Chart(NamedTuple):
    """A figure of Vega-Lite: on the page, and, where it has a name, as PNG and SVG."""

    title: str
    alt: str
    spec: Mapping[str, Any]
    """see rcig.report.charts"""
    name: str = ""
    """of its files, without an ending"""


class Row(NamedTuple):
    """Charts side by side, where the page has room for it."""

    charts: Sequence[Chart]


class Fold(NamedTuple):
    """Shown when a reader opens it."""

    title: str
    blocks: "Sequence[Block]"


Block = Paragraph | Code | Facts | Table | Matrix | Images | Cards | Picture | Row | Fold


class Section(NamedTuple):
    id: str
    title: str
    blocks: Sequence[Block]
    """without any, the page leaves the section out; its files are written all the same"""
    tables: Mapping[str, pd.DataFrame]
    """file name without its ending -> the table; cells are shown as they are"""
    sets: Mapping[str, Sequence[Block]] = {}
    """experiment -> what the section says of this set alone, which stands in the set's own section"""
    folded: bool = True


def anchor(experiment: str) -> str:
    """Where on the page a set has its section."""
    return f"set-{file_name(experiment)}"


def charts(blocks: Sequence[Block]) -> list[Chart]:
    """All charts of these blocks, those of folded ones too."""
    found: list[Chart] = []
    for block in blocks:
        if isinstance(block, Row):
            found += block.charts
        elif isinstance(block, Fold):
            found += charts(block.blocks)
    return found
