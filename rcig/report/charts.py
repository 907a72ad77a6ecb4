"""Figures as specifications of Vega-Lite, which the page draws for readers to point at, and their files for papers.

A specification holds its data and what to make of them; how it looks (colours of writing, fonts, sizes) is the page's
affair, and for the files that of `LOOK`. Fields have fixed names, so that no text of a file becomes part of one.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import vl_convert
from PIL import Image

Spec = dict[str, Any]

ACCENT = "#0072b2"
# Okabe & Ito's palette, which readers with any colour vision can tell apart, without the two it has for dark or light
# grounds only (black, yellow).
COLOURS = (ACCENT, "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ([1, 0], [6, 3], [2, 2])
LOOK: Spec = {
    "background": "white",
    "font": "Liberation Sans, Arial, sans-serif",
    "view": {"stroke": None, "continuousWidth": 420, "continuousHeight": 260},
    "axis": {"gridOpacity": 0.5, "domain": False, "ticks": False, "labelPadding": 6, "titleFontWeight": "normal"},
    "legend": {"orient": "bottom", "columns": 2, "labelLimit": 320, "symbolStrokeWidth": 2},
}
"""config of Vega-Lite for the files"""
_HEIGHT, _ENTRY = 240, 20
"""points: of a figure, and of a line of its legend"""
_INVISIBLE = {"value": 0}
_CHOSEN = {"condition": {"param": "chosen", "value": 1}, "value": 0.08}
_NAMED = 20
"""classes whose names fit beside a matrix"""
_POINTS, _FEWEST = 400, 40
"""of a figure, and of each line where there are very many"""
_AXIS = {"tickCount": 6, "labelOverlap": "greedy"}
_PERCENT = {"format": ".3~%"} | _AXIS


def figure(data: pd.DataFrame, *layers: Spec, text: Sequence[str] = (), height: int = _HEIGHT) -> Spec:
    """A figure of these layers over one table; `text` names the columns that are no numbers, whatever they hold."""
    parse = {name: "string" if name in text else "number" for name in data}
    values = data.to_csv(index=False, float_format="%.5g", lineterminator="\n")
    return _figure({"values": values, "format": {"type": "csv", "parse": parse}}, layers, height)


def _figure(data: Spec, layers: Sequence[Spec], height: int) -> Spec:
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "data": data,
        "layer": list(layers),
    }


def number(field: str, title: str, *, log: bool = False, zero: bool = False, percent: bool = False) -> Spec:
    """The encoding of a column of numbers by a place on an axis."""
    scale: Spec = {"type": "log"} if log else {"zero": zero}
    axis = _PERCENT if percent else _AXIS
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def colour(field: str, names: Sequence[str], title: str | None = None, symbol: str = "stroke") -> Spec:
    """The encodings of a column of names by colour and, where these are used up, dashes; in the order of `names`."""
    domain = list(dict.fromkeys(names))
    dashes = [_DASHES[position // len(COLOURS) % len(_DASHES)] for position in range(len(domain))]
    shades = [COLOURS[position % len(COLOURS)] for position in range(len(domain))]
    legend = None if len(domain) == 1 else {"title": title, "symbolType": symbol}
    return {
        "color": {
            "field": field,
            "type": "nominal",
            "scale": {"domain": domain, "range": shades},
            "legend": legend,
        },
        "strokeDash": {
            "field": field,
            "type": "nominal",
            "scale": {"domain": domain, "range": dashes},
            "legend": legend,
        },
        "opacity": _CHOSEN,
    }


def choices(field: str) -> list[Spec]:
    """What a reader can do: choose names in the legend; drag, and zoom by the wheel with Shift, as pages scroll by it.

    For one layer of a figure, whose `colour` goes by it.
    """
    return [
        {"name": "chosen", "select": {"type": "point", "fields": [field], "toggle": "true"}, "bind": "legend"},
        {"name": "view", "select": {"type": "interval", "zoom": "wheel![event.shiftKey]"}, "bind": "scales"},
    ]


def lines(
    data: pd.DataFrame, x: Spec, y: Spec, names: Sequence[str], *, title: str = "set", dots: bool = False
) -> Spec:
    """A line through the rows of each `name`, in their order; where there is a column `seed`, faint lines by seed too.

    A row without a seed is the mean over seeds. Columns: name, perhaps seed, and numbers, among them those of x and y.
    """
    keys = [key for key in ("name", "seed") if key in data]
    groups = list(data.groupby(keys, sort=False))
    # All rows of a line are one record of arrays, so that its name stands there once.
    values = [
        dict(zip(keys, key, strict=True)) | {column: _rounded(some[column]) for column in data if column not in keys}
        for key, rows in groups
        for some in [thinned(rows, _POINTS // len(groups))]
    ]
    tooltip = [
        {"field": "name", "type": "nominal", "title": title},
        {"field": x["field"], "type": "quantitative", "title": x["title"]},
        {"field": y["field"], "type": "quantitative", "title": y["title"]}
        | {"format": ".1%" if y["axis"] is _PERCENT else ".3~g"},
    ]
    encoding: Spec = {"x": x, "y": y, **colour("name", names, title)}
    whole: Spec = {
        "params": choices("name"),
        "mark": {"type": "line", "strokeWidth": 1.8} | ({"point": {"size": 28}} if dots else {}),
        "encoding": encoding | ({"tooltip": tooltip} if dots else {}),
    }
    layers = [whole]
    if not dots:
        # Something to point at.
        place = {"x": x, "y": y, "opacity": _INVISIBLE, "tooltip": tooltip}
        layers.append({"mark": {"type": "point", "size": 60}, "encoding": place})
    if len(keys) > 1:
        whole["transform"] = [{"filter": "datum.seed === ''"}]
        apart: Spec = {
            "transform": [{"filter": "datum.seed !== ''"}],
            "mark": {"type": "line", "strokeWidth": 0.8, "opacity": 0.3},
            "encoding": {key: value for key, value in encoding.items() if key != "opacity"}
            | {"detail": {"field": "seed"}},
        }
        layers.insert(0, apart)
    columns = [column for column in data if column not in keys]
    entries = len(set(names)) + 1 if len(set(names)) > 1 else 0
    return _figure({"values": values}, layers, _HEIGHT + _ENTRY * entries) | {"transform": [{"flatten": columns}]}


def _rounded(column: pd.Series) -> list[float]:
    """To four digits; whole numbers as such."""
    rounded = (float(f"{value:.4g}") for value in column)
    return [int(value) if value.is_integer() else value for value in rounded]


def with_bars(spec: Spec, low: str, high: str) -> Spec:
    """A figure of lines and dots with a bar through every point, from one column to the other."""
    line = spec["layer"][0]["encoding"]
    shared = {key: line[key] for key in ("x", "color", "opacity")}
    ends = {"y": line["y"] | {"field": low}, "y2": {"field": high}}
    return spec | {"layer": [{"mark": {"type": "rule"}, "encoding": shared | ends}, *spec["layer"]]}


def thinned(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Evenly spaced rows, about `most` of many, with the last among them."""
    step = -(-len(rows) // max(_FEWEST, most))
    return rows[::-1][::step][::-1]


def heatmap(data: pd.DataFrame, names: Sequence[str]) -> Spec:
    """Shares (column `share`, from 0 to 1) of what is truly `true` and is said to be `said`; numbers where they fit."""
    labelled = len(names) <= _NAMED
    axis = {"labels": labelled, "labelAngle": -45 if max(map(len, names)) > 3 else 0, "grid": False, "labelLimit": 90}
    place = {"type": "nominal", "scale": {"domain": list(dict.fromkeys(names)), "padding": 0}}
    encoding: Spec = {
        "x": place | {"field": "said", "title": "predicted", "axis": axis},
        "y": place | {"field": "true", "title": "true", "axis": axis | {"labelAngle": 0}},
        "tooltip": [
            {"field": "true", "type": "nominal"},
            {"field": "said", "type": "nominal", "title": "predicted"},
            {"field": "share", "type": "quantitative", "format": ".1%"},
        ],
    }
    shade = {"field": "share", "type": "quantitative", "legend": None, "scale": {"domain": [0, 1], "range": [0, 1]}}
    layers: list[Spec] = [{"mark": {"type": "rect", "color": ACCENT}, "encoding": encoding | {"opacity": shade}}]
    if labelled:
        written = {"field": "share", "type": "quantitative", "format": ".0%"}
        ink = {"condition": {"test": "datum.share > 0.5", "value": "white"}}
        layers.append({"mark": {"type": "text", "fontSize": 9}, "encoding": encoding | {"text": written, "color": ink}})
    return figure(data, *layers, text=("true", "said"), height=380)


def svg(spec: Mapping[str, Any]) -> str:
    """A chart as SVG; the same specification gives the same text."""
    drawn = vl_convert.vegalite_to_svg(_still(spec), config=LOOK)
    # The library numbers all that it draws in a process.
    numbers: dict[str, str] = {}
    return re.sub(r"\b(clip|gradient_)\d+", lambda one: numbers.setdefault(one[0], f"{one[1]}{len(numbers)}"), drawn)


def _still(spec: Mapping[str, Any]) -> Spec:
    """The chart without what a reader does with it, at the width that it has in a paper."""
    layers = []
    for layer in spec["layer"]:
        encoding = {key: value for key, value in layer["encoding"].items() if key != "tooltip"}
        if encoding.get("opacity") == _CHOSEN:
            del encoding["opacity"]
        if encoding.get("opacity") != _INVISIBLE:
            kept = {key: value for key, value in layer.items() if key != "params"}
            layers.append(kept | {"encoding": encoding})
    return {**spec, "width": 420, "layer": layers}


def png(svg: str) -> bytes:
    """An SVG as PNG, with half as many pixels again as points, and 256 colours, as many as lines and letters need."""
    few = (
        Image.open(io.BytesIO(vl_convert.svg_to_png(svg, scale=1.5)))
        .convert("RGB")
        .quantize(256, Image.Quantize.FASTOCTREE)
    )
    buffer = io.BytesIO()
    few.save(buffer, "png")
    return buffer.getvalue()
