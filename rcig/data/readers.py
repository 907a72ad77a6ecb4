"""What lies in a folder, an .npz file, a Hugging Face dataset or one of tensorflow-datasets: labels, and images unread.

A reader is a function of the place and its settings. It raises DataError for what is no source of its kind.
"""

import csv
import json
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcig import store
from rcig.data.settings import Own
from rcig.errors import DataError
from rcig.fields import shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""of files that are images"""
TABULAR = (".parquet", ".arrow")
"""of files that hold images and labels"""
TABLES = ("metadata.csv", "metadata.jsonl")
"""what says the labels of a folder of images without folders of classes"""
END = b"\xff\xff\xff\xff\0\0\0\0"
"""of a stream of arrow, without which it was cut"""
ROWS = 64
"""rows of a table that are read at a time"""
WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
"""what parts are called"""

Image = bytes | np.ndarray | None
"""an encoded image, its pixels, or nothing where one is missing"""


class Examples(NamedTuple):
    """A part of a source, in its order."""

    labels: np.ndarray
    """(n,) whole numbers or text"""
    name: Callable[[int], str]
    """what messages and `leave_out` call an example"""
    read: Callable[[np.ndarray], Iterator[Image]]
    """the images that a mask (n,) marks, one after the other; OSError in place of one that cannot be read is broken"""


class Found(NamedTuple):
    """What a source holds."""

    parts: dict[str, Examples]
    """by train, test and validation"""
    class_names: list[str] | None
    """where the source says them, whose numbers the labels are"""
    notes: list[str]
    """what was left out"""


def natural(name: str) -> tuple[Any, ...]:
    """A key to sort names by as people do: `a2` before `a10`."""
    parts = re.split(r"([0-9]+)", unicodedata.normalize("NFC", name))
    return tuple(int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)), name


# Folders of classes.


def folder(root: Path, own: Own) -> Found:
    """`train/CLASS/*.png` with perhaps `test/` and `val/`, or `CLASS/*.png` alone."""
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images, got a file; name the folder, or another source")
    folders, other = _inside(root)
    named: dict[str, str] = {}
    for name in folders:
        if (part := WORDS.get(name.casefold())) is not None and named.setdefault(part, name) != name:
            raise DataError(f"{root}: {named[part]} and {name} are both the {part} part; move one into the other")
    if named and "train" not in named:
        raise DataError(
            f"{root}: has {', '.join(named.values())} and no train; name the folder of training images train"
        )
    left = Counter(other)
    if named:
        left.update(f"{name}/" for name in folders if name not in named.values())
    parts = {}
    for part, name in named.items() or [("train", "")]:
        parts[part] = _classes(root, Path(name), left)
    return Found(parts, None, [f"left out: {_counted(left)}"] if left else [])


def _inside(place: Path) -> tuple[list[str], list[str]]:
    """The folders in a folder, in natural order, and the endings of its files, without hidden ones."""
    entries = [entry for entry in place.iterdir() if not entry.name.startswith(".")]
    folders = sorted((entry.name for entry in entries if entry.is_dir()), key=natural)
    return folders, [entry.suffix.lower() or entry.name for entry in entries if not entry.is_dir()]


def _classes(root: Path, part: Path, left: Counter[str]) -> Examples:
    """The images of the folders of classes in a folder."""
    names, loose = _inside(root / part)
    if part != Path():
        left.update(loose)
    if not names:
        raise DataError(f"{root / part}: has no folders; put the images of each class into a folder of its name")
    files, labels = [], []
    for name in names:
        place = root / part / name
        deeper, _ = _inside(place)
        if deeper:
            raise DataError(
                f"{place / deeper[0]}: a folder in the folder of a class; move its images into {place}, or let path"
                " name the folder above the classes"
            )
        inside = sorted((entry.name for entry in place.iterdir() if not entry.name.startswith(".")), key=natural)
        images = [file for file in inside if file.lower().endswith(SUFFIXES)]
        if not images:
            raise DataError(f"{place}: no image of this class ({', '.join(SUFFIXES)}); add some, or remove the folder")
        left.update(Path(file).suffix.lower() or file for file in inside if not file.lower().endswith(SUFFIXES))
        files += [part / name / file for file in images]
        labels += [unicodedata.normalize("NFC", name)] * len(images)
    return _of_files(root, files, np.array(labels))


def _of_files(root: Path, files: list[Path], labels: np.ndarray) -> Examples:
    def read(chosen: np.ndarray) -> Iterator[Image]:
        for i in np.flatnonzero(chosen):
            try:
                yield (root / files[i]).read_bytes()
            except OSError:
                yield None

    return Examples(labels, lambda i: files[i].as_posix(), read)


def _counted(what: Counter[str]) -> str:
    return ", ".join(name if name.endswith("/") else f"{count} {name}" for name, count in sorted(what.items()))


# Arrays.

KEYS = {"train": ("train_images", "train_labels"), "test": ("test_images", "test_labels")}
KEYS["validation"] = ("val_images", "val_labels")
ALONE = ("images", "labels")


def npz(file: Path, own: Own) -> Found:
    """`images` and `labels`, or `train_images`, `train_labels`, `val_…`, `test_…` as MedMNIST has them.

    `class_names` may name the classes. Images are uint8 (n, h, w) or (n, h, w, c), labels (n,) or (n, 1).
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = {member.filename.removesuffix(".npy") for member in archive.infolist()}
            keys = {part: pair for part, pair in KEYS.items() if names & set(pair)}
            if names & set(ALONE):
                keys = {"train": ALONE}
            missing = [name for pair in keys.values() for name in pair if name not in names]
            if missing or "train" not in keys:
                raise DataError(
                    f"{file}: expected the arrays images and labels, or train_images, train_labels, test_images,"
                    f" test_labels, got {', '.join(sorted(names)) or 'none'}; rename them"
                )
            parts = {part: _arrays(file, archive, *pair) for part, pair in keys.items()}
            class_names = _class_names(file, archive) if "class_names" in names else None
    except store.UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise DataError(f"{file}: not a whole .npz file ({_line(error)}); write it anew by numpy.savez") from None
    used = {name for pair in keys.values() for name in pair} | {"class_names"}
    left = sorted(names - used)
    return Found(parts, class_names, [f"left out: {', '.join(left)}"] if left else [])


