"""Images of your own as a dataset: what the classes are, which part is tested on, and how every image is reduced.

Each image is read, turned upright, cut to its central square and averaged down before the next one is read.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rcig import store
from rcig.data import splits
from rcig.data.readers import READERS, Examples, Found, Image, natural
from rcig.data.settings import Own
from rcig.data.sources import Dataset, Part, readable, squared, upright
from rcig.errors import DataError, of_path

NAMED = 50
"""examples that a message names, at most"""
GREY = ("1", "L", "LA", "La")
"""modes of Pillow without colour"""


class Chosen(NamedTuple):
    """A part of a source whose classes have numbers."""

    where: str
    """for messages"""
    examples: Examples
    labels: np.ndarray
    """int32 (n,)"""
    mask: np.ndarray
    """bool (n,), those of the part"""

    def read(self) -> Iterator[tuple[int, Image]]:
        """(position, image) of those of the part. Raises DataError where the source ends early or is damaged."""
        try:
            yield from zip(np.flatnonzero(self.mask).tolist(), self.examples.read(self.mask), strict=True)
        except store.UNREADABLE as error:
            raise DataError(f"{self.where}: cannot be read to its end ({_line(error)}); write it anew") from None


class Opened(NamedTuple):
    """A source whose parts and classes are settled."""

    train: Chosen
    test: Chosen
    class_names: list[str]
    notes: list[str]
    """what was left out and decided"""


def find(own: Own) -> Found:
    """What a source holds; nothing is decoded. Raises DataError where there is none, or one that cannot be used."""
    path = Path(own.path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; correct the path, or put the images there")
    try:
        return READERS[own.source](path, own)
    except OSError as error:
        raise DataError(of_path(error)) from None


def settle(own: Own, found: Found) -> Opened:
    """What is trained on, what is tested on, and the classes. Raises DataError for what makes no dataset."""
    path = Path(own.path)
    if "train" not in found.parts:
        raise DataError(f"{path}: has no training images, only {', '.join(found.parts) or 'none'}")
    labels, class_names = _numbered(path, found)
    kept = _kept(path, found, own.leave_out)
    notes = [*found.notes, *([f"left out by name: {len(own.leave_out)}"] if own.leave_out else [])]
    if own.test_fraction is None:
        tested = tested_part(found)
        if tested is None:
            raise DataError(
                f"{path}: has no test part; give test_fraction: 0.2 and a fifth of every class is drawn once to test on"
            )
        masks = kept["train"], kept[tested]
    else:
        tested = "train"
        if "test" in found.parts:
            raise DataError(f"{path}: has a test part; leave test_fraction out")
        drawn = np.zeros(len(labels["train"]), bool)
        members = np.flatnonzero(kept["train"])
        drawn[members[splits.test_mask(labels["train"][members], own.test_fraction)]] = True
        masks = kept["train"] & ~drawn, drawn
    if "validation" in found.parts and tested != "validation":
        count = len(found.parts["validation"].labels)
        notes.append(f"not used: {count} validation images; all selection is made on held-out training images")
    train, test = (
        Chosen(f"{path} {part}", found.parts[source], labels[source], mask)
        for part, source, mask in (("train", "train", masks[0]), ("test", tested, masks[1]))
    )
    _check_classes(train, test, class_names)
    return Opened(train, test, class_names, notes)


def tested_part(found: Found) -> str | None:
    """The part of a source that is tested on: where there is no test part, the validation part; None without both."""
    return next((part for part in ("test", "validation") if part in found.parts), None)


def _numbered(path: Path, found: Found) -> tuple[dict[str, np.ndarray], list[str]]:
    """The class numbers of every part, and the names of the classes.

    Where the source has no names, classes are the labels that there are, in natural order, whose numbers begin at 0.
    """
    raw = {part: examples.labels for part, examples in found.parts.items()}
    if found.class_names is not None:
        names = found.class_names
        numbers = np.unique(np.concatenate(list(raw.values())))
        whole = numbers.dtype.kind in "iu"
        first = int(whole and numbers[0] > 0 and numbers[-1] == len(names))
        if not whole or numbers[0] < first or numbers[-1] >= first + len(names):
            raise DataError(
                f"{path}: names {len(names)} classes, its labels go from {numbers[0]} to {numbers[-1]}; correct them,"
                " or leave out the part without labels"
            )
        return {part: (labels - first).astype(np.int32) for part, labels in raw.items()}, readable(names)
    kinds = {labels.dtype.kind for labels in raw.values()}
    if "U" in kinds and len(kinds) > 1:
        raise DataError(f"{path}: labels are text in one part and numbers in another; make them alike")
    if "U" in kinds:
        keys: list[str] = sorted({str(one) for labels in raw.values() for one in np.unique(labels)}, key=natural)
        number = {key: i for i, key in enumerate(keys)}
        return {
            part: np.array([number[str(label)] for label in labels], np.int32) for part, labels in raw.items()
        }, readable(keys)
    if max(labels.max() for labels in raw.values()) > np.iinfo(np.int64).max:
        raise DataError(f"{path}: a class number is larger than 64 bits with a sign can hold; number the classes anew")
    numbers = np.unique(np.concatenate([labels.astype(np.int64) for labels in raw.values()]))
    return {part: np.searchsorted(numbers, labels).astype(np.int32) for part, labels in raw.items()}, [
        str(number) for number in numbers
    ]


def _kept(path: Path, found: Found, leave_out: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Part -> bool (n,), what is not left out by its name."""
    kept = {part: np.ones(len(examples.labels), bool) for part, examples in found.parts.items()}
    named = frozenset(leave_out)
    unknown = set(named)
    if named:
        for part, examples in found.parts.items():
            for i in range(len(kept[part])):
                name = examples.name(i)
                kept[part][i] = name not in named
                unknown.discard(name)
    if unknown:
        raise DataError(f"leave_out: {path} has no {', '.join(sorted(unknown)[:NAMED])}; correct it")
    return kept


