"""A set that another tool has made: the .npz or .pt file that the experiment `needs`, whitened if it is not.

What cannot be right is refused, since networks would be trained on it all the same, to a wrong accuracy. What may be
meant is a warning.
"""

import io
import warnings
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from rcig import store, whiten
from rcig.errors import ParamsError
from rcig.methods.base import Distilled, Member, Method, Setup, kept

WANTED = "expected a .npz or .pt file with images and labels"
NAMES = (("images", "labels"), ("train_images", "train_labels"))
"""of the arrays: this project's, MedMNIST's"""
ROUNDED = 0.02
"""how far from 1 the sum of probabilities may be that were saved with few digits"""
LARGE = 10.0
"""centred labels beyond this are more likely logits: the largest of thirty learned sets is 6.5"""


@dataclass(frozen=True)
class Settings:
    whitened: bool = False
    """with this project's whitening of the dataset; uint8 images are never"""


MEMBERS = {"external": Member(learns=False, starts=False)}


def make(settings: Settings, setup: Setup) -> Method[Distilled, tuple[()], Distilled]:
    """The set of the file, whatever the initial one."""
    given = load_external(settings, setup)
    return kept(lambda key, initial: given)


def load_external(settings: Settings, setup: Setup) -> Distilled:
    """The set in the .npz or .pt file that the run needs, which holds `images` and `labels`, or MedMNIST's
    `train_images` and `train_labels`.

    Images (n, h, w, c), channels first, or (n, h, w) of a grey dataset: uint8, brightness from 0 to 1, or whitened as
    this project's are. Labels (n,) or (n, 1): class numbers; or (n, C): probabilities or centred. Raises ParamsError
    for anything else, before it is unpacked where its declared shape says so. Warns of classes without an image and of
    images that are there twice or the same in every pixel.
    """
    where = f"external set {setup.needs}"
    try:
        x, y = _read(setup.needs, setup)
        images, labels = _images(x, settings.whitened, setup), _labels(y, setup.classes)
    except ParamsError as error:
        raise ParamsError(f"{where}: {error}") from None
    for odd in (*_odd_images(x), *_odd_labels(labels)):
        warnings.warn(f"{where}: {odd}", stacklevel=2)
    return Distilled(images, jnp.asarray(labels, jnp.float32), jnp.zeros(()))


def _images(x: np.ndarray, whitened: bool, setup: Setup) -> Any:
    """The images (n, h, w, c) in whitened space."""
    if x.dtype == np.uint8:
        if whitened:
            raise ParamsError("bytes are no whitened images; say whitened: false")
        return setup.whitened(x)
    if x.dtype.kind != "f":
        raise ParamsError(
            f"expected images as uint8 or floating point numbers, got {x.dtype}; convert bytes by .astype('uint8')"
        )
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise ParamsError("expected finite images, got NaN, or infinite ones as float32; correct the file")
    if whitened:
        wrong = whiten.never_whitened(setup.whitening, x)
        if wrong is not None:
            raise ParamsError(
                f"these are no images of this dataset's whitening: {wrong}; save brightness from 0 to 1 (of mean and"
                " deviation: x · std + mean) and say whitened: false"
            )
        return jnp.asarray(x)
    if not whiten.is_brightness(x):
        if x.min() < 0:
            fix = "turn images of mean and deviation back (x · std + mean); of our whitening say whitened: true"
        else:
            fix = "save pixels from 0 to 255 as uint8, or divide them by 255"
        raise ParamsError(f"expected brightness from 0 to 1, got {x.min():g} to {x.max():g}; {fix}")
    return setup.whitened(x.clip(0, 1) * 255)


def _labels(y: np.ndarray, classes: int) -> np.ndarray:
    """Labels (n, C), centred.

    Labels of three kinds are right: class numbers, probabilities, and centred ones, learned or not, which are about 0.
    Those with no value on one side of 0 are about another number. So are those whose part that is the same for all
    classes, the mean of a row, is the larger one; it says nothing of the class, and learning adds little to it: 0.24 of
    the other part, at most, in thirty learned sets.
    """
    if y.dtype.kind not in "biuf":
        raise ParamsError(f"expected labels as numbers, got {y.dtype}")
    with np.errstate(over="ignore"):
        finite = np.isfinite(y.astype(np.float32)).all()
    if not finite:
        raise ParamsError("expected finite labels, got NaN, or infinite ones as float32; correct the file")
    if y.ndim == 1:
        numbers = y.astype(np.int64)
        if (numbers != y).any():
            raise ParamsError(f"expected whole class numbers, got {y[numbers != y][0]:g}; correct the file")
        if numbers.min() < 0 or numbers.max() >= classes:
            raise ParamsError(
                f"expected class numbers from 0 to {classes - 1}, got {y.min():g} to {y.max():g}; they start at 0"
            )
        return np.eye(classes)[numbers] - 1 / classes
    y = y.astype(float)
    if y.min() >= -1e-3 and np.allclose(y.sum(1), 1, atol=ROUNDED):
        return y / y.sum(1, keepdims=True) - 1 / classes
    wanted = (
        "expected class numbers, probabilities (rows from 0 to 1 that sum to 1) or centred labels (about 0), got"
        f" {y.min():g} to {y.max():g}, rows that sum to {y.sum(1).min():g} to {y.sum(1).max():g}"
    )
    shared = y.mean(1)
    if y.min() >= 0 or y.max() <= 0 or (shared**2).mean() > y.var(1).mean():
        raise ParamsError(f"{wanted}; give class numbers, or the softmax of logits")
    return y


