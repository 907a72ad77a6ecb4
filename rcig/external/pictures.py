"""Sets of encoded pictures: a folder for each class, pictures with a table of labels, and Hugging Face's parquet."""

import csv
import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from rcig import resources
from rcig.errors import ParamsError
from rcig.external.arrays import Data, Stored
from rcig.external.labels import Kind

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
TABLES = ("metadata.csv", "labels.csv")
BATCH = 16
"""rows of a table that are read at a time: a few bytes of a file may stand for many rows"""
PARTS = ("train", "validation", "test")
"""which the names of tables begin with"""
IMAGE, LABEL = ("image", "img", "images"), ("label", "fine_label", "labels")
"""names of columns"""
PLAIN = ("1", "L", "P", "RGB")
"""modes of Pillow that say what they mean without transparency or more than 8 bits"""


def of_folder(folder: Path, files: list[Path], data: Data) -> tuple[Stored, Stored, Kind | None]:
    """A folder with a table of its pictures, or with a folder of pictures for each class; what its labels are.

    A table is metadata.csv as Hugging Face's imagefolder has it, or labels.csv, with the columns file_name and label,
    or soft_label as `rcig.export` writes it: a number for each class, 1/C added, with spaces between. Folders are named
    as the classes are, or end in their numbers (`new003`), or are as many as classes, in natural order. Raises
    ParamsError for anything else.
    """
    tables = [path for path in files if path.parent == folder and path.name in TABLES]
    if tables:
        return _of_table(tables[0], data)
    found = [path for path in files if path.suffix.lower() in ENDINGS and path.parent != folder]
    if len({path.parent.parent for path in found}) != 1:
        raise ParamsError(
            f"expected {' or '.join(TABLES)} with pictures, or a folder of pictures for each class, all in one folder;"
            " name another one"
        )
    numbers = _classes([path.name for path in natural_order({path.parent for path in found})], data.class_names)
    labels = np.array([numbers[path.parent.name] for path in found])
    return _stored([(str(path), path.read_bytes) for path in found], data), Stored.of(labels), "classes"


def of_parquet(files: list[Path], data: Data) -> tuple[Stored, Stored]:
    """Tables of Hugging Face, one set together: a column of pictures as {bytes, path}, and one of labels, which are
    class numbers or lists of C numbers."""
    from pyarrow import parquet

    parts = {path.name.split("-")[0] for path in files} & set(PARTS)
    if len(parts) > 1:
        raise ParamsError(f"tables of {' and '.join(sorted(parts))}, of which the set is one; name its file")
    groups = [parquet.ParquetFile(path).metadata for path in files]
    size = sum(one.row_group(i).total_byte_size for one in groups for i in range(one.num_row_groups))
    resources.refuse("reading these tables", "their number", 2 * size, resources.on_host())
    columns = parquet.read_schema(files[0]).names
    image, label = (_column(columns, names) for names in (IMAGE, LABEL))
    pictures, labels, held = [], [], 0
    for path in files:
        for batch in parquet.ParquetFile(path).iter_batches(BATCH, columns=[image, label]):
            for row in batch.to_pylist():
                picture = row[image]["bytes"] if isinstance(row[image], dict) else row[image]
                if not isinstance(picture, bytes):
                    raise ParamsError(f"expected the bytes of pictures in the column {image}; save them in the file")
                pictures.append(picture)
                labels.append(row[label])
                held += len(picture)
            resources.refuse("reading these tables", "their number", held, resources.on_host())
    rows = [(f"row {i}", partial(bytes, picture)) for i, picture in enumerate(pictures)]
    return _stored(rows, data), Stored.of(np.array(labels))


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """With numbers in the order of their values: class2 before class10."""
    return sorted(paths, key=lambda path: [(int(part), "") if part.isdigit() else (-1, part) for part in _parts(path)])


def _parts(path: Path) -> list[str]:
    return [part for part in re.split(r"(\d+)", path.as_posix()) if part]


def _classes(names: Sequence[str], known: list[str]) -> dict[str, int]:
    """The class of each folder, whose names are in natural order."""
    if set(names) <= set(known):
        return {name: known.index(name) for name in names}
    ends = [re.search(r"\d+$", name) for name in names]
    numbers = [int(end[0]) for end in ends if end]
    if len(numbers) == len(set(numbers)) == len(names) and max(numbers) < len(known):
        return dict(zip(names, numbers, strict=True))
    if set(names) & set(known) or len(names) != len(known):
        raise ParamsError(
            f"{len(names)} folders, {names[0]} to {names[-1]}, are not the {len(known)} classes; name them as the"
            " classes are, or by their numbers"
        )
    warnings.warn(
        f"folders {names[0]} to {names[-1]} are taken as the classes {known[0]} to {known[-1]} in natural order; name"
        " them as the classes are if that is wrong",
        stacklevel=2,
    )
    return {name: i for i, name in enumerate(names)}


def _of_table(table: Path, data: Data) -> tuple[Stored, Stored, Kind | None]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file_name", "label"} <= rows[0].keys():
        raise ParamsError(f"{table.name}: expected the columns file_name and label; correct it")
    for row in rows:
        place = PurePosixPath(row["file_name"])
        if place.is_absolute() or ".." in place.parts:
            raise ParamsError(f"{table.name}: {row['file_name']!r} lies outside of its folder; move it there")
    paths = [table.parent / row["file_name"] for row in rows]
    soft = [row.get("soft_label") for row in rows]
    try:
        if all(soft):
            labels = np.array([one.split() for one in soft if one], float)
            labels -= 1 / labels.shape[1]
        else:
            labels = np.array([row["label"] for row in rows], float)
    except ValueError:
        raise ParamsError(f"{table.name}: expected labels as numbers; correct it") from None
    kind: Kind | None = "centred" if all(soft) else None
    return _stored([(str(path), path.read_bytes) for path in paths], data), Stored.of(labels), kind


def _stored(encoded: Sequence[tuple[str, Callable[[], bytes]]], data: Data) -> Stored:
    """Of pictures (where one lies, how it is read)."""

    def read() -> np.ndarray:
        return np.stack([_decoded(content(), where, data.shape) for where, content in encoded])

    return Stored((len(encoded), *data.shape), np.dtype(np.uint8), read)


def _decoded(content: bytes, where: str, shape: tuple[int, int, int]) -> np.ndarray:
    """A picture as uint8 (h, w, c). Raises ParamsError for one of another size, looked at before it is unpacked."""
    height, width, channels = shape
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.size != (width, height):
                found = " × ".join(map(str, picture.size[::-1]))
                raise ParamsError(f"{where}: {found} pixels, the dataset has {height} × {width}; scale the pictures")
            if picture.mode not in PLAIN or "transparency" in picture.info:
                raise ParamsError(f"{where}: of mode {picture.mode}, expected grey or RGB of 8 bits; convert it")
            return np.asarray(picture.convert("L" if channels == 1 else "RGB")).reshape(shape)
    except ParamsError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ParamsError(f"{where}: no picture that can be read ({' '.join(str(error).split())})") from None


def _column(columns: list[Any], names: tuple[str, ...]) -> str:
    for name in names:
        if name in columns:
            return name
    raise ParamsError(f"expected a column {' or '.join(names)}, got {', '.join(map(str, columns))}; rename it")