def _arrays(file: Path, archive: zipfile.ZipFile, images: str, labels: str) -> Examples:
    said, classes = store.declared(archive, images), store.declared(archive, labels)
    count, shape = (said.shape or (0,))[0], said.shape[1:]
    if said.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))) or not count:
        fix = "store one image a row, all of one size"
        if len(shape) == 3 and shape[0] in (1, 3, 4):
            fix = "images.transpose(0, 2, 3, 1) brings the channels to the end"
        elif said.dtype == np.uint16:
            fix = "(images >> 8).astype('uint8') keeps the upper eight of 16 bits"
        elif said.dtype.kind in "iu" and said.dtype != np.uint8:
            fix = "images.astype('uint8') makes bytes of brightness from 0 to 255"
        elif said.dtype.kind == "f":
            fix = "(255 * images).round().astype('uint8') makes bytes of brightness from 0 to 1"
        raise DataError(
            f"{file}: expected {images} as uint8 (n, h, w) or (n, h, w, c), c 1, 3 or 4, got {said.dtype} {said.shape};"
            f" {fix}"
        )
    if said.by_columns:
        raise DataError(f"{file}: {images} is in Fortran's order; save numpy.ascontiguousarray({images})")
    if classes.shape not in ((count,), (count, 1)) or classes.dtype.kind not in "iuUS":
        raise DataError(
            f"{file}: expected {labels} as one class number or name for each of {count} images, got {classes.dtype}"
            f" {classes.shape}; of one-hot labels labels.argmax(1) makes such"
        )

    def read(chosen: np.ndarray) -> Iterator[Image]:
        with zipfile.ZipFile(file) as archive:
            rows = store.rows(archive, images)
            for i in range(int(np.flatnonzero(chosen).max(initial=-1)) + 1):
                row = next(rows)
                if chosen[i]:
                    yield row

    return Examples(_text(store.read_array(archive, labels).ravel()), lambda i: f"{images} {i}", read)


