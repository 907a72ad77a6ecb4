"""A set that others have made: the file or the folder that the experiment `needs`, in one of the published layouts.

Its images are used in the space that its authors used them in, and networks are tested on real images in that space.
What cannot be right is refused, since networks would be trained on it all the same, to a wrong accuracy. What may be
meant is a warning.
"""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from rcig import resources
from rcig.data.real import Real
from rcig.errors import ParamsError
from rcig.external import arrays, labels, layouts, spaces
from rcig.external.arrays import Data
from rcig.external.decoding import decoded
from rcig.external.labels import Kind
from rcig.external.layouts import Found
from rcig.external.spaces import INPUTS, Constants, Input, Space
from rcig.fields import POSITIVE
from rcig.methods.base import Distilled, Member, Method, Setup, kept
from rcig.whiten import Whitening


@dataclass(frozen=True)
class Settings:
    """What the file means; where it says nothing else, what its layout means."""

    space: Literal["auto", Space] = "auto"
    """of the images in the file, see rcig.external.spaces"""
    input: Literal["auto", Input] = "auto"
    """what networks see of images that are bytes or brightness; else it is their space"""
    labels: Literal["auto", Kind] = "auto"
    """what the labels are, see rcig.external.labels; auto: found from their numbers"""
    mean: tuple[float, ...] | None = None
    """per channel, of mean_std; null: the field's constants, or of other datasets those of the training split"""
    std: tuple[float, ...] | None = None
    """likewise"""
    factor: Annotated[int, POSITIVE] | None = None
    """images of a side that each stored one holds; images_per_class counts what they are decoded to"""
    learned_rate: Annotated[float, POSITIVE] | None = None
    """that networks are trained with by protocols that ask for the set's own"""

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ParamsError("expected both mean and std, got one of them")
        if self.space in INPUTS and self.input not in ("auto", self.space):
            raise ParamsError(f"expected no input, as images of {self.space} are what networks see, got {self.input}")
        if not all(0 < value <= 1 for value in self.std or ()):
            raise ParamsError(f"expected std of brightness, above 0 and up to 1, got {list(self.std or ())}")
        if not all(0 <= value <= 1 for value in self.mean or ()):
            raise ParamsError(f"expected mean of brightness, from 0 to 1, got {list(self.mean or ())}")


class Meaning(NamedTuple):
    """What a set's numbers are, by the settings and the layout."""

    space: Space
    input: Input
    labels: Kind | None
    """None: what they look like"""
    factor: int
    learned_rate: float | None


MEMBERS = {"external": Member(learns=False, starts=False)}


def make(settings: Settings, setup: Setup) -> Method[Distilled, tuple[()], Distilled]:
    """The set of the file, whatever the initial one."""
    given = load_external(settings, setup)
    return kept(lambda key, initial: given)


def load_external(settings: Settings, setup: Setup) -> Distilled:
    """The set in the file or folder that the run needs, by the run's whitening, which is `prepared`.

    Raises ParamsError for what is none, before it is unpacked where its declared shape says so. Warns of classes
    without an image and of images that are there twice or the same in every pixel.
    """
    data = Data(setup.shape, setup.class_names)
    found = find(setup.needs, data, setup.seed)
    images, y = taken(setup.needs, found, meaning(settings, found), data, setup.whitening, setup.images)
    return Distilled(images, jnp.asarray(y, jnp.float32), jnp.zeros(()))


def prepared(settings: Settings, needs: Path, name: str, real: Real) -> Real:
    """The real images of the dataset of that name as the set's networks see them."""
    found = find(needs, Data(real.seen.split.images.shape[1:], real.class_names), 0)
    return real._replace(whitening=whitening_of(settings, found, name, real))


def chosen(settings: Settings, setup: Setup) -> Settings:
    """The settings in force."""
    return in_force(settings, meaning(settings, find(setup.needs, Data(setup.shape, setup.class_names), setup.seed)))


