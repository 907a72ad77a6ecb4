"""What torch.save has written, read without PyTorch and without running anything of it.

A file of PyTorch is a pickle, which may call any function when it is loaded, beside the raw numbers of its tensors.
This reader knows the functions that make tensors and plain containers, and refuses a file that names any other.
"""

import io
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rcig.errors import ParamsError

MAGIC = 0x1950A86A20F9469CFC6C
"""the first number of a file of PyTorch before 1.6, which is no zip"""
NUMBERS = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}


class Storage(NamedTuple):
    """The numbers that tensors look at, which stay in the file until they are asked for."""

    numbers: str
    """a value of NUMBERS"""
    size: int
    """how many there are"""
    content: Callable[[], bytes]

    def array(self) -> np.ndarray:
        """(size,)"""
        raw, half = self.content(), self.numbers == "bfloat16"
        found = np.frombuffer(raw, "<u2" if half else self.numbers)
        if len(found) < self.size:
            raise ValueError(f"a tensor of {self.size} numbers, of which {len(found)} are there")
        return (found.astype("<u4") << 16).view("<f4") if half else found


class Tensor(NamedTuple):
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<f4" if self.storage.numbers == "bfloat16" else self.storage.numbers)

    def array(self) -> np.ndarray:
        """Its numbers. Raises ValueError where they are not in the file."""
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) and last >= self.storage.size:
            raise ValueError(f"a tensor {self.shape} beyond its {self.storage.size} numbers")
        numbers = self.storage.array()[self.offset :]
        steps = [step * numbers.itemsize for step in self.strides]
        return np.array(np.lib.stride_tricks.as_strided(numbers, self.shape, steps, writeable=False))


def load(path: Path) -> Any:
    """The containers that the file holds, with a Tensor for each of PyTorch's.

    Raises ParamsError for a file that names a function which makes no tensor, and for one that would unpack to more
    than it has bytes; what else is no file of PyTorch raises what pickle, zipfile and struct do.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            return _load_old(path, file)
        with zipfile.ZipFile(file) as archive:
            unpacked, size = sum(member.file_size for member in archive.infolist()), file.seek(0, io.SEEK_END)
            if unpacked > size:
                raise ParamsError(
                    f"its {size} bytes would unpack to {unpacked}; save it by torch.save, which does not pack"
                )
            (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
            folder = name.removesuffix("data.pkl")
            if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
                raise ParamsError("its numbers are in big-endian order; save it on another machine")
            pickled = archive.read(name)

    def content(key: str) -> bytes:
        with zipfile.ZipFile(path) as archive:
            return archive.read(f"{folder}data/{key}")

    return _Unpickler(io.BytesIO(pickled), content).load()


def _load_old(path: Path, file: BinaryIO) -> Any:
    """The content of a file of PyTorch before 1.6: pickles one after the other, then all numbers."""
    places: dict[str, tuple[int, int]] = {}
    sizes: dict[str, int] = {}

    def content(key: str) -> bytes:
        start, size = places[key]
        with path.open("rb") as again:
            again.seek(start)
            return again.read(size)

    def next_pickle() -> Any:
        return _Unpickler(file, content, sizes).load()

    if next_pickle() != MAGIC:
        raise pickle.UnpicklingError("no file of PyTorch")
    next_pickle(), next_pickle()  # the version of the format, and the machine
    whole, keys = next_pickle(), next_pickle()
    place = file.tell()
    for key in keys:
        places[key] = (place + 8, sizes[key])  # after their number
        place += 8 + sizes[key]
    return whole


class _Left:
    """What is in a file and is no part of a set, such as numbers of NumPy that tell accuracies."""

    def __init__(self, *_: Any) -> None: ...


def _left_out(loader: Any) -> None:
    loader.stack.pop()


class _Unpickler(pickle._Unpickler):  # in Python: that in C makes room for as many objects as a file says it has
    dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]} | {
        pickle.BUILD[0]: _left_out
    }
    """Without bytearrays, which take the room that a file says they need, and without what changes a known function."""

    def __init__(self, file: Any, content: Callable[[str], bytes], sizes: dict[str, int] | None = None) -> None:
        super().__init__(file)
        self.content, self.sizes = content, {} if sizes is None else sizes

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in NUMBERS:
            return NUMBERS[name]
        if (module, name) not in _KNOWN:
            raise ParamsError(
                f"it would call {module}.{name} when it is loaded, so nothing of it was; save tensors alone, by torch"
            )
        return _KNOWN[module, name]

    def persistent_load(self, given: Any) -> Storage:
        kind, numbers, key, _, count, *_ = given
        if kind != "storage" or numbers not in NUMBERS.values() or not isinstance(key, str):
            raise pickle.UnpicklingError("a storage of no known kind")
        self.sizes[key] = _natural(count) * (2 if numbers == "bfloat16" else np.dtype(numbers).itemsize)
        return Storage(numbers, count, lambda: self.content(key))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor of no storage")
    return Tensor(storage, _natural(offset), tuple(map(_natural, shape)), tuple(map(_natural, strides)))


def _natural(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 2**63:
        raise pickle.UnpicklingError(f"a size of {number!r:.40}")
    return number


_KNOWN: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): dict,
    **{(f"{numpy}.multiarray", "scalar"): _Left for numpy in ("numpy.core", "numpy._core")},
    ("numpy", "dtype"): _Left,
    ("_codecs", "encode"): _Left,
}