def _class_names(file: Path, archive: zipfile.ZipFile) -> list[str]:
    names = store.read_array(archive, "class_names")
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise DataError(f"{file}: expected class_names as text (C,), got {names.dtype} {names.shape}; leave them out")
    return [str(name) for name in _text(names)]


def _text(array: np.ndarray) -> np.ndarray:
    """Text in one form, so that what looks alike is alike; numbers as they are."""
    array = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    return np.array([unicodedata.normalize("NFC", str(one)) for one in array]) if array.dtype.kind == "U" else array


# Hugging Face datasets.


def huggingface(root: Path, own: Own) -> Found:
    """Parquet or arrow files as the hub and `save_to_disk` have them, or images with a metadata.csv or .jsonl."""
    files = [root] if root.is_file() else sorted(_below(root, TABULAR), key=lambda one: natural(str(one)))
    base = root.parent if root.is_file() else root
    if not files:
        return _imagefolder(root, own)
    by_part: dict[str, list[Path]] = {}
    for file in files:
        by_part.setdefault(_part_of(file.relative_to(base)), []).append(file)
    unnamed = by_part.pop("", [])
    if not by_part:
        by_part["train"] = unnamed
    elif unnamed:
        raise DataError(f"{unnamed[0]}: is it of the training or the test part? Rename it, or move it away")
    if root.is_dir():
        _check_shards(files)
    for part, some in by_part.items():
        places = sorted({file.parent for file in some})
        if len(places) > 1:
            raise DataError(f"{root}: files of {part} lie in {places[0]} and {places[1]}; let path name one of them")
    parts: dict[str, Examples] = {}
    said: dict[Path, list[str]] = {}
    for part, some in by_part.items():
        parts[part], more = _of_tables(base, some, own)
        said |= more
    for file, names in said.items():
        first = next(iter(said))
        other = next((i for i, pair in enumerate(zip_longest(names, said[first])) if len(set(pair)) > 1), None)
        if other is not None:
            named = " and ".join(repr(some[other]) if other < len(some) else "nothing" for some in (names, said[first]))
            raise DataError(
                f"{file}, {first}: class {other} is called {named}; write both with the same features, so that a number"
                " means one class"
            )
    loose = sum(1 for _ in _below(root, SUFFIXES)) if root.is_dir() else 0
    notes = [f"{loose} images lie beside the tables; those of them are used that a table names"] if loose else []
    return Found(parts, next(iter(said.values()), None), notes)


def _check_shards(files: list[Path]) -> None:
    """Raise DataError where files that count themselves, as train-00000-of-00002.parquet does, are not all there."""
    there = set(files)
    for file in files:
        if (counted := re.fullmatch(r"(.*)-([0-9]+)-of-([0-9]+)(\.[a-z]+)", file.name)) is not None:
            start, number, count, suffix = counted.groups()
            for i in range(int(count)):
                other = file.with_name(f"{start}-{i:0{len(number)}}-of-{count}{suffix}")
                if other not in there:
                    raise DataError(f"{other}: is missing, beside {file.name}; download the dataset anew")


def _below(root: Path, suffixes: tuple[str, ...] | None = None) -> Iterator[Path]:
    """The files, all or with such endings, in folders too, without hidden ones and what datasets keeps for itself."""
    for file in root.rglob("*"):
        inside = file.relative_to(root).parts
        wanted = file.suffix.lower() in suffixes if suffixes is not None else not file.is_dir()
        if wanted and not any(part.startswith((".", "cache-")) for part in inside):
            yield file


def _part_of(path: Path) -> str:
    """The part that a path says a file is of, the last one that it names; "" where it names none."""
    words = [word for word in re.split(r"[^a-z]+", path.as_posix().lower()) if word in WORDS]
    return WORDS[words[-1]] if words else ""


class Table(NamedTuple):
    """A parquet or an arrow file."""

    file: Path
    schema: Any
    """of pyarrow"""
    rows: int
    batches: Callable[[list[str]], Iterator[Any]]
    """these columns, some rows at a time"""


