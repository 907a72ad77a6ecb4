"""The only file input and output: .npz files with a schema, JSON and text, written atomically.

A file is written beside its destination and moved there when it is whole, so no reader ever meets half of one. The same
content gives the same bytes.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rcig.errors import StoreError, of_path


class Schema(NamedTuple):
    """What an .npz holds: for every array its dtype and its dimensions, e.g. "n h w c"; equal letters, equal sizes."""

    name: str
    arrays: Mapping[str, tuple[str, str]]
    mapped: str | None = None
    """the array that stays in the file and is read where it is looked at"""


class Chunks(NamedTuple):
    """An array that is written piece by piece and is never in memory as a whole."""

    shape: tuple[int, ...]
    dtype: str
    pieces: Iterable[np.ndarray]
    """along the first axis"""

    @property
    def ndim(self) -> int:
        return len(self.shape)


SPLIT = Schema(
    "dataset split",
    {"images": ("uint8", "n h w c"), "labels": ("int32", "n"), "class_names": ("str", "k")},
    mapped="images",
)
WHITENING = Schema(
    "whitening",
    {
        "mean": ("float32", "c"),
        "std": ("float32", "c"),
        "mean_image": ("float32", "h w c"),
        "forward": ("float32", "d d"),
        "inverse": ("float32", "d d"),
        "eigenvalues": ("float32", "d"),
    },
)
DISTILLED = Schema(
    "distilled set",
    {
        "images": ("float32", "s n h w c"),
        "labels": ("float32", "s n k"),
        "log_temperature": ("float32", "s"),
        "pixels": ("uint8", "s n h w c"),
        "meta": ("str", ""),
    },
)
LEARNED = ("images", "labels", "log_temperature")
"""arrays of a distilled set from which the others follow"""
PREDICTIONS = Schema(
    "table of predictions",
    {"predicted": ("int16", "s k n"), "labels": ("int16", "n"), "class_names": ("str", "c")},
)
"""of k networks for each of s seeds, on n test images"""

SCORES = Schema("table of hardness scores", {"missed": ("int32", "n"), "networks": ("int32", "")})
"""how many of so many networks miss each image of a training split"""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which replaces the one at `path` when the block ends without an error, and else vanishes.

    Folders are made as needed. Raises StoreError where the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(path.parent).free / 2**20
            raise StoreError(
                f"{path}: no room to write it ({error.strerror}; {free:.0f} MiB free); make some and run it again,"
                " nothing of it was left behind"
            ) from None
        raise


def atomic_write(path: Path, data: bytes | str) -> None:
    """Replace the file at `path` by one with this content, whole or not at all; folders are made as needed."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


PLAIN = 2**31 - 2**20
"""bytes up to which an array fits a member of a plain zip, its header included"""


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray | Chunks]) -> None:
    """Write named arrays as an .npz, atomically, in the order given.

    The bytes are those of every Python: they are not compressed, as zlib has several makes, and only what is too large
    for a plain zip becomes a zip64, as Python 3.11.4 changed the headers of a small one.
    """
    with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            size = math.prod(array.shape) * np.dtype(array.dtype).itemsize
            with archive.open(f"{name}.npy", "w", force_zip64=size > PLAIN) as member:
                _write_array(member, array)


def _write_array(file: Any, array: np.ndarray | Chunks) -> None:
    if isinstance(array, Chunks):
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(array.dtype)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, header | {"shape": array.shape})
        for piece in array.pieces:
            file.write(np.ascontiguousarray(piece, array.dtype).data)
    else:
        np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def load_arrays(path: Path, fix: str, mapped: str | None = None) -> dict[str, np.ndarray]:
    """Read every array of an .npz, but only check that one called `mapped` and leave it in the file.

    Raises StoreError for a missing, truncated, damaged or pickled file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != mapped}
        return arrays if mapped is None else {mapped: _map_array(path, mapped)} | arrays
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; run `dvc repro` to make it, or `dvc pull` to fetch it") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path}: not a whole .npz file ({' '.join(str(error).split())}); {fix}") from None


def _map_array(path: Path, name: str) -> np.ndarray:
    """The array of that name of an .npz that is not compressed, as a memory map."""
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        with archive.open(member) as content:
            while content.read(2**20):
                pass  # to its end, where its checksum is compared
        # The data follow a header of 30 bytes, the name and an extra field, whose lengths are its last four bytes.
        file.seek(member.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
        file.seek(int(lengths.sum()), os.SEEK_CUR)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return np.memmap(path, dtype, "r", file.tell(), shape)


def save(path: Path, schema: Schema, **arrays: Any) -> None:
    """Write arrays that fit the schema."""
    ready = {name: value if isinstance(value, Chunks) else np.asarray(value) for name, value in arrays.items()}
    check(schema, ready, str(path), "this is a defect of the writer")
    save_arrays(path, ready)


def load(path: Path, schema: Schema) -> dict[str, np.ndarray]:
    """Read arrays and check them against the schema."""
    fix = "remove it and run `dvc repro`, or `dvc pull`"
    arrays = load_arrays(path, fix, schema.mapped)
    check(schema, arrays, str(path), fix)
    return arrays


def check(schema: Schema, arrays: Mapping[str, Any], where: str, fix: str) -> None:
    """Raise StoreError unless the arrays are exactly those of the schema."""
    if set(arrays) != set(schema.arrays):
        raise StoreError(
            f"{where}: not a {schema.name}: expected the arrays {', '.join(sorted(schema.arrays))},"
            f" got {', '.join(sorted(arrays)) or 'none'}; {fix}"
        )
    sizes: dict[str, int] = {}
    for name, (dtype, dimensions) in schema.arrays.items():
        array, letters = arrays[name], dimensions.split()
        is_dtype = np.dtype(array.dtype).kind == "U" if dtype == "str" else array.dtype == dtype
        fits = array.ndim == len(letters) and all(
            sizes.setdefault(letter, size) == size for letter, size in zip(letters, array.shape, strict=True)
        )
        if not (is_dtype and fits):
            raise StoreError(
                f"{where}: not a {schema.name}: expected {name} as {dtype} ({dimensions}), got {array.dtype}"
                f" {array.shape}; {fix}"
            )


def digest(arrays: Mapping[str, np.ndarray], names: Iterable[str]) -> str:
    """16 digits that name the content of these arrays."""
    content = hashlib.sha256()
    for name in names:
        content.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        content.update(np.ascontiguousarray(arrays[name]).tobytes())
    return content.hexdigest()[:16]


def fingerprint(paths: Iterable[Path]) -> str:
    """16 digits that name the content of these files."""
    content = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()[:16]


def load_json(path: Path) -> dict[str, Any]:
    """What `save_json` wrote. Raises StoreError for a file that is missing or holds anything else."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise StoreError(of_path(error)) from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not readable as JSON ({error}); remove it and run `dvc repro`") from None
    if not isinstance(content, dict):
        raise StoreError(f"{path}: expected a JSON object, got {type(content).__name__}; remove it and run `dvc repro`")
    return content


def save_json(path: Path, content: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
