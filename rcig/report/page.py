"""The report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

import base64
import io
import json
from collections.abc import Sequence
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, get_args

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from rcig.report.blocks import Block, Section, anchor, charts
from rcig.report.results import Report
from rcig.report.standings import SIZES, Standing, compared, standings

_TEMPLATE, _STYLE, _SCRIPT = "page.html.j2", "page.css", "page.js"


class _Set(NamedTuple):
    """The section of one set: what each section of the report says of it."""

    name: str
    standing: Standing | None
    parts: Sequence[tuple[str, Sequence[Block]]]


def render(sections: Sequence[Section], report: Report) -> str:
    """The page of these sections, without those that have no blocks, and of all sets that any of them speaks of."""
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"anchor": anchor, "picture": picture, "webp": _webp, "data": data, "values": values}
    environment.tests |= {kind.__name__.lower(): partial(_is_a, kind) for kind in get_args(Block)}
    environment.globals["number"] = count(1).__next__
    found = compared(standings(report))
    sets = [
        _Set(name, found.get(name), parts)
        for name in dict.fromkeys(name for section in sections for name in section.sets)
        for parts in [[(section.title, section.sets[name]) for section in sections if section.sets.get(name)]]
    ]
    environment.globals["names"] = {one.name for one in sets}
    shown = [section for section in sections if section.blocks]
    drawn = any(charts(blocks) for one in sections for blocks in (one.blocks, *one.sets.values()))
    return environment.get_template(_TEMPLATE).render(
        opened=[section for section in shown if not section.folded],
        folded=[section for section in shown if section.folded],
        sets=sets,
        sizes=SIZES,
        widths=widths(report),
        style=Markup((here / _STYLE).read_text()),
        script=Markup((here / _SCRIPT).read_text()),
        vega=Markup(libraries()) if drawn else "",
    )


@cache
def libraries() -> str:
    """JavaScript of Vega-Lite and Vega, which gives a page the function vegaEmbed."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def widths(report: Report) -> dict[str, str]:
    """What size settings are made for -> how wide the networks are that sets of this size are distilled by."""
    found: dict[str, set[int]] = {}
    for summary in report.summaries.values():
        found.setdefault(summary["size"], set()).add(summary["width"])
    return {size: " or ".join(map(str, sorted(numbers))) for size, numbers in found.items()}


def _is_a(kind: type, block: Block) -> bool:
    return isinstance(block, kind)


def picture(png: bytes) -> str:
    """A PNG as WebP, without any loss or, where that takes fewer bytes, with one that hardly shows."""
    image = Image.open(io.BytesIO(png))
    without, with_loss = io.BytesIO(), io.BytesIO()
    image.save(without, "webp", lossless=True, exact=True)
    image.save(with_loss, "webp", quality=90)
    return _webp(min(without.getvalue(), with_loss.getvalue(), key=len))


def _webp(content: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def data(spec: Any) -> Markup:
    """JSON inside of a script element, which no text in it can end."""
    return Markup(json.dumps(spec, separators=(",", ":")).replace("&", "\\u0026").replace("<", "\\u003c"))


def values(column: Sequence[Any]) -> list[str]:
    """What a reader may choose among the cells of a column: numbers by their size, else in order of appearance."""
    found = [text for text in dict.fromkeys(map(str, column)) if text]
    return sorted(found, key=int) if all(text.isdecimal() for text in found) else found