def _table(file: Path) -> Table:
    import pyarrow as pa  # whose start takes half a second
    import pyarrow.parquet as pq

    if file.suffix.lower() == ".parquet":
        with pq.ParquetFile(file) as opened:
            schema, rows = opened.schema_arrow, opened.metadata.num_rows

        def parquet(columns: list[str]) -> Iterator[Any]:
            with pq.ParquetFile(file, memory_map=True) as opened:
                yield from opened.iter_batches(ROWS, columns=columns)

        return Table(file, schema, rows, parquet)

    def arrow(columns: list[str] | None) -> Iterator[Any]:
        with pa.memory_map(str(file)) as source:
            try:
                batches: Iterable[Any] = pa.ipc.open_stream(source)
                if source.size() < len(END) or source.read_at(len(END), source.size() - len(END)) != END:
                    raise OSError(f"{file} ends before its end mark")
            except pa.ArrowInvalid:
                reader = pa.ipc.open_file(source)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            for batch in batches:
                yield batch if columns is None else batch.select(columns)

    rows, schema = 0, None
    for batch in arrow(None):
        rows, schema = rows + batch.num_rows, batch.schema
    if schema is None:
        raise DataError(f"{file}: has no rows; remove it")
    return Table(file, schema, rows, arrow)


def _of_tables(base: Path, files: list[Path], own: Own) -> tuple[Examples, dict[Path, list[str]]]:
    """A part of the dataset, and what those of its files that name the classes call them."""
    import pyarrow as pa

    try:
        tables = [_table(file) for file in files]
        features = _features(tables[0].schema)
        image, label = _columns(files[0], tables[0].schema, features, own)
        other = next((table for table in tables if not {image, label} <= set(table.schema.names)), None)
        if other is not None:
            raise DataError(f"{other.file}: has no columns {image} and {label} as {files[0]} has; move it away")
        said = {table.file: _names(table, label) for table in tables}
        labels = [value for table in tables for batch in table.batches([label]) for value in batch[label].to_pylist()]
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise DataError(f"{base}: not a whole Hugging Face dataset ({_line(error)}); download it anew") from None
    starts = np.cumsum([0, *(table.rows for table in tables)])

    def name(i: int) -> str:
        of = int(np.searchsorted(starts, i, "right")) - 1
        return f"{files[of].relative_to(base).as_posix()} row {i - starts[of]}"

    def read(chosen: np.ndarray) -> Iterator[Image]:
        at = 0
        for table in tables:
            for batch in table.batches([image]):
                for i in np.flatnonzero(chosen[at : at + batch.num_rows]):
                    yield _bytes(base, batch[image][int(i)].as_py())
                at += batch.num_rows

    named = {file: names for file, names in said.items() if names is not None}
    return Examples(_labels(f"{files[0]}: {label}", labels), name, read), named


def _features(schema: Any) -> dict[str, Any]:
    """What the library datasets says of the columns."""
    said: Any = None
    with suppress(ValueError):
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    for key in ("info", "features"):
        said = said.get(key) if isinstance(said, dict) else None
    return {name: one for name, one in said.items() if isinstance(one, dict)} if isinstance(said, dict) else {}


def _names(table: Table, label: str) -> list[str] | None:
    """What a table calls its classes."""
    names = _features(table.schema).get(label, {}).get("names")
    return [unicodedata.normalize("NFC", str(name)) for name in names] if isinstance(names, list) else None


def _columns(file: Path, schema: Any, features: dict[str, Any], own: Own) -> tuple[str, str]:
    """The names of the columns of images and of labels: as given, by their types, or by their names."""
    names = list(schema.names)
    images = [name for name in names if features.get(name, {}).get("_type") == "Image"]
    labels = [name for name in names if features.get(name, {}).get("_type") == "ClassLabel"]
    images = images or [name for name in names if name in ("image", "img", "png", "jpg")]
    labels = labels or [name for name in names if name in ("label", "labels", "class", "cls")]
    found = []
    for what, given, some in (("image", own.image_column, images), ("label", own.label_column, labels)):
        some = [name for name in names if name == given] if given is not None else some
        if len(some) != 1:
            raise DataError(
                f"{file}: which of its columns {', '.join(names)} has the {what}s? Say {what}_column"
                + (f", got {shown(given)}" if given is not None else "")
            )
        found.append(some[0])
    return found[0], found[1]


