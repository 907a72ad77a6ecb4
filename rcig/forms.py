"""Files in a compact form, from which they are restored byte by byte.

An .npz of `store.save_arrays` becomes a zip with each of its arrays in the form that suits it: images in colour as
JPEG XL without loss, in strips; a symmetric matrix as the triangle that says it; everything else as it is, deflated.
Any other file is deflated as a whole.
"""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rcig import store
from rcig.errors import StoreError

Form = Literal["file", "arrays", "jpeg_xl"]
"""deflated; arrays each in its form; the same with images in JPEG XL, which needs imagecodecs"""
STRIP = 2**20
"""pixels of a strip of images, one below the other"""
EFFORT = 3
"""of the encoder; more makes natural images of 32 pixels no smaller"""
INDEX = "arrays.json"


def reduce(path: Path, into: Path) -> Form:
    """Write a file in its compact form -> which that is. It is restored once to see that nothing is lost."""
    form: Form = "file"
    if zipfile.is_zipfile(path):
        try:
            form = _reduce_arrays(path, into)
            trial = into.with_suffix(".trial")
            restore(into, form, trial)
            same = _same(path, trial)
            trial.unlink()
            if same:
                return form
        except (*store.UNREADABLE, StoreError):
            pass  # another zip than save_arrays writes
    with store.atomic_file(into) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "content")
    return "file"


def restore(reduced: Path, form: Form, path: Path) -> None:
    """Write the file that was reduced. Raises StoreError for a reduced one that is damaged."""
    try:
        with zipfile.ZipFile(reduced) as archive:
            if form == "file":
                with store.atomic_file(path) as into, archive.open("content") as content:
                    shutil.copyfileobj(content, into)
                return
            index = json.loads(archive.read(INDEX))
            store.save_arrays(path, {name: _restored(archive, name, one) for name, one in index.items()})
    except store.UNREADABLE as error:
        raise StoreError(f"{reduced}: not a file in its compact form ({error}); send it again") from None


def _reduce_arrays(path: Path, into: Path) -> Form:
    form: Form = "arrays"
    index = {}
    with zipfile.ZipFile(path) as archive:
        names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
        shapes = {name: store.declared(archive, name) for name in names}
        with store.atomic_file(into) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
            for name, said in shapes.items():
                kind = _kind(archive, name, said)
                index[name] = {"kind": kind, "dtype": said.dtype.str, "shape": said.shape}
                if kind == "images":
                    form = "jpeg_xl"
                    for number, strip in enumerate(_strips(archive, name, said.shape)):
                        made.writestr(f"{name}/{number}", _encoded(strip), zipfile.ZIP_STORED)
                elif kind == "symmetric":
                    matrix = store.read_array(archive, name)
                    made.writestr(f"{name}/0", matrix[np.triu_indices(len(matrix))].tobytes())
                else:
                    with archive.open(f"{name}.npy") as content, made.open(f"{name}/0", "w") as copy:
                        shutil.copyfileobj(content, copy)
            made.writestr(INDEX, json.dumps(index))
    return form


def _kind(archive: zipfile.ZipFile, name: str, said: store.Declared) -> str:
    if said.dtype == np.uint8 and len(said.shape) == 4 and said.shape[-1] == 3 and min(said.shape) > 0:
        return "images"
    if said.dtype.kind == "f" and len(said.shape) == 2 and said.shape[0] == said.shape[1] > 1:
        matrix = store.read_array(archive, name)
        bits = matrix.view(f"u{said.dtype.itemsize}")  # as zeros may differ in sign
        return "symmetric" if np.array_equal(bits, bits.T) else "as it is"
    return "as it is"


def _strips(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """(k·h, w, 3) images one below the other, so many that a strip has about STRIP pixels."""
    count = _per_strip(shape)
    some: list[np.ndarray] = []
    for image in store.rows(archive, name):
        some.append(image)
        if len(some) == count:
            yield np.concatenate(some)
            some = []
    if some:
        yield np.concatenate(some)


def _per_strip(shape: tuple[int, ...]) -> int:
    return max(1, STRIP // (shape[1] * shape[2]))


def _restored(archive: zipfile.ZipFile, name: str, one: dict[str, Any]) -> Any:
    dtype, shape = np.dtype(one["dtype"]), tuple(one["shape"])
    if one["kind"] == "images":
        strips = range(-(-shape[0] // _per_strip(shape)))
        pieces = (_decoded(archive.read(f"{name}/{number}")).reshape(-1, *shape[1:]) for number in strips)
        return store.Chunks(shape, dtype.str, pieces)
    if one["kind"] == "symmetric":
        matrix, upper = np.empty(shape, dtype), np.triu_indices(shape[0])
        matrix[upper] = np.frombuffer(archive.read(f"{name}/0"), dtype)
        matrix.T[upper] = matrix[upper]
        return matrix
    with archive.open(f"{name}/0") as content:
        return np.lib.format.read_array(content, allow_pickle=False)


def _encoded(strip: np.ndarray) -> bytes:
    encode: Callable[..., bytes] = _codec().jpegxl_encode
    return encode(strip, lossless=True, effort=EFFORT)


def _decoded(content: bytes) -> np.ndarray:
    decode: Callable[[bytes], np.ndarray] = _codec().jpegxl_decode
    return decode(content)


def _codec() -> Any:
    import imagecodecs  # which a machine that reads no images in colour does without

    return imagecodecs


def _same(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while block := a.read(2**20):
            if block != b.read(2**20):
                return False
    return True
