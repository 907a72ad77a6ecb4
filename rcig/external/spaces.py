"""What the numbers of images mean: the spaces that sets are published in, and that networks see them in.

Images of two spaces are pictures that have yet to be whitened: `bytes` from 0 to 255, and `brightness` from 0 to 1.
Those of the other three are what networks see as they are: `mean_std` is brightness less a mean, by a deviation, per
channel; `kornia_zca` is `whiten.fit_kornia`; `ours` is this project's whitening of the dataset.

The checks catch what is certainly of another space, by the signs of the numbers and by their smoothness. Real images of
CIFAR-10 have a deviation of 1.2 by mean and deviation, 0.26 by Kornia's ZCA and 0.47 by ours; ‖W⁻¹x‖²/‖x‖² with W of
Kornia's is 20, 0.9 and 0.35, and of noise 0.16. Learned images drift, so the two kinds of ZCA cannot be told apart.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np

from rcig import whiten
from rcig.errors import ParamsError
from rcig.whiten import Whitening

Input = Literal["mean_std", "kornia_zca", "ours"]
Space = Literal["bytes", "brightness", "mean_std", "kornia_zca", "ours"]
INPUTS = get_args(Input)
FEW = 0.05
"""of the values of brightness may lie beyond 0 and 1: learned pixels that nobody has cut"""


class Constants(NamedTuple):
    """Mean and deviation of brightness per channel, as the field has them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


_CIFAR = Constants((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_IMAGENET = Constants((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CONSTANTS = {
    "mnist": Constants((0.1307,), (0.3081,)),
    "fashion_mnist": Constants((0.2861,), (0.3530,)),
    "svhn": Constants((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    **dict.fromkeys(("tiny_imagenet", "imagenet_resized", "imagenette", "imagewoof"), _IMAGENET),
}
"""of MTT, DATM, IDC and NCFM; the deviations of CIFAR are means over images, that of all red pixels is 0.247"""
OF_DC = CONSTANTS | {"cifar100": Constants((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))}
"""of DC, DSA and DM"""


def whitening(kind: Input, own: Whitening, train: Callable[[], np.ndarray], constants: Constants | None) -> Whitening:
    """From bytes to what networks see. `own` is the dataset's, `train` gives its training images, uint8 (n, h, w, c).

    Without constants, mean and deviation are those of the training split.
    """
    if kind == "ours":
        return own
    if kind == "kornia_zca":
        return whiten.fit_kornia(train())
    mean, std = (own.mean, own.std) if constants is None else constants
    if {len(mean), len(std)} != {len(own.mean)}:
        raise ParamsError(f"expected mean and std of {len(own.mean)} channels, got {list(mean)} and {list(std)}")
    return whiten.channels_alone(mean, std)


def of_set(meta: Mapping[str, Any], own: Whitening, train: Callable[[], np.ndarray]) -> Whitening:
    """The whitening that a distilled set was made for, by what its meta says: the dataset's own unless it says more."""
    kind = (meta.get("settings") or {}).get("input", "ours")
    return whitening(kind, own, train, Constants(meta["mean"], meta["std"]) if kind == "mean_std" else None)


def seen(x: np.ndarray, space: Space, whitening: Whitening) -> Any:
    """Images (n, h, w, c) of that space as networks see them, by the whitening that is theirs.

    Raises ParamsError for images that are not of that space.
    """
    wrong = _WRONG[space](x, whitening)
    if wrong is not None:
        raise ParamsError(wrong)
    if space == "bytes":
        return whiten.apply(whitening, x)
    if space == "brightness":
        return whiten.apply(whitening, 255 * (x if _beyond(x).any() else x.clip(0, 1)))
    return jnp.asarray(x)


def _beyond(x: np.ndarray) -> np.ndarray:
    """Which values are further from 0 to 1 than a step of rounding."""
    return (x <= -1 / 255) | (x >= 1 + 1 / 255)


def _no_bytes(x: np.ndarray, _: Whitening) -> str | None:
    if x.dtype == np.uint8 or (x.min() >= 0 and x.max() <= 255 and x.max() > 1):
        return None
    return f"expected bytes, got numbers from {x.min():g} to {x.max():g}; name another space"


def _no_brightness(x: np.ndarray, _: Whitening) -> str | None:
    if x.dtype != np.uint8 and x.min() > -1 and x.max() < 2 and _beyond(x).mean() <= FEW:
        return None
    if x.min() < 0:
        fix = "name the space, one of " + ", ".join(INPUTS)
    else:
        fix = "save pixels from 0 to 255 as uint8, or divide them by 255"
    return f"expected brightness from 0 to 1, got {x.min():g} to {x.max():g}; {fix}"


def _no_mean_std(x: np.ndarray, _: Whitening) -> str | None:
    """Ten real images have a deviation of 1.1 at least, and what is learned is added to it."""
    if x.dtype == np.uint8 or x.min() >= 0:
        return f"no value is negative (from {x.min():g} to {x.max():g}), and images of mean_std are about 0"
    if x.std() < 0.7:
        return (
            f"the deviation of all values is {x.std():.2f}, of images of mean_std about 1; name their space, kornia_zca"
            " or ours"
        )
    return None


def _no_kornia(x: np.ndarray, whitening: Whitening) -> str | None:
    return _never(x, whitening, "Kornia's ZCA", whiten.KORNIA_REGULARISATION)


def _not_ours(x: np.ndarray, whitening: Whitening) -> str | None:
    return _never(x, whitening, "this dataset's whitening")


def _never(x: np.ndarray, whitening: Whitening, what: str, ridge: float | None = None) -> str | None:
    if x.dtype == np.uint8:
        return f"bytes are no images of {what}; say space: bytes"
    wrong = whiten.never_whitened(whitening, x, ridge)
    return None if wrong is None else f"these are no images of {what}: {wrong}; name their space"


_WRONG: dict[Space, Callable[[np.ndarray, Whitening], str | None]] = {
    "bytes": _no_bytes,
    "brightness": _no_brightness,
    "mean_std": _no_mean_std,
    "kornia_zca": _no_kornia,
    "ours": _not_ours,
}