def _bytes(base: Path, value: Any) -> Image:
    if isinstance(value, dict) and value.get("bytes") is None and isinstance(value.get("path"), str):
        place = base / value["path"]
        return place.read_bytes() if place.resolve().is_relative_to(base.resolve()) and place.is_file() else None
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else None


def _labels(where: str, values: list[Any]) -> np.ndarray:
    kinds = sorted({type(value).__name__ for value in values})
    labels = _text(np.array(values)) if kinds in (["int"], ["str"]) else np.array([])
    if labels.dtype.kind not in "iuU":
        raise DataError(
            f"{where}: expected one class number or name for each image, got {', '.join(kinds) or 'none'}; give another"
            " label_column"
        )
    return labels


def _imagefolder(root: Path, own: Own) -> Found:
    """A folder of images with tables of their labels, as Hugging Face's imagefolder has them; else one of classes.

    The folder of an image says of which part it is, whichever folder the table lies in.
    """
    tables = _tables(root)
    if not tables:
        return folder(root, own)
    there: dict[str, set[Path]] = {}
    for one in _below(root):
        there.setdefault(_plain(one.relative_to(root)), set()).add(one.relative_to(root))
    rest = set().union(*there.values()) - {file.relative_to(root) for file in tables}
    parts: dict[str, Examples] = {}
    for file in tables:
        rows = _rows(file)
        columns = list(rows[0])
        known = [own.label_column] if own.label_column is not None else ["label", "labels", "class"]
        label = next((name for name in columns if name in known), None)
        if label is None:
            raise DataError(f"{file}: which of its columns {', '.join(columns)} has the labels? Say label_column")
        files = [_named(root, file, there, i, row, label) for i, row in enumerate(rows, 1)]
        twice = next((one for one, count in Counter(files).items() if count > 1), None)
        if twice is not None:
            raise DataError(f"{file}: names {twice} more than once; leave one row of it")
        rest.difference_update(files)
        labels = _labels(f"{file}: {label}", [row[label] for row in rows])
        of = [_part_above(one) for one in files]
        for part in dict.fromkeys(of):
            if part in parts:
                raise DataError(f"{file}: a second table of {part}; move one away")
            members = [i for i, one in enumerate(of) if one == part]
            parts[part] = _of_files(root, [files[i] for i in members], labels[members])
    images = sorted((one for one in rest if one.suffix.lower() in SUFFIXES), key=lambda one: natural(str(one)))
    other = Counter(one.suffix.lower() or one.name for one in rest if one.suffix.lower() not in SUFFIXES)
    notes = [f"left out: {len(images)} images that no table names, as {images[0]}"] if images else []
    return Found(parts, None, notes + ([f"left out: {_counted(other)}"] if other else []))


def _tables(root: Path) -> list[Path]:
    """Those of a folder of images, metadata.csv before metadata.jsonl."""
    found = sorted(_below(root, (".csv", ".jsonl")))
    return [file for name in TABLES for file in found if file.name.lower() == name]


def _named(
    root: Path, table: Path, there: Mapping[str, set[Path]], number: int, row: dict[str, Any], label: str
) -> Path:
    """The file that a row of a table names, of those that are there. Raises DataError where it names none, or no label.

    Letters with accents may be written in any form of Unicode. A name that differs from the file's in case or by
    backslashes is no example that could be left out, but a table to mend.
    """
    name = row["file_name"]
    for what, value in (("file", name), ("label", row[label])):
        if value is None or value == "":
            raise DataError(f"{table}: row {number} names no {what}; complete it, or leave the row out")
    file = table.parent.relative_to(root) / str(name)
    if file.is_absolute() or ".." in file.parts:
        raise DataError(f"{table}: names {file}, which is outside of {root}; move it there")
    alike = sorted(there.get(_plain(file), {file}))
    if file in alike:
        return file
    if _composed(file) == _composed(alike[0]):
        return alike[0]
    given, called = shown(str(file)), shown(str(alike[0]))
    raise DataError(f"{table}: row {number} names {given}, and the file is called {called}; write it alike")


