"""A set that is not distilled here: random real images, or one that another tool has made, returned as it is."""

import hashlib
import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcig.distill.base import Batch, Distilled, Distiller, Info
from rcig.params import ExternalParams, ParamsError
from rcig.whiten import Whitening, apply


def given() -> Distiller:
    """The method that leaves the initial set as it is."""

    def init(key: jax.Array, distilled: Distilled) -> Distilled:
        return distilled

    def step(key: jax.Array, state: Distilled, batch: Batch) -> tuple[Distilled, Info]:
        return state, {"loss": jnp.zeros(())}

    return Distiller(init, step, lambda state: state)


def load_external(
    settings: ExternalParams, whitening: Whitening, shape: tuple[int, int, int], images: int, classes: int
) -> Distilled:
    """The set in the .npz or .pt file of the settings, which holds `images` and `labels`.

    Images (n, h, w, c), or channels first: uint8, brightness from 0 to 1, or whitened as this project's are. Labels
    (n,): class numbers, or (n, C): probabilities or centred. Raises ParamsError for anything else.
    """
    where = f"external set {settings.path}"
    x, y = (np.asarray(array) for array in _read(Path(settings.path), settings.sha256))
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
    white = jnp.asarray(x) if settings.whitened else apply(whitening, x)
    return Distilled(white, jnp.asarray(y, jnp.float32), jnp.zeros(()))


def _read(path: Path, sha256: str) -> tuple[Any, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ParamsError(f"external set {path}: {error.strerror}; correct path") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ParamsError(f"external set {path}: its sha256 is {found}, not {sha256}; correct it if the file is right")
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
