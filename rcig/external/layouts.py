"""The files that sets are published in: where images and labels lie in them, and what their authors mean by these.

One function for each layout. None reads an image before its declared shape is known to fit.
"""

import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcig import store
from rcig.errors import Foreseen, ParamsError
from rcig.external import pictures, torch_files
from rcig.external.arrays import Data, Stored
from rcig.external.labels import Kind
from rcig.external.spaces import CONSTANTS, OF_DC, Constants, Input, Space
from rcig.external.torch_files import Tensor

NAMES = (("images", "labels"), ("train_images", "train_labels"), ("image", "label"))
"""of the arrays in an .npz or a dictionary: this project's, MedMNIST's, FRePo's"""
WANTED = (
    "expected an .npz, .pt or .parquet file, a Flax checkpoint, or a folder with images and labels, one of classes, or"
    " one of images_*.pt and labels_*.pt"
)


class Found(NamedTuple):
    """A set as it lies in its files. What is None is for the settings to say, or for the numbers."""

    images: Stored
    """(n, h, w, c), (n, c, h, w) or, of a grey dataset, (n, h, w)"""
    labels: Stored
    """(n,), (n, 1) or (n, C)"""
    space: Space | None = None
    input: Input | None = None
    """what its authors let networks see, where the space is none of that"""
    kind: Kind | None = None
    constants: dict[str, Constants] = CONSTANTS
    learned_rate: float | None = None
    factor: int = 1
    """images of a side that a stored one is decoded to"""
    mirror: bool = False
    """whether its authors train on the mirror images of colour images too"""


def find(path: Path, data: Data, seed: int) -> Found:
    """The set at that path; of several sets in one file that of the number `seed`.

    Raises ParamsError for what is none, without having run or unpacked anything of it.
    """
    try:
        return (_folder if path.is_dir() else _file)(path, data, seed)
    except Foreseen:
        raise
    except OSError as error:
        raise ParamsError(f"{error.strerror or error}; correct the path, or the file") from None
    except Exception as error:  # whatever NumPy, pickle, msgpack or Arrow raise for a file of another kind
        raise ParamsError(f"{WANTED}; this is none ({' '.join(str(error).split())})") from None


def _file(path: Path, data: Data, seed: int) -> Found:
    if path.suffix.lower() == ".npz":
        return npz(path)
    if path.suffix.lower() in (".pt", ".pth"):
        return of_torch(path, seed)
    if path.suffix.lower() == ".parquet":
        return Found(*pictures.of_parquet([path], data), space="bytes")
    if path.name.startswith("checkpoint"):
        return checkpoint(path)
    path.open("rb").close()
    raise ParamsError(f"{WANTED}, got {path.name!r}; save the arrays by numpy.savez")


