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
_NAMED = 20
"""classes whose names fit beside a matrix"""
_POINTS = 150
"""of a line at most, as no screen shows more"""
PERCENT = {"format": ".0%"}


def figure(data: pd.DataFrame, *layers: Spec, text: Sequence[str] = (), height: int = 240) -> Spec:
    """A figure of these layers over one table; `text` names the columns that are no numbers, whatever they hold."""
    parse = {name: "string" if name in text else "number" for name in data}
    values = data.to_csv(index=False, float_format="%.5g", lineterminator="\n")
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "data": {"values": values, "format": {"type": "csv", "parse": parse}},
        "layer": list(layers),
    }


def number(field: str, title: str, *, log: bool = False, zero: bool = False, percent: bool = False) -> Spec:
    """The encoding of a column of numbers by a place on an axis."""
    scale: Spec = {"type": "log"} if log else {"zero": zero}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": {"labelFlush": True}} | (
        {"axis": PERCENT} if percent else {}
    )


def colour(field: str, names: Sequence[str], title: str | None = None) -> Spec:
    """The encodings of a column of names by colour and, where these are used up, dashes; in the order of `names`."""
    domain = list(dict.fromkeys(names))
    dashes = [_DASHES[position // len(COLOURS) % len(_DASHES)] for position in range(len(domain))]
    shades = [COLOURS[position % len(COLOURS)] for position in range(len(domain))]
    legend = None if len(domain) == 1 else {"title": title, "symbolType": "stroke"}
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
        "opacity": {"condition": {"param": "chosen", "value": 1}, "value": 0.08},
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
    data: pd.DataFrame, x: Spec, y: Spec, names: Sequence[str], *, title: str | None = None, dots: bool = False
) -> Spec:
    """A line through the rows of each `name`, in their order; where there is a column `seed`, faint lines by seed too.

    Of a row with a seed the mean over seeds is that without one. Columns: those of x and y, name, and perhaps seed.
    """
    data = thinned(data)
    tooltip = [
        {"field": "name", "type": "nominal", "title": "set" if title is None else title},
        {"field": x["field"], "type": "quantitative", "title": x["title"]},
        {"field": y["field"], "type": "quantitative", "title": y["title"], "format": ".3~g"},
    ]
    if y.get("axis") == PERCENT:
        tooltip[-1]["format"] = ".1%"
    encoding: Spec = {"x": x, "y": y, **colour("name", names, title), "order": {"field": "order"}}
    data = data.assign(order=range(len(data)))
    whole: Spec = {
        "params": choices("name"),
        "mark": {"type": "line", "strokeWidth": 1.8, "point": {"size": 28} if dots else "transparent"},
        "encoding": encoding | {"tooltip": tooltip},
    }
    if "seed" not in data:
        return figure(data, whole, text=("name",))
    apart: Spec = {
        "transform": [{"filter": "datum.seed !== ''"}],
        "mark": {"type": "line", "strokeWidth": 0.8, "opacity": 0.3},
        "encoding": {key: value for key, value in encoding.items() if key != "opacity"} | {"detail": {"field": "seed"}},
    }
    whole["transform"] = [{"filter": "datum.seed === ''"}]
    return figure(data, apart, whole, text=("name", "seed"))


def with_bars(spec: Spec, low: str, high: str) -> Spec:
    """A figure of lines with a bar through every point, from one column to the other."""
    line = spec["layer"][-1]["encoding"]
    shared = {key: line[key] for key in ("x", "color", "opacity")}
    ends = {"y": line["y"] | {"field": low}, "y2": {"field": high}}
    return spec | {"layer": [{"mark": {"type": "rule"}, "encoding": shared | ends}, *spec["layer"]]}


def thinned(data: pd.DataFrame) -> pd.DataFrame:
    """The rows of every line, evenly spaced ones with the last among them where there are very many."""
    keys = [column for column in ("name", "seed") if column in data]
    position = data.groupby(keys, sort=False).cumcount(ascending=False)
    size = data.groupby(keys, sort=False)[keys[0]].transform("size")
    return data[position % -(-size // _POINTS) == 0].reset_index(drop=True)


def heatmap(data: pd.DataFrame, names: Sequence[str]) -> Spec:
    """Shares (column `share`, from 0 to 1) of what is truly `true` and is said to be `said`; numbers where they fit."""
    labelled = len(names) <= _NAMED
    axis = {"labels": labelled, "labelAngle": -45, "grid": False, "labelLimit": 90}
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
    drawn = vl_convert.vegalite_to_svg({**spec, "width": 420}, config=LOOK)
    numbers: dict[str, str] = {}
    return re.sub(r"\b(clip|gradient_)\d+", lambda one: numbers.setdefault(one[0], f"{one[1]}{len(numbers)}"), drawn)


def png(svg: str) -> bytes:
    """An SVG as PNG, twice as many pixels as points, with 256 colours, as many as lines and letters need."""
    few = Image.open(io.BytesIO(vl_convert.svg_to_png(svg, scale=2))).convert("RGB").quantize(256)
    buffer = io.BytesIO()
    few.save(buffer, "png", optimize=True)
    return buffer.getvalue()

