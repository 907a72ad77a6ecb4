"""What images of your own are, found by looking at all of them, and what the pipeline has to know of them."""

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from rcig import strict
from rcig.data import own as sources
from rcig.data import readers
from rcig.data.own import Opened
from rcig.data.settings import Listed, Own
from rcig.errors import DataError

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


def decide(path: str, given: Mapping[str, Any], where: str) -> Decided:
    """What lies at a path and how it is to be listed, as given and else as found.

    Raises DataError for a source that cannot be used, ParamsError that begins with `where` for settings.
    """
    said = {"source": readers.guess(Path(path))} | dict(given) | {"path": path}
    own = strict.parse(Own, {key: value for key, value in said.items() if key in _OF_OWN}, where)
    found = sources.find(own)
    if own.test_fraction is None and sources.tested_part(found) is None:
        own = dataclasses.replace(own, test_fraction=TEST_FRACTION)
    opened = sources.settle(own, found)
    looked = look(opened)
    if not looked.sizes:
        raise DataError(sources.unreadable(path, looked.broken))
    if looked.broken:
        own = dataclasses.replace(own, leave_out=(*own.leave_out, *looked.broken))
        opened = sources.settle(own, found)
    listed = strict.parse(Listed, _usual(opened, looked) | dict(given) | dataclasses.asdict(own), where)
    return Decided(opened, looked, listed)


_OF_OWN = {one.name for one in dataclasses.fields(Own)}


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


def _usual(opened: Opened, looked: Looked) -> dict[str, Any]:
    sides = sorted(min(size) for size in looked.sizes.elements())
    same = len(looked.sizes) == 1 and all(height == width for height, width in looked.sizes)
    side = sides[0] if same and sides[0] <= LARGEST else min(USUAL, sides[len(sides) // 2])
    fewest = np.bincount(opened.train.labels[opened.train.mask]).min()
    return usual(side, 3 if looked.colour else 1, len(opened.class_names)) | {"held_out": 0.1 if fewest >= FEW else 0.2}


def usual(resolution: int, channels: int, classes: int) -> dict[str, Any]:
    """The settings of rcig.data.settings.Dataset, as the paper has them for such images."""
    return {
        "resolution": resolution,
        "channels": channels,
        "classes": classes,
        "depth": depth(resolution),
        "whitening": "standard" if channels == 1 else "zca",
        "mirror": channels > 1,
        "l2_rate": 5e-4,
        "held_out": 0.1,
    }


def depth(resolution: int) -> int:
    """Stages of the convolutional network, after which images are about 4 pixels wide, as in the paper."""
    return max(1, round(math.log2(resolution)) - 2)
