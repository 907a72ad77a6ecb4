"""A set that another tool has made: the .npz or .pt file that the experiment `needs`, whitened if it is not."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rcig.errors import ParamsError
from rcig.methods.base import Distilled, Member, Method, Setup, kept


@dataclass(frozen=True)
class Settings:
    whitened: bool = False
    """with this project's whitening of the dataset; uint8 images are never"""


MEMBERS = {"external": Member()}
LEARNS = False


def make(settings: Settings, setup: Setup) -> Method[Distilled, tuple[()], Distilled]:
    """The set of the file, whatever the initial one."""
    given = load_external(settings, setup)
    return kept(lambda key, initial: given)


def load_external(settings: Settings, setup: Setup) -> Distilled:
    """The set in the .npz or .pt file that the run needs, which holds `images` and `labels`.

    Images (n, h, w, c), or channels first: uint8, brightness from 0 to 1, or whitened as this project's are. Labels
    (n,): class numbers, or (n, C): probabilities or centred. Raises ParamsError for anything else.
    """
    where, shape, images, classes = f"external set {setup.needs}", setup.shape, setup.images, setup.classes
    x, y = (np.asarray(array) for array in _read(setup.needs))
    if x.ndim == 4 and x.shape[1:] == (shape[2], *shape[:2]) != shape:
        x = x.transpose(0, 2, 3, 1)
    if x.shape != (images, *shape):
        raise ParamsError(f"{where}: expected images {(images, *shape)}, got {x.shape}; correct images_per_class")
    if x.dtype == np.uint8 and settings.whitened:
        raise ParamsError(f"{where}: bytes are no whitened images; say whitened: false")
    if x.dtype != np.uint8:
        if not np.isfinite(x).all() or (not settings.whitened and (x.min() < 0 or x.max() > 1)):
            raise ParamsError(f"{where}: expected brightness from 0 to 1; for whitened images say whitened: true")
        x = x.astype(np.float32) * (1 if settings.whitened else 255)
    if y.shape == (images,) and np.issubdtype(y.dtype, np.integer) and y.min() >= 0 and y.max() < classes:
        y = np.eye(classes)[y]
    if y.shape != (images, classes):
        raise ParamsError(
            f"{where}: expected labels ({images},) from 0 to {classes - 1}, or ({images}, {classes}), got {y.shape}"
        )
    if not np.isfinite(y).all():
        raise ParamsError(f"{where}: expected finite labels, got NaN or infinite ones; correct the file")
    if np.allclose(y.sum(1), 1, atol=1e-3):
        y = y - 1 / classes
    white = jnp.asarray(x) if settings.whitened else setup.whitened(x)
    return Distilled(white, jnp.asarray(y, jnp.float32), jnp.zeros(()))


def _read(path: Path) -> tuple[Any, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ParamsError(f"external set {path}: {error.strerror}; correct `needs`") from None
    try:
        if path.suffix == ".pt":
            import torch

            arrays = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        else:
            arrays = np.load(io.BytesIO(content), allow_pickle=False)
        return arrays["images"], arrays["labels"]
    except ImportError:
        raise ParamsError(f"external set {path}: reading it needs PyTorch; install torch, or save it as .npz") from None
    except Exception as error:  # whatever NumPy or PyTorch raise for a file of another kind
        raise ParamsError(
            f"external set {path}: expected a .npz or .pt with images and labels ({' '.join(str(error).split())})"
        ) from None