def in_force(settings: Settings, found: Meaning) -> Settings:
    return replace(settings, **found._asdict() | {"labels": found.labels or "auto"})


def find(needs: Path, data: Data, seed: int) -> Found:
    try:
        return layouts.find(needs, data, seed)
    except ParamsError as error:
        raise ParamsError(f"external set {needs}: {error}") from None


def meaning(settings: Settings, found: Found) -> Meaning:
    space: Space = "bytes" if found.images.dtype == np.uint8 else "brightness"
    if settings.space != "auto":
        space = settings.space
    elif found.space is not None:
        space = found.space
    seen: Input = (found.input or "ours") if settings.input == "auto" else settings.input
    if space == "mean_std" or space == "kornia_zca" or space == "ours":
        seen = space
    kind = found.kind if settings.labels == "auto" else settings.labels
    return Meaning(space, seen, kind, settings.factor or found.factor, settings.learned_rate or found.learned_rate)


def whitening_of(settings: Settings, found: Found, name: str, real: Real) -> Whitening:
    """From the dataset's bytes to what the set's networks see."""
    given = None if settings.mean is None else Constants(settings.mean, settings.std or ())
    constants, kind = given or found.constants.get(name), meaning(settings, found).input
    if given and kind != "mean_std":
        raise ParamsError(f"mean and std are for input mean_std, got {kind}; say input: mean_std, or leave them out")
    return spaces.whitening(kind, real.whitening, lambda: real.seen.split.images, constants)


def taken(
    needs: Path, found: Found, said: Meaning, data: Data, whitening: Whitening, count: int | None = None
) -> tuple[Any, np.ndarray]:
    """The set as networks see it: images (n, h, w, c) and centred labels (n, C). `count`: the n that is expected."""
    classes, factor = len(data.class_names), said.factor
    where = f"external set {needs}"
    try:
        if factor > 1 and said.space != "brightness":
            raise ParamsError(f"factor is for images of brightness, got {said.space}; set factor: 1")
        if factor > min(data.shape[:2]):
            raise ParamsError(f"expected factor up to the side of {min(data.shape[:2])} pixels, got {factor}")
        if count is not None and count % factor**2:
            raise ParamsError(
                f"decoded by factor {factor} its images are {factor**2} times as many; correct images_per_class, which"
                " counts these"
            )
        x, y = arrays.read(found.images, found.labels, data, None if count is None else count // factor**2)
        centred = labels.centred(y, said.labels, classes)
        odd = [*_odd_images(x), *_odd_labels(centred, said.labels)]
        decoding = 2 * 4 * factor**2 * x.size if factor > 1 else 0
        resources.refuse(f"{len(x) * factor**2} images", "factor", decoding, resources.on_host())
        x, centred = decoded(x, centred, factor)
        images = spaces.seen(x, said.space, whitening)
    except ParamsError as error:
        raise ParamsError(f"{where}: {error}") from None
    for one in odd:
        warnings.warn(f"{where}: {one}", stacklevel=3)
    return images, centred


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


def _odd_labels(y: np.ndarray, kind: Kind | None) -> list[str]:
    """Of centred labels: learned ones may well leave a class to others, class numbers and probabilities do not."""
    classes = y.shape[1]
    if kind is None and (y.min() < -1 / classes - 1e-3 or abs(y.sum(1)).max() > labels.ROUNDED):
        return [
            f"labels from {y.min():.2g} to {y.max():.2g} are taken as centred ones; if they are logits, say labels:"
            " logits, else labels: centred"
        ]
    if y.min() < -1 / classes - 1e-3:
        return []
    missing = sorted(set(range(classes)) - set(y.argmax(1).tolist()))
    some = ", ".join(map(str, missing[:10])) + ", …" * (len(missing) > 10)
    return [f"{len(missing)} of {classes} classes have no image: {some}"] * bool(missing)
