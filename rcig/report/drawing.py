"""Style and parts that all figures share, and grids of images, as PNG bytes: the same input gives the same bytes.

All stand on a transparent ground, with writing in a grey that can be read on white and on near-black pages.
"""

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

INK = "#7b7b7b"
_CELL, _GAP, _TITLE = 128, 12, 32
"""Pixels: side of a cell at most, where images are smaller; between cells; height of a title."""

# Okabe & Ito's palette, which readers with any colour vision can tell apart, without the two it has for dark or light
# grounds only (black, yellow).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", "--", ":")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": INK,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
styled = matplotlib.rc_context(_STYLE)
"""decorator of whatever makes a figure"""


def panels(count: int, width: float = 9, height: float = 3.1, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches with panels side by side."""
    figure = Figure(figsize=(width, height), dpi=200, layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=share_y)[0])


def in_percent(*panels: Axes) -> None:
    """Fractions on these panels' vertical axes are written in percent."""
    for axes in panels:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))


def legend(figure: Figure, axes: Axes, columns: int = 1, title: str | None = None) -> None:
    """Below all panels, what the labels of one of them say."""
    labels = axes.get_legend_handles_labels()
    made = figure.legend(*labels, loc="outside lower center", ncols=columns, title=title)
    made.get_title().set_color(INK)


def png(figure: Figure) -> bytes:
    """With 256 colours and transparencies, as many as lines and letters need: a third of the bytes."""
    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    few = Image.open(drawn).quantize(256, Image.Quantize.FASTOCTREE)
    few.save(buffer, "png", optimize=True, dpi=(figure.dpi, figure.dpi))
    return buffer.getvalue()


def image_grid(pixels: NDArray[np.uint8], titles: list[str], columns: int) -> bytes:
    """Images in rows of `columns`, each under its title, small ones enlarged by a whole factor without smoothing.

    `pixels` is uint8 (n, h, w, c) with c = 1 (grey) or 3 (RGB). A title wider than its image is cut short.
    Raises ValueError for pixels of any other kind and unless there is one title per image.
    """
    _check_images(pixels, titles)
    scale = max(1, _CELL // max(pixels.shape[1:3]))
    cells = np.broadcast_to(pixels, (*pixels.shape[:3], 3)).repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, _ = cells.shape
    size = columns * (width + _GAP) - _GAP, -(-count // columns) * (_TITLE + height + _GAP) - _GAP
    # The ground has the ink's colour, or the smoothed edges of the letters would be darker than the letters.
    canvas = Image.new("RGBA", size, f"{INK}00")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=24)
    for index, (cell, title) in enumerate(zip(cells, titles, strict=True)):
        row, column = divmod(index, columns)
        left, top = column * (width + _GAP), row * (_TITLE + height + _GAP)
        draw.text((left + width / 2, top), _shorten(title, width, font), INK, font, anchor="ma")
        canvas.paste(Image.fromarray(cell), (left, top + _TITLE))
    buffer = io.BytesIO()
    canvas.save(buffer, "png")
    return buffer.getvalue()


def _check_images(pixels: NDArray[np.uint8], titles: list[str]) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[0] == 0 or pixels.shape[3] not in (1, 3):
        raise ValueError(
            f"expected pixels as uint8 (n, h, w, 1 or 3) with n > 0, got {pixels.dtype} {pixels.shape};"
            " pass the de-whitened pixels of one seed"
        )
    if len(titles) != len(pixels):
        raise ValueError(f"expected one title per image, got {len(titles)} titles for {len(pixels)} images")


def _shorten(title: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The title on one line, or as much of its beginning as fits into `width` pixels with an ellipsis."""
    title = " ".join(title.split())[:width]
    candidates = [title, *(title[:end].rstrip() + "…" for end in range(len(title) - 1, 0, -1))]
    return next((text for text in candidates if font.getlength(text) <= width), "")