def _odd_images(x: np.ndarray) -> list[str]:
    rows = x.reshape(len(x), -1)
    copies = len(rows) - len(np.unique(rows, axis=0))
    flat = int((rows == rows[:, :1]).all(1).sum())
    dark = rows.min() >= 0 and rows.max() <= (1 if x.dtype == np.uint8 else 1 / 255)
    found = {
        f"{copies} of {len(rows)} images repeat another one": copies > 0,
        f"{flat} of {len(rows)} images have the same value in every pixel": flat > 0,
        "no pixel is brighter than 1 of 255; were they divided twice?": dark,
    }
    return [words for words, holds in found.items() if holds]


def _odd_labels(labels: np.ndarray) -> list[str]:
    """Of centred labels: learned ones may well leave a class to others, class numbers and probabilities do not."""
    classes = labels.shape[1]
    if abs(labels).max() > LARGE:
        return [f"labels up to {abs(labels).max():.1f}; if they are logits, give their softmax"]
    if labels.min() < -1 / classes - 1e-3:
        return []
    missing = sorted(set(range(classes)) - set(labels.argmax(1).tolist()))
    some = ", ".join(map(str, missing[:10])) + ", …" * (len(missing) > 10)
    return [f"{len(missing)} of {classes} classes have no image: {some}"] * bool(missing)


def _read(path: Path, setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, h, w, c) and labels (n,) or (n, C) of the run's sizes, of any dtype."""
    kinds = {".npz": _read_npz, ".pt": _read_pt}
    if path.suffix.lower() not in kinds:
        raise ParamsError(f"{WANTED}, got {path.name!r}; save the arrays by numpy.savez")
    try:
        with path.open("rb") as file:
            return kinds[path.suffix.lower()](file, setup)
    except ParamsError:
        raise
    except OSError as error:
        raise ParamsError(f"{error.strerror or error}; correct `needs`, or the file") from None
    except ImportError:
        raise ParamsError("reading it needs PyTorch; install torch, or save it as .npz") from None
    except Exception as error:  # whatever NumPy or PyTorch raise for a file of another kind
        raise ParamsError(f"{WANTED}; this is none ({' '.join(str(error).split())})") from None


def _read_npz(file: BinaryIO, setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        return _chosen(
            names, lambda name: store.declared(archive, name).shape, lambda name: store.read_array(archive, name), setup
        )


def _read_pt(file: BinaryIO, setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    import torch

    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            unpacked, size = sum(member.file_size for member in archive.infolist()), file.seek(0, io.SEEK_END)
        if unpacked > size:
            raise ParamsError(
                f"its {size} bytes would unpack to {unpacked}; save it by torch.save, which does not pack"
            )
    file.seek(0)
    found = torch.load(file, map_location="cpu", weights_only=True)
    return _chosen(
        found, lambda name: np.shape(found[name]), lambda name: torch.as_tensor(found[name]).detach().numpy(), setup
    )


def _chosen(
    names: Collection[str],
    shape_of: Callable[[str], tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    setup: Setup,
) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels among arrays of these names, none read before both have shapes that fit the run."""
    pair = next((pair for pair in NAMES if set(pair) <= set(names)), None)
    if pair is None:
        raise ParamsError(
            f"{WANTED}, got {', '.join(sorted(map(str, names))[:10]) or 'nothing'}; save it under these names"
        )
    (n, (h, w, c), classes), (images, labels) = (setup.images, setup.shape, setup.classes), map(shape_of, pair)
    forms = {(n, h, w, c): None, (n, c, h, w): (0, 2, 3, 1)} | ({(n, h, w): None} if c == 1 else {})
    if images not in forms:
        raise ParamsError(f"expected images {(n, h, w, c)}, got {images}; correct images_per_class or dataset")
    if labels not in ((n,), (n, 1), (n, classes)):
        raise ParamsError(f"expected labels ({n},) or ({n}, {classes}), got {labels}; correct the file")
    x, y = map(read, pair)
    axes = forms[images] if images != (n, h, w, c) else None
    return (x if axes is None else x.transpose(axes)).reshape(n, h, w, c), y.ravel() if labels == (n, 1) else y
