"""Small archives in the official layouts of all datasets, and a local web server in place of the real ones."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rcig.data.builders import Imagewoof

BIRD = "001.Black_footed_Albatross"
TINY = ("n02124075", "n04067472", "n01443537")
"""an order that is not the alphabet's"""
TEXT = b"a line\n"


def picture(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "jpeg") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def png(pixels: np.ndarray, depth: int, colour: int, more: bytes = b"") -> bytes:
    """A PNG of whole numbers (h, w, c) of 1 to 16 bits; `colour` is the format's: 0 grey, 2 RGB, 4 grey and opacity, 6
    RGB and opacity. `more`: chunks before its data."""
    height, width, _ = pixels.shape
    if depth < 8:
        bits = (pixels >> np.arange(depth - 1, -1, -1)) & 1
        rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        rows = pixels.astype(">u2" if depth == 16 else "u1").reshape(height, -1).view(np.uint8)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + more + data + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def mnist(train: int, test: int) -> dict[str, bytes]:
    files = {}
    for part, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        files[f"{part}-images-idx3-ubyte.gz"] = bytes(16) + picture(count, (count, 28, 28)).tobytes()
        files[f"{part}-labels-idx1-ubyte.gz"] = bytes(8) + labels.tobytes()
    return {name: gzip.compress(content) for name, content in files.items()}


def cifar(files: list[str], names: dict[str, int], prefix: str, coarse: bool) -> bytes:
    """Every file has each class once; pixels by channel, then row."""
    content = {}
    classes = max(names.values())
    for seed, file in enumerate(files):
        pixels = picture(seed, (classes, 3072))
        labels = np.arange(classes, dtype=np.uint8)[:, None]
        columns = [labels // 5, labels, pixels] if coarse else [labels, pixels]
        content[prefix + file] = np.concatenate(columns, axis=1).tobytes()
    for file, count in names.items():
        content[prefix + file] = "".join(f"name{i}\n" for i in range(count)).encode()
    return tar(content)


def birds() -> tuple[bytes, bytes]:
    """200 species with one bird each for training and one for testing."""
    species = [BIRD, *(f"{i:03}.Bird_{i}" for i in range(2, 201))]
    lines: dict[str, list[str]] = {"images.txt": [], "train_test_split.txt": [], "bounding_boxes.txt": []}
    images, masks = {}, {}
    for i, name in enumerate(name for name in species for _ in range(2)):
        path = f"{name}/bird_{i}.jpg"
        shape = (40, 60) if i == 1 else (40, 60, 3)
        images[f"CUB_200_2011/images/{path}"] = encoded(picture(i, shape))
        masks[f"segmentations/{name}/bird_{i}.png"] = encoded(picture(i, (40, 60)), "png")
        for file, row in zip(lines, (path, str(1 - i % 2), "6.0 4.0 30.0 20.0"), strict=True):
            lines[file].append(f"{i + 1} {row}\n")
    texts = {f"CUB_200_2011/{file}": "".join(rows).encode() for file, rows in lines.items()}
    return tar(texts | images), tar(masks)


def folders(name: str, classes: tuple[str, ...], shape: tuple[int, ...] = (160, 200, 3)) -> bytes:
    """fast.ai's layout; one image of every class is grey, as some are there."""
    files = {}
    for part, count in (("train", 2), ("val", 1)):
        for label, wnid in enumerate(classes):
            for i in range(count):
                pixels = picture(100 * label + i, shape[:2] if i else shape)
                files[f"{name}/{part}/{wnid}/{part}_{label}_{i}.JPEG"] = encoded(pixels)
    return tar(files)


def tiny(classes: tuple[str, ...]) -> bytes:
    root = "tiny-imagenet-200"
    files = {f"{root}/wnids.txt": "\n".join(classes).encode(), f"{root}/words.txt": TEXT}
    rows = []
    for label, wnid in enumerate(classes):
        files[f"{root}/train/{wnid}/{wnid}_boxes.txt"] = TEXT
        files[f"{root}/train/{wnid}/images/{wnid}_0.JPEG"] = encoded(picture(label, (64, 64)))
        files[f"{root}/train/{wnid}/images/{wnid}_1.JPEG"] = encoded(picture(label + 500, (64, 64, 3)))
        files[f"{root}/val/images/val_{label}.JPEG"] = encoded(picture(label + 900, (64, 64, 3)))
        rows.append(f"val_{label}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    files[f"{root}/val/val_annotations.txt"] = "".join(rows).encode()
    files[f"{root}/test/images/test_0.JPEG"] = encoded(picture(0, (64, 64, 3)))
    return zipped(files)


def downsampled(first: int, last: int) -> bytes:
    """Labels first to last, counted from 1, one image each."""
    labels = np.arange(first, last + 1)
    buffer = io.BytesIO()
    np.savez(buffer, data=picture(first, (len(labels), 3 * 64 * 64)), labels=labels)
    return zipped({f"batch_{first}.npz": buffer.getvalue()})


def official(imagenette: tuple[str, ...]) -> dict[str, bytes]:
    """URL without its scheme and query -> content, for all datasets."""
    aws, kriz = "s3.amazonaws.com/fast-ai-imageclas", "www.cs.toronto.edu/~kriz"
    fashion = "fashion-mnist.s3-website.eu-central-1.amazonaws.com"
    imagenet = "www.image-net.org/data/downsample/"
    bird_images, bird_masks = birds()
    batches = [f"data_batch_{i}.bin" for i in range(1, 6)]
    names = {"coarse_label_names.txt": 20, "fine_label_names.txt": 100}
    everything: dict[str, Any] = {
        **{f"storage.googleapis.com/cvdf-datasets/mnist/{name}": file for name, file in mnist(40, 20).items()},
        **{f"{fashion}/{name}": file for name, file in mnist(40, 20).items()},
        f"{kriz}/cifar-10-binary.tar.gz": cifar(
            [*batches, "test_batch.bin"], {"batches.meta.txt": 10}, "cifar-10-batches-bin/", coarse=False
        ),
        f"{kriz}/cifar-100-binary.tar.gz": cifar(["train.bin", "test.bin"], names, "cifar-100-binary/", coarse=True),
        "data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz": bird_images,
        "data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz": bird_masks,
        f"{aws}/imagenette2-160.tgz": folders("imagenette2-160", imagenette),
        f"{aws}/imagewoof2-160.tgz": folders("imagewoof2-160", Imagewoof.CLASSES),
        "cs231n.stanford.edu/tiny-imagenet-200.zip": tiny((*TINY, *(f"n{i:08}" for i in range(197)))),
        f"{imagenet}/Imagenet64_train_part1_npz.zip": downsampled(1, 600),
        f"{imagenet}/Imagenet64_train_part2_npz.zip": downsampled(601, 1000),
        f"{imagenet}/Imagenet64_val_npz.zip": downsampled(1, 1000),
    }
    return everything


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
