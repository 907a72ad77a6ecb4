"""A picture of a set while it is distilled, to look at while one waits."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from rcig import store, whiten
from rcig.methods.base import Distilled

SIDE = 56
"""pixels of an image at least"""
COLUMNS = 10
CAPTION = 16
"""pixels of the line below"""


def painter(path: Path, name: str, whitening: whiten.Whitening) -> Callable[[int, Distilled, float], None]:
    """What writes a picture of (step, set, held-out accuracy), each in place of the one before."""

    def show(step: int, distilled: Distilled, accuracy: float) -> None:
        caption = f"{name}, step {step}: held-out accuracy {100 * accuracy:.1f} %"
        store.atomic_write(path, picture(whiten.to_pixels(whitening, distilled.images), caption))

    return show


def picture(pixels: np.ndarray, caption: str) -> bytes:
    """The images, uint8 (n, h, w, c), in rows of COLUMNS above a caption, as PNG."""
    factor = -(-SIDE // pixels.shape[1])
    large = pixels.repeat(factor, 1).repeat(factor, 2)
    side = large.shape[1]
    rows, columns = -(-len(large) // COLUMNS), min(COLUMNS, len(large))
    sheet = Image.new("RGB", (columns * side, rows * side + CAPTION), "white")
    for i, image in enumerate(large):
        sheet.paste(Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image), _place(i, side))
    ImageDraw.Draw(sheet).text((2, rows * side + 2), caption, "black")
    buffer = io.BytesIO()
    sheet.save(buffer, "png")
    return buffer.getvalue()


def _place(i: int, side: int) -> tuple[int, int]:
    return i % COLUMNS * side, i // COLUMNS * side
