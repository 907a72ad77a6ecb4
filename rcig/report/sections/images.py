"""The distilled images: those of the best sets first, and those of every set in its own section."""

import io
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from rcig.report.blocks import Block, Card, Cards, Images, Paragraph, Section, anchor
from rcig.report.drawing import Cell
from rcig.report.results import Report
from rcig.report.standings import Standing, compared, entry, highest, standings

ORDER = 0

_BEST, _SHOWN = 6, 10
"""sets at the top of the page, and images of each, at most"""
_ROOM = 1_000_000
"""bytes that the images of all sets' sections may have together"""
_ALL = "results/distill/{}/images.png"
_COUNTS = (500, 200, 100, 60, 40, 20, 10)
"""images of a set that are shown: as many as there is room for"""


def section(report: Report) -> Section:
    found = report.pictures
    cards = [_card(one, found[name]) for name, one in best(compared(standings(report)), set(found)).items()]
    first = first_with_them(found)
    shown = that_fit({name: found[name] for name in dict.fromkeys(first.values())})
    sets: dict[str, list[Block]] = {name: [_same_as(other)] for name, other in first.items()}
    for name, images in shown.items():
        sets[name] = [grouped(images)]
        if len(images) < (number := len(found[name])):
            sets[name].append(Paragraph(f"{len(images)} of {number}; {_ALL.format(name)} has all of them."))
    return Section("images", "Distilled images", [Cards(cards)] if cards else [], {}, sets, folded=False)


def best(found: Mapping[str, Standing], known: set[str]) -> dict[str, Standing]:
    """Of every dataset, the best distilled set among the smallest ones, those with a published number first."""
    made = [one for one in found.values() if one.made and one.experiment in known]
    chosen = {}
    for dataset in dict.fromkeys(one.dataset for one in made):
        smallest = min(one.room for one in made if one.dataset == dataset)
        chosen[dataset] = highest(one for one in made if (one.dataset, one.room) == (dataset, smallest))
    first = sorted(chosen.values(), key=lambda one: not one.published)[:_BEST]
    return {one.experiment: one for one in first}


def _card(one: Standing, images: list[Cell]) -> Card:
    number = "1 image" if one.images == 1 else f"{one.images} images"
    return Card(
        f"{one.dataset}, {number} per class, {one.method}", grouped(_first(images, _SHOWN)), entry(one, best=False)
    )


def grouped(images: list[Cell]) -> Images:
    """Images by class, those that follow each other."""
    return Images(
        [(title, [webp(cell.pixels) for cell in same]) for title, same in groupby(images, lambda cell: cell.title)]
    )


def webp(pixels: np.ndarray) -> bytes:
    """uint8 (h, w, c) without any loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(buffer, "webp", lossless=True)
    return buffer.getvalue()


def first_with_them(found: Mapping[str, list[Cell]]) -> dict[str, str]:
    """Set -> the first set that has the same images: itself, or another where one set is judged under two names."""
    seen: dict[tuple[Any, ...], str] = {}
    return {
        name: seen.setdefault(tuple((cell.title, cell.pixels.shape, cell.pixels.tobytes()) for cell in images), name)
        for name, images in found.items()
    }


def _same_as(name: str) -> Paragraph:
    return Paragraph(Markup('The images are those of <a href="#{}">{}</a>.').format(anchor(name), name))


def that_fit(found: Mapping[str, list[Cell]]) -> dict[str, list[Cell]]:
    """Of every set the images that there is room for: as many of every class, or else the first."""
    # Images of one set take about as many bytes as its first; on the page a third more, and a button each.
    sizes = {name: 1.4 * len(webp(images[0].pixels)) + 200 for name, images in found.items()}
    for count in _COUNTS:
        shown = {name: _first(images, count) for name, images in found.items()}
        if sum(sizes[name] * len(images) for name, images in shown.items()) <= _ROOM:
            break
    return shown


def _first(images: list[Cell], count: int) -> list[Cell]:
    """At most `count` images: all, or as many of every class, or one of each of the first classes."""
    if len(images) <= count:
        return images
    classes = dict.fromkeys(cell.title for cell in images)
    each = max(1, count // len(classes))
    seen: dict[str, int] = dict.fromkeys(classes, 0)
    kept = []
    for cell in images:
        seen[cell.title] += 1
        if seen[cell.title] <= each:
            kept.append(cell)
    return kept[:count]