def _check_classes(train: Chosen, test: Chosen, class_names: list[str]) -> None:
    counts = {one.where: np.bincount(one.labels[one.mask], minlength=len(class_names)) for one in (train, test)}
    if len(class_names) < 2:
        raise DataError(f"{train.where}: has one class, {class_names[0]}; at least two are needed to tell apart")
    for where, count in counts.items():
        if not count.all():
            without = [name for name, images in zip(class_names, count, strict=True) if not images]
            raise DataError(
                f"{where}: no image of {', '.join(without[:NAMED])}; add some, or remove the class everywhere"
            )


def open_dataset(own: Own, resolution: int, channels: int) -> Dataset:
    """A source as a dataset whose images are reduced when they are read.

    Reading raises DataError at its end for images that could not be read, by their names, and at once for one in
    colour where `channels` is 1.
    """
    return reading(settle(own, find(own)), resolution, channels)


def reading(opened: Opened, resolution: int, channels: int) -> Dataset:
    """The same for a source that is settled already."""
    train, test = (_part(one, resolution, channels, len(opened.class_names)) for one in (opened.train, opened.test))
    return Dataset(train, test, opened.class_names)


def digest(own: Own, opened: Opened) -> str:
    """Of the names of the classes and, where the test part is drawn, of the names of the training images.

    While it stays, a number means the same class, and no image that was trained on is drawn to test on.
    """
    members = np.flatnonzero(opened.train.mask).tolist() if own.test_fraction is not None else []
    named = [opened.class_names, [opened.train.examples.name(i) for i in members]]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]


def _part(chosen: Chosen, side: int, channels: int, classes: int) -> Part:
    def read() -> Iterator[tuple[np.ndarray, int]]:
        broken: dict[str, str] = {}
        for i, image in chosen.read():
            try:
                pixels = picture(image).pixels
            except Exception as error:  # whatever Pillow raises for damaged bytes
                broken[chosen.examples.name(i)] = _line(error)
                continue
            if channels == 1 and coloured(pixels):
                raise DataError(
                    f"{chosen.where}: {chosen.examples.name(i)} is in colour, channels says 1; give channels: 3, or"
                    " make the images grey"
                )
            if not broken:
                yield reduced(pixels, side, channels), int(chosen.labels[i])
        if broken:
            raise DataError(unreadable(chosen.where, broken))

    return Part(chosen.where, int(chosen.mask.sum()), (side, side, channels), classes, read)


def unreadable(where: str, broken: dict[str, str]) -> str:
    """What to say of examples that cannot be read, name -> why."""
    names = ", ".join(list(broken)[:NAMED]) + (f" and {len(broken) - NAMED} more" if len(broken) > NAMED else "")
    (first, why), *_ = broken.items()
    return (
        f"{where}: {len(broken)} cannot be read: {names} ({first}: {why}); replace them, or name them in leave_out, as"
        " rcig.add does for you"
    )


class Picture(NamedTuple):
    pixels: np.ndarray
    """uint8 (h, w, 1 or 3)"""
    mode: str
    """how it was stored: a mode of Pillow, or the channels of an array"""


def picture(image: Image) -> Picture:
    """An image as it was read, turned upright. Opacity is left out. Raises ValueError and Pillow's errors."""
    if image is None:
        raise ValueError("no such file, or none that may be opened")
    if isinstance(image, np.ndarray):
        pixels = image.reshape(*image.shape[:2], -1)
        return Picture(pixels[..., : 1 if pixels.shape[2] == 1 else 3], f"{pixels.shape[2]} channels")
    turned, mode = upright(image)
    pixels = np.asarray(turned.convert("L" if turned.mode in GREY else "RGB"))
    return Picture(pixels.reshape(*pixels.shape[:2], -1), mode)


def coloured(pixels: np.ndarray) -> bool:
    """Whether the channels of uint8 (h, w, c) differ anywhere."""
    return bool((pixels != pixels[..., :1]).any())


def reduced(pixels: np.ndarray, side: int, channels: int) -> np.ndarray:
    """uint8 (h, w, 1 or 3) -> (side, side, channels): the central square, averaged down; grey may become RGB."""
    square = pixels[..., :channels]
    if square.shape[:2] != (side, side):
        square = squared(square, side)
    return np.broadcast_to(square, (side, side, channels))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
