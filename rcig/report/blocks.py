"""What a section of the report is made of: blocks of the page, and the tables and figures that are files as well."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd


class Paragraph(NamedTuple):
    text: str
    """markupsafe.Markup where it has marks of its own"""


class Code(NamedTuple):
    text: str


class Table(NamedTuple):
    groups: Mapping[str, pd.DataFrame]
    """title -> its lines, under one header; without a title where it is empty"""
    keys: int
    """leading columns whose cells stand for all lines below that repeat them"""
    caption: str
    wrapped: tuple[str, ...] = ()
    """columns of long texts, which may take several lines"""


class Picture(NamedTuple):
    png: bytes
    alt: str


class Figure(NamedTuple):
    caption: str
    pictures: Sequence[Picture]
    notes: Sequence[str] = ()
    """paragraphs below the pictures"""


class Grid(NamedTuple):
    """Small figures, as many beside each other as the page has room for."""

    figures: Sequence[Figure]


Block = Paragraph | Code | Table | Figure | Grid


class Section(NamedTuple):
    id: str
    title: str
    blocks: Sequence[Block]
    """without any, the page leaves the section out; its files are written all the same"""
    tables: Mapping[str, pd.DataFrame]
    """file name without its ending -> the table; cells are shown as they are"""
    figures: Mapping[str, bytes]
    """file name without its ending -> PNG"""
