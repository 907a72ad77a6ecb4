"""Images that hold several smaller ones, as IDC and NCFM store them."""

import jax
import numpy as np

GREY = 0.5
"""brightness of what is added where the side is no multiple of the factor"""


def decoded(x: np.ndarray, y: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Brightness (n, h, w, c) cut into factor × factor parts, each scaled bilinearly to the whole size, with its label.

    The first n are the parts from the top left, and so on by rows.
    """
    if factor == 1:
        return x, y
    n, height, width, channels = x.shape
    down, right = -height % factor, -width % factor
    x = np.pad(x, ((0, 0), (0, down), (0, right), (0, 0)), constant_values=GREY)
    rows, columns = (height + down) // factor, (width + right) // factor
    parts = [
        x[:, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns] for i in range(factor) for j in range(factor)
    ]
    whole = jax.image.resize(np.concatenate(parts), (n * factor**2, height, width, channels), "bilinear")
    return np.asarray(whole), np.concatenate([y] * factor**2)
