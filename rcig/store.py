"""The only file input and output: .npz files with a schema, JSON and text, written atomically.

A file is written beside its destination and moved there when it is whole, so no reader ever meets half of one. The same
content gives the same bytes.
"""

import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class StoreError(ValueError):
    """A file that cannot be used. The message is one line: the file, what was wrong with it, the usual fix."""


class Schema(NamedTuple):
    """What an .npz holds: for every array its dtype and its dimensions, e.g. "n h w c"; equal letters, equal sizes."""

    name: str
    arrays: Mapping[str, tuple[str, str]]


SPLIT = Schema("dataset split", {"images": ("uint8", "n h w c"), "labels": ("int32", "n"), "class_names": ("str", "k")})
WHITENING = Schema(
    "whitening",
    {
        "mean": ("float32", "c"),
        "std": ("float32", "c"),
        "forward": ("float32", "d d"),
        "inverse": ("float32", "d d"),
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


def atomic_write(path: Path, data: bytes | str) -> None:
    """Replace the file at `path` by one with this content, whole or not at all; folders are made as needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = data.encode() if isinstance(data, str) else data
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as a compressed .npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    atomic_write(path, buffer.getvalue())


def load_arrays(path: Path, fix: str) -> dict[str, np.ndarray]:
    """Read every array of an .npz. Raises StoreError for a missing, truncated, damaged or pickled file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; run `dvc repro` to make it, or `dvc pull` to fetch it") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: not a whole .npz file ({' '.join(str(error).split())}); {fix}") from None


def save(path: Path, schema: Schema, **arrays: Any) -> None:
    """Write arrays that fit the schema."""
    as_arrays = {name: np.asarray(value) for name, value in arrays.items()}
    check(schema, as_arrays, str(path), "this is a defect of the writer")
    save_arrays(path, as_arrays)


def load(path: Path, schema: Schema) -> dict[str, np.ndarray]:
    """Read arrays and check them against the schema."""
    fix = "remove it and run `dvc repro`, or `dvc pull`"
    arrays = load_arrays(path, fix)
    check(schema, arrays, str(path), fix)
    return arrays


def check(schema: Schema, arrays: Mapping[str, np.ndarray], where: str, fix: str) -> None:
    """Raise StoreError unless the arrays are exactly those of the schema."""
    if set(arrays) != set(schema.arrays):
        raise StoreError(
            f"{where}: not a {schema.name}: expected the arrays {', '.join(sorted(schema.arrays))},"
            f" got {', '.join(sorted(arrays)) or 'none'}; {fix}"
        )
    sizes: dict[str, int] = {}
    for name, (dtype, dimensions) in schema.arrays.items():
        array, letters = arrays[name], dimensions.split()
        is_dtype = array.dtype.kind == "U" if dtype == "str" else array.dtype == dtype
        fits = array.ndim == len(letters) and all(
            sizes.setdefault(letter, size) == size for letter, size in zip(letters, array.shape, strict=True)
        )
        if not (is_dtype and fits):
            raise StoreError(
                f"{where}: not a {schema.name}: expected {name} as {dtype} ({dimensions}), got {array.dtype}"
                f" {array.shape}; {fix}"
            )


def save_json(path: Path, content: Mapping[str, Any]) -> None:
    atomic_write(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