def _folder(folder: Path, data: Data, seed: int) -> Found:
    files = pictures.natural_order(path for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder))
    here = [path for path in files if path.parent == folder]
    if any(re.fullmatch(r"images.*\.pt", path.name) for path in here):
        return tensors(here)
    if parquet := [path for path in files if path.suffix == ".parquet"]:
        return Found(*pictures.of_parquet(parquet, data), space="bytes")
    for wanted in (r"checkpoint_final", r"checkpoint_[\d.]+"):
        if checkpoints := [path for path in here if re.fullmatch(wanted, path.name)]:
            return checkpoint(checkpoints[-1])  # of the last step
    if several := [path for path in here if path.suffix in (".pt", ".pth", ".npz")]:
        return _file(_only(several), data, seed)
    images, labels, kind = pictures.of_folder(folder, files, data)
    return Found(images, labels, space="bytes", kind=kind)


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def npz(path: Path) -> Found:
    """Arrays by their names: `images` and `labels`, or as MedMNIST and FRePo call them."""
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        pair = _pair(names)
        declared = [store.declared(archive, name) for name in pair]

    def reader(name: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            with zipfile.ZipFile(path) as archive:
                return store.read_array(archive, name)

        return read

    images, labels = (Stored(one.shape, one.dtype, reader(name)) for name, one in zip(pair, declared, strict=True))
    learned = pair == NAMES[2] and images.dtype.kind == "f"
    return _learned_by_kernels(images, labels) if learned else Found(images, labels)


def of_torch(path: Path, seed: int) -> Found:
    """What torch.save has written: a dictionary of images and labels; DC's `data`, a pair for each experiment, which
    DSA, DM and others have too; or the pair of IDC and NCFM, of brightness to be decoded."""
    whole = torch_files.load(path)
    if isinstance(whole, Tensor):
        raise ParamsError("a tensor alone; name the folder with images_*.pt and labels_*.pt")
    if isinstance(whole, dict) and "data" in whole:
        sets = whole["data"]
        if not isinstance(sets, list | tuple):
            raise ParamsError(f"expected a list of sets as data, got {type(sets).__name__}; save images and labels")
        if len(sets) <= seed:
            raise ParamsError(f"it has {len(sets)} sets, counted from 0, got seed {seed}; give one of them")
        images, labels = map(_stored, sets[seed])
        return Found(images, labels, space="mean_std", constants=OF_DC)
    if isinstance(whole, dict):
        images, labels = (_stored(whole[name]) for name in _pair(set(whole)))
        return Found(images, labels)
    images, labels = map(_stored, whole)
    factor = re.search(r"factor([1-9])(?!\d)", str(path))
    return Found(images, labels, "brightness", "mean_std", factor=int(factor[1]) if factor else 1)


def tensors(files: list[Path]) -> Found:
    """MTT's and DATM's tensors, one a file: images_X.pt, labels_X.pt and lr_X.pt or lr.pt, with X `best` or the only
    one. Of labels (n, C) are logits: DATM trains by their softmax."""
    by_name = {path.name: path for path in files}
    names = [path.name for path in files if re.fullmatch(r"images.*\.pt", path.name) and "images_zca_" not in path.name]
    if not names:
        raise ParamsError("images_zca_*.pt are pictures for people, whitening undone; add images_best.pt")
    name = "images_best.pt" if "images_best.pt" in names else _only([by_name[name] for name in names]).name
    end = name.removeprefix("images")
    if f"labels{end}" not in by_name:
        raise ParamsError(f"no labels{end} beside {name}; add it")
    images, labels = (_stored(torch_files.load(by_name[f"{part}{end}"])) for part in ("images", "labels"))
    rates = [by_name[one] for one in (f"lr{end}", "lr.pt") if one in by_name]
    rate = _rate(rates[0]) if rates else None
    return Found(images, labels, kind="logits" if len(labels.shape) == 2 else "classes", learned_rate=rate)


def checkpoint(path: Path) -> Found:
    """A checkpoint of Flax as FRePo and RCIG write it: parameters x_proto and y_proto; RCIG's, which has a temperature
    beside them, is judged by their running average."""
    from flax.serialization import msgpack_restore

    whole = msgpack_restore(path.read_bytes())
    learned = whole["params"]
    chosen = whole["ema_average"] if "log_temp" in learned else learned
    return _learned_by_kernels(*(Stored.of(np.asarray(chosen[name])) for name in ("x_proto", "y_proto")))


def _learned_by_kernels(images: Stored, labels: Stored) -> Found:
    """FRePo's and RCIG's: whitened as here, with constants of four digits."""
    return Found(images, labels, space="ours", kind="centred", mirror=True)


def _pair(names: set[Any]) -> tuple[str, str]:
    for pair in NAMES:
        if set(pair) <= names:
            return pair
    raise ParamsError(
        f"{WANTED}, got {', '.join(sorted(map(str, names))[:10]) or 'nothing'}; save it under the names images and"
        " labels"
    )


def _stored(tensor: Any) -> Stored:
    if not isinstance(tensor, Tensor):
        raise ParamsError(f"expected tensors of images and labels, got {type(tensor).__name__}; save them by torch")
    return Stored(tensor.shape, tensor.dtype, tensor.array)


def _rate(path: Path) -> float:
    stored = _stored(torch_files.load(path))
    rate = float(stored.read().item()) if math.prod(stored.shape) == 1 else math.nan
    if not 0 < rate < math.inf:
        found = f"{rate:g}" if math.prod(stored.shape) == 1 else f"numbers {stored.shape}"
        raise ParamsError(f"{path.name}: expected a positive learning rate, got {found}; correct or remove it")
    return rate


def _only(paths: list[Path]) -> Path:
    if len(paths) != 1:
        names = ", ".join(path.name for path in paths[:5])
        raise ParamsError(f"{len(paths)} files may be the set: {names}; name one, or leave one in the folder")
    return paths[0]
