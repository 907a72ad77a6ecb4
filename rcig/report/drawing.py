"""Grids of images as PNG bytes, and the images of such a grid: the same input gives the same bytes.

A grid stands on a transparent ground, with writing in a grey that can be read on white and on near-black pages. It says
in a text of the file where its images are and what they are called.
"""

import io
import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

INK = "#7b7b7b"
_CELL, _GAP, _TITLE = 128, 12, 32
"""Pixels: side of a cell at most, where images are smaller; between cells; height of a title."""
_TEXT = "grid"
"""name of the file's text that says what is in it"""


class Cell(NamedTuple):
    title: str
    pixels: NDArray[np.uint8]
    """(h, w, c) as given"""


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
    about = PngImagePlugin.PngInfo()
    about.add_text(_TEXT, json.dumps({"titles": titles, "shape": pixels.shape[1:], "columns": columns}))
    canvas.save(buffer, "png", pnginfo=about)
    return buffer.getvalue()


def cells(grid: bytes) -> list[Cell]:
    """The images that `image_grid` was given, with their titles. Raises ValueError for any other picture."""
    picture = Image.open(io.BytesIO(grid))
    picture.load()
    try:
        about = json.loads(picture.info[_TEXT])
        (height, width, channels), columns, titles = about["shape"], about["columns"], about["titles"]
    except (KeyError, TypeError, ValueError):
        raise ValueError("not a grid of images that says what is in it") from None
    scale = max(1, _CELL // max(height, width))
    colours = np.asarray(picture.convert("RGB"))
    corners = [
        (
            position // columns * (_TITLE + scale * height + _GAP) + _TITLE,
            position % columns * (scale * width + _GAP),
        )
        for position in range(len(titles))
    ]
    return [
        Cell(title, colours[top : top + scale * height : scale, left : left + scale * width : scale, :channels])
        for title, (top, left) in zip(titles, corners, strict=True)
    ]


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
