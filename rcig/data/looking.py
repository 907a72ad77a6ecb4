"""What images of your own are, found by looking at all of them, and what the pipeline has to know of them."""

import dataclasses
import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from rcig import strict, whiten
from rcig.data import own as sources
from rcig.data import readers
from rcig.data.own import Opened
from rcig.data.settings import Listed, Own
from rcig.errors import DataError
from rcig.fields import shown

TEST_FRACTION = 0.2
"""of a source without a test part"""
LARGEST, USUAL = 48, 32
"""sides in pixels: squares of one size up to the largest are taken as they are, all else is reduced to the usual one"""
FEW = 50
"""training images of a class, below which a tenth is too little to select on"""


class Looked(NamedTuple):
    """What is in a source, found by reading all of it."""

    sizes: Counter[tuple[int, int]]
    """(h, w)"""
    modes: Counter[str]
    """of Pillow, or the channels of an array"""
    colour: bool
    """whether any image is in colour"""
    broken: dict[str, str]
    """name -> why it cannot be read"""
    duplicates: int
    """test images that are training images too, pixel by pixel"""


class Decided(NamedTuple):
    opened: Opened
    """without what cannot be read"""
    looked: Looked
    listed: Listed
    tested: str | None
    """the part of the source that is tested on; None where it is drawn"""


def decide(path: str, given: Mapping[str, Any], where: str) -> Decided:
    """What lies at a path and how it is to be listed, as given and else as found.

    Raises DataError for a source that cannot be used, ParamsError that begins with `where` for settings.
    """
    said = strict.given(Listed, {"source": readers.guess(Path(path))} | dict(given) | {"path": path}, where)
    own = strict.parse(Own, {key: value for key, value in said.items() if key in _OF_OWN}, where)
    found = sources.find(own)
    tested = sources.tested_part(found) if own.test_fraction is None else None
    if own.test_fraction is None and tested is None:
        own = dataclasses.replace(own, test_fraction=TEST_FRACTION)
    opened = sources.settle(own, found)
    _check_names(path, opened)
    looked = look(opened)
    if not looked.sizes:
        raise DataError(sources.unreadable(path, looked.broken))
    if looked.colour and said.get("channels") == 1:
        raise DataError(f"{path}: has images in colour, channels says 1; leave channels out, or make the images grey")
    if looked.broken:
        own = dataclasses.replace(own, leave_out=(*own.leave_out, *looked.broken))
        opened = sources.settle(own, found)
    listed = strict.parse(Listed, _usual(opened, looked, said) | said | dataclasses.asdict(own), where)
    return Decided(opened, looked, listed, tested)


_OF_OWN = {one.name for one in dataclasses.fields(Own)}


def _check_names(path: str, opened: Opened) -> None:
    """Raise DataError for classes that nobody could tell apart, and for names that no text file can hold."""
    called = Counter(name.strip() for name in opened.class_names)
    if "" in called:
        raise DataError(f"{path}: a class has no name; label its images, or leave them out")
    name, count = called.most_common(1)[0]
    if count > 1:
        raise DataError(f"{path}: {count} classes are called {shown(name)}, spaces around it apart; rename all but one")
    examples = (one.examples.name(i) for one in (opened.train, opened.test) for i in range(len(one.labels)))
    for name in chain([path], opened.class_names, examples, map(str, Path(path).rglob("*"))):
        if re.search("[\ud800-\udfff]", name):
            raise DataError(f"{path}: {shown(name)} is not UTF-8; rename it")


def look(opened: Opened) -> Looked:
    """Reads all images, one after the other."""
    looked = Looked(Counter(), Counter(), False, {}, 0)
    seen: set[bytes] = set()
    for part in (opened.train, opened.test):
        bar = tqdm(part.read(), part.where, int(part.mask.sum()), unit="image", disable=None)
        for i, image in bar:
            try:
                pixels, mode = sources.picture(image)
            except Exception as error:  # whatever Pillow raises for damaged bytes
                looked.broken[part.examples.name(i)] = " ".join(str(error).split())
                continue
            looked.sizes[pixels.shape[:2]] += 1
            looked.modes[mode] += 1
            digest = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).digest()
            if part is opened.train:
                seen.add(digest)
            looked = looked._replace(
                colour=looked.colour or sources.coloured(pixels),
                duplicates=looked.duplicates + (part is opened.test and digest in seen),
            )
    return looked


def _usual(opened: Opened, looked: Looked, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is usual for images of the resolution and the channels that are given, else of those that are found."""
    sides = sorted(min(size) for size in looked.sizes.elements())
    same = len(looked.sizes) == 1 and all(height == width for height, width in looked.sizes)
    side = sides[0] if same and sides[0] <= LARGEST else min(USUAL, sides[len(sides) // 2])
    fewest = np.bincount(opened.train.labels[opened.train.mask]).min()
    resolution, channels = given.get("resolution", side), given.get("channels", 3 if looked.colour else 1)
    return usual(resolution, channels, len(opened.class_names)) | {"held_out": 0.1 if fewest >= FEW else 0.2}


def usual(resolution: int, channels: int, classes: int) -> dict[str, Any]:
    """The settings of rcig.data.settings.Dataset, as the paper has them for such images."""
    return {
        "resolution": resolution,
        "channels": channels,
        "classes": classes,
        "depth": depth(resolution),
        "whitening": whitening(resolution, channels),
        "mirror": channels > 1,
        "l2_rate": 5e-4,
        "held_out": 0.1,
    }


def whitening(resolution: int, channels: int) -> str:
    """The kind of rcig.whiten: for colour ZCA, by blocks where an image is several of them, as it else needs 60 GB."""
    if channels == 1:
        return "standard"
    return "zca" if resolution % whiten.BLOCK or resolution == whiten.BLOCK else "zca_checkerboard"


def depth(resolution: int) -> int:
    """Stages of the convolutional network, after which images are about 4 pixels wide, as in the paper."""
    return max(1, round(math.log2(resolution)) - 2)