def _plain(path: Path) -> str:
    """What names of a file have in common that people take for the same."""
    return _composed(path).replace("\\", "/").casefold()


def _composed(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path))


def _part_above(file: Path) -> str:
    """The part that the folders of a file say it is of, the outermost that is called like one."""
    return next((WORDS[name.casefold()] for name in file.parent.parts if name.casefold() in WORDS), "train")


def _rows(file: Path) -> list[dict[str, Any]]:
    """At least one, all with the same columns, of which one is file_name."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            if file.suffix.lower() == ".csv":
                table = csv.DictReader(opened)
                rows, columns = list(table), list(table.fieldnames or [])
            else:
                rows = [dict(json.loads(line)) for line in opened if line.strip()]
                columns = list(dict.fromkeys(name for row in rows for name in row))
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        raise DataError(f"{file}: not readable ({_line(error)}); write it anew") from None
    if not rows or "file_name" not in columns or len(set(columns)) < len(columns):
        raise DataError(
            f"{file}: expected file_name and a label, each one column, got {', '.join(map(str, columns)) or 'no row'};"
            " mend it, or say source: folder if folders are the classes"
        )
    if file.suffix.lower() == ".csv":
        other = next((i for i, row in enumerate(rows, 1) if None in row or None in row.values()), None)
        if other is not None:
            raise DataError(f"{file}: row {other} has more or fewer cells than the {len(columns)} columns; mend it")
    return [{name: row.get(name) for name in columns} for row in rows]


# Datasets that tensorflow-datasets has prepared.


def tfds(root: Path, own: Own) -> Found:
    """A folder with a dataset that tensorflow-datasets has prepared as array_record files: NAME/VERSION."""
    import tensorflow_datasets as library

    try:
        builder = library.builder_from_directory(str(root))
        features = builder.info.features
        names = readable_names(features)
        splits = {WORDS[split]: split for split in builder.info.splits if split in WORDS}
        decoders = {"image": library.decode.SkipDecoding()}
        data = {part: builder.as_data_source(split=split, decoders=decoders) for part, split in splits.items()}
        parts = {part: _of_records(splits[part], rows) for part, rows in data.items()}
    except Exception as error:  # whatever tensorflow-datasets, protobuf, array_record or the system raise
        raise DataError(
            f"{root}: not a dataset with image and label that tensorflow-datasets has prepared as array_record"
            f" ({_line(error)}); let path name the folder of its version"
        ) from None
    return Found(parts, names, [])


def readable_names(features: Any) -> list[str]:
    """The class names of features with an image and a label."""
    features["image"]
    return [str(name) for name in features["label"].names]


def _of_records(split: str, rows: Any) -> Examples:
    def read(chosen: np.ndarray) -> Iterator[Image]:
        for i in np.flatnonzero(chosen):
            yield rows[int(i)]["image"]

    labels = np.array([int(rows[i]["label"]) for i in range(len(rows))])
    return Examples(labels, lambda i: f"{split} {i}", read)


READERS: dict[str, Callable[[Path, Own], Found]] = {
    "folder": folder,
    "npz": npz,
    "huggingface": huggingface,
    "tfds": tfds,
}


def guess(path: Path) -> str:
    """What kind of source seems to lie there. Raises DataError where nothing does."""
    if path.is_file() and path.suffix.lower() == ".npz":
        return "npz"
    if path.is_file() and path.suffix.lower() in TABULAR:
        return "huggingface"
    if not path.is_dir():
        what = "a file of another kind" if path.exists() else "nothing"
        raise DataError(
            f"{path}: expected a folder of images, an .npz file, a Hugging Face dataset or a prepared one of"
            f" tensorflow-datasets, got {what}; correct the path"
        )
    if (path / "features.json").is_file():
        return "tfds"
    return "huggingface" if any(_below(path, TABULAR)) or _tables(path) else "folder"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
