"""Arrays that are still in their file, and what the run wants them to be."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rcig import resources
from rcig.errors import Foreseen, ParamsError


class Data(NamedTuple):
    """The dataset that a set is of."""

    shape: tuple[int, int, int]
    """(h, w, c) of an image"""
    class_names: list[str]


class Stored(NamedTuple):
    """What a file says of an array, and how it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> "Stored":
        return cls(array.shape, array.dtype, lambda: array)


def read(images: Stored, labels: Stored, data: Data, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, h, w, c), uint8 or float32, and labels (n,) or (n, C), none read before both have shapes that fit.

    `count`: the n that is expected; None: whatever there is.

    Raises ParamsError where they do not, and TooLargeError where memory is too small for the images.
    """
    (h, w, c), classes = data.shape, len(data.class_names)
    n = images.shape[0] if count is None and images.shape else count
    forms = {(n, h, w, c): None, (n, c, h, w): (0, 2, 3, 1)} | ({(n, h, w): None} if c == 1 else {})
    if images.shape not in forms or not n:
        raise ParamsError(
            f"expected images {(count or 'n', h, w, c)}, got {images.shape}; correct images_per_class or dataset"
        )
    if labels.shape not in ((n,), (n, 1), (n, classes)):
        raise ParamsError(f"expected labels ({n},) or ({n}, {classes}), got {labels.shape}; correct the file")
    needed = 2 * n * h * w * c * max(4, images.dtype.itemsize)
    resources.refuse(f"{n} images", "the size of the set", needed, resources.on_host())
    try:
        x, y = images.read(), labels.read()
    except Foreseen:
        raise
    except Exception as error:  # whatever NumPy, zipfile or the system raise for numbers that are not there
        raise ParamsError(f"a damaged file ({' '.join(str(error).split())}); fetch it again") from None
    axes = forms[images.shape] if images.shape != (n, h, w, c) else None
    x = (x if axes is None else x.transpose(axes)).reshape(n, h, w, c)
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ParamsError(
            f"expected images as uint8 or floating point numbers, got {x.dtype}; convert bytes by .astype('uint8')"
        )
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise ParamsError("expected finite images, got NaN, or infinite ones as float32; correct the file")
    return x, y.ravel() if labels.shape == (n, 1) else y
