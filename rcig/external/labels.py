"""What the labels of a set mean: class numbers, probabilities, logits, or centred ones as this project learns them."""

from typing import Literal

import numpy as np

from rcig.errors import ParamsError

Kind = Literal["classes", "probabilities", "logits", "centred"]
ROUNDED = 0.02
"""how far from 1 the sum of probabilities may be that were saved with few digits"""


def centred(y: np.ndarray, kind: Kind | None, classes: int) -> np.ndarray:
    """Labels (n, C), centred: a hard label is one-hot − 1/C. Raises ParamsError for what is not of that kind.

    `kind` None: class numbers, probabilities or centred, whatever fits; logits are never guessed.
    """
    if y.dtype.kind not in "biuf":
        raise ParamsError(f"expected labels as numbers, got {y.dtype}")
    with np.errstate(over="ignore"):
        finite = np.isfinite(y.astype(np.float32)).all()
    if not finite:
        raise ParamsError("expected finite labels, got NaN, or infinite ones as float32; correct the file")
    if y.ndim == 1:
        if kind not in (None, "classes"):
            raise ParamsError(f"expected {kind} of {classes} classes for every image, got one number; say classes")
        return np.eye(classes)[_numbers(y, classes)] - 1 / classes
    y = y.astype(float)
    probable = y.min() >= -1e-3 and np.allclose(y.sum(1), 1, atol=ROUNDED)
    if kind == "logits" and not probable:
        exponents = np.exp(y - y.max(1, keepdims=True))
        return exponents / exponents.sum(1, keepdims=True) - 1 / classes
    if kind == "classes" and probable and (y.max(1) > 1 - ROUNDED).all():
        return np.eye(classes)[y.argmax(1)] - 1 / classes
    if kind in (None, "probabilities") and probable:
        return y / y.sum(1, keepdims=True) - 1 / classes
    shared = y.mean(1)
    about_0 = y.min() < 0 < y.max() and (shared**2).mean() <= y.var(1).mean()
    if kind in (None, "centred") and about_0:
        return y
    kinds = {
        None: "class numbers, probabilities (rows from 0 to 1 that sum to 1) or centred labels (about 0)",
        "classes": "class numbers, or rows with a 1 and zeros",
        "probabilities": "probabilities (rows from 0 to 1 that sum to 1)",
        "logits": "logits, and these rows are probabilities already",
        "centred": "centred labels (about 0)",
    }
    raise ParamsError(
        f"expected {kinds[kind]}, got {y.min():g} to {y.max():g}, rows that sum to {y.sum(1).min():g} to"
        f" {y.sum(1).max():g}; say what labels are, as in labels: logits"
    )


def _numbers(y: np.ndarray, classes: int) -> np.ndarray:
    numbers = y.astype(np.int64)
    if (numbers != y).any():
        raise ParamsError(f"expected whole class numbers, got {y[numbers != y][0]:g}; correct the file")
    if numbers.min() < 0 or numbers.max() >= classes:
        raise ParamsError(
            f"expected class numbers from 0 to {classes - 1}, got {y.min():g} to {y.max():g}; they start at 0"
        )
    return numbers
