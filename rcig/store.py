"""The only file input and output: .npz files with a schema, JSON and text, written atomically.

A file is written beside its destination and moved there when it is whole, so no reader ever meets half of one. The same
content gives the same bytes.
"""

import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
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
_SAID: dict[str, tuple[type, bool]] = {
    "dataset": (str, False),
    "images_per_class": (int, False),
    "method": (str, False),
    "seeds": (int, True),
    "class_names": (str, True),
}
"""what the meta of distilled sets says at least, of what type, and whether it is a list"""
PREDICTIONS = Schema(
    "table of predictions",
    {"predicted": ("int16", "s k n"), "labels": ("int16", "n"), "class_names": ("str", "c")},
)
"""of k networks for each of s seeds, on n test images"""

SCORES = Schema("table of hardness scores", {"missed": ("int32", "n"), "networks": ("int32", "")})
"""how many of so many networks miss each image of a training split"""


RANDOM = "[a-z0-9_]" * 8
"""what tempfile puts into a name"""


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which replaces the one at `path` when the block ends without an error, and else vanishes.

    Folders are made as needed; what writers of `path` left that were killed is removed. Raises StoreError where the
    disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    file, temporary = _locked_temporary(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(path.parent).free / 2**20
            raise StoreError(
                f"{path}: no room to write it ({error.strerror}; {free:.0f} MiB free); make some and run it again,"
                " nothing of it was left behind"
            ) from None
        raise


def _locked_temporary(path: Path) -> tuple[BinaryIO, Path]:
    """An empty file beside `path`, locked for as long as it is open, by which others know that its writer lives.

    Where the file system has no locks it is not locked, and others leave it alone.
    """
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        file, temporary = os.fdopen(descriptor, "wb"), Path(name)
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if temporary.exists():
            return file, temporary
        file.close()  # another writer took it for abandoned before it was locked


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files of `path` whose writers were killed: no process of any machine holds their lock."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.{RANDOM}.tmp"):
        with suppress(OSError), temporary.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink(missing_ok=True)


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


class Declared(NamedTuple):
    """What an .npz says of one of its arrays before its numbers."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    by_columns: bool
    """whether its numbers are in Fortran's order"""


def declared(archive: zipfile.ZipFile, name: str) -> Declared:
    """What the array of that name is said to be. Raises ValueError for Python objects and for a size that is no such
    array's, KeyError where there is none of that name: nothing is unpacked or allocated for it."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        found = _read_header(file)
        size = file.tell() + math.prod(found.shape) * found.dtype.itemsize
    if found.dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, expected numbers or text")
    if size != member.file_size:
        raise ValueError(
            f"{name} says {found.dtype} {found.shape}, but has {member.file_size} bytes in place of {size}"
        )
    return found


def _read_header(file: Any) -> Declared:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array in version {version} of NumPy's format, expected 1.0 or 2.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(file)
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of the shape {shape}")
    return Declared(dtype, shape, by_columns)


def read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array of that name, with the errors of `declared`."""
    declared(archive, name)
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def rows(archive: zipfile.ZipFile, name: str) -> Iterator[np.ndarray]:
    """The same along its first axis, one after the other: the array is never in memory as a whole.

    Raises ValueError also for an array in Fortran's order, and zipfile's errors for a member that is damaged.
    """
    dtype, (count, *shape), by_columns = declared(archive, name)
    if by_columns:
        raise ValueError(f"{name} is in Fortran's order")
    size = math.prod(shape) * dtype.itemsize
    with archive.open(f"{name}.npy") as file:
        _read_header(file)
        for _ in range(count):
            yield np.frombuffer(file.read(size), dtype).reshape(shape)


UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, TypeError, KeyError, RuntimeError),
)
"""what Python and NumPy raise for bytes that are no .npz"""


def load_arrays(path: Path, fix: str, mapped: str | None = None) -> dict[str, np.ndarray]:
    """Read every array of an .npz, but only check that one called `mapped` and leave it in the file.

    Raises StoreError for a missing, truncated, damaged or pickled file, and for one that would unpack to more than it
    has bytes: `save_arrays` does not compress.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
            unpacked, size = sum(member.file_size for member in archive.infolist()), os.fstat(file.fileno()).st_size
            if unpacked > size:
                raise ValueError(f"its {size} bytes would unpack to {unpacked}")
            arrays = {name: read_array(archive, name) for name in names if name != mapped}
            return arrays if mapped is None else {mapped: _map_array(path, archive, mapped)} | arrays
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; run `dvc repro` to make it, or `dvc pull` to fetch it") from None
    except UNREADABLE as error:
        raise StoreError(f"{path}: not a whole .npz file ({' '.join(str(error).split())}); {fix}") from None


def _map_array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array of that name of an .npz that is not compressed, as a memory map."""
    dtype, shape, by_columns = declared(archive, name)
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED or by_columns:
        raise ValueError(f"{name} is compressed or in Fortran's order")
    with archive.open(member) as content:
        while content.read(2**20):
            pass  # to its end, where its checksum is compared
    with open(path, "rb") as file:
        # The data follow a header of 30 bytes, the name and an extra field, whose lengths are its last four bytes.
        file.seek(member.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
        file.seek(int(lengths.sum()), os.SEEK_CUR)
        _read_header(file)
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


def load_distilled(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file of distilled sets, and its meta: whoever takes up a set, to show, judge or go on from it.

    Raises StoreError for numbers that are not finite and for a meta that does not say whose sets they are.
    """
    arrays = load(path, DISTILLED)
    check_finite(path, arrays, LEARNED)
    seeds, _, classes = arrays["labels"].shape
    fix = "remove it and run `dvc repro`, or `dvc pull`"
    return arrays, read_meta(path, arrays["meta"], {"seeds": seeds, "class_names": classes}, fix)


def check_finite(path: Path, arrays: Mapping[str, np.ndarray], names: Iterable[str]) -> None:
    """Raise StoreError for NaN or infinite numbers in the arrays of these names."""
    for name in names:
        bad = np.count_nonzero(~np.isfinite(arrays[name]))
        if bad:
            raise StoreError(f"{path}: {bad} NaN or infinite {name}; remove it and distil again")


def read_meta(path: Path, text: np.ndarray, counts: Mapping[str, int], fix: str) -> dict[str, Any]:
    """What the array `meta` of a file says of its sets. Raises StoreError where that is not whose they are, and for
    another number of items than `counts` has for a list."""
    try:
        meta = json.loads(str(text))
    except (ValueError, RecursionError):
        raise StoreError(f"{path}: not a distilled set: its meta is no JSON; {fix}") from None
    said: dict[str, Any] = meta if isinstance(meta, dict) else {}
    for name, (kind, listed) in _SAID.items():
        value = said.get(name)
        items = value if listed and isinstance(value, list) else [value]
        count = counts.get(name, len(items) if listed else 1)
        if not all(type(item) is kind for item in items) or len(items) != count:
            raise StoreError(
                f"{path}: not a distilled set: expected its meta to say {name}, {count} of {kind.__name__},"
                f" got {str(value)[:80]!r}; {fix}"
            )
    return said


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


def files(path: Path) -> list[Path]:
    """The file at that path, or all below that folder in the order of their names."""
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


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
