"""What a stranger needs of a distilled set, in one folder: the arrays, the whitening, a recipe, pictures and a card."""

import csv
import errno
import fcntl
import glob
import hashlib
import io
import json
import math
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rcig import elsewhere, escape, exported, lock, recipes, rows, store, whiten
from rcig.api import Accuracy
from rcig.data import real
from rcig.errors import DataError, ParamsError, StoreError
from rcig.external import spaces
from rcig.fields import check_name, shown
from rcig.methods import saved
from rcig.sets import FOLDER, DistilledSet, card, load
from rcig.store import RANDOM
from rcig.whiten import Whitening

TABLE, CARD = "metadata.csv", "README.md"
COLUMNS = ["file_name", "label", "class_name", "soft_label"]
EVALUATED = Path("results/evaluate")
CHANNELS = 4
"""that a PNG has at most"""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""errors of the system where there is no room"""


def export(
    distilled: DistilledSet | str | Path,
    folder: str | Path,
    accuracy: Accuracy | None = None,
    *,
    seed: int | None = None,
) -> None:
    """Write a set, or that of a name as `rcig.load` takes it, for those who have nothing of this project.

    - set.npz: images float32 (n, h, w, c), whitened as networks are trained on them; labels float32 (n, C), centred;
      pixels uint8 (n, h, w, c).
    - whitening.npz: the whitening of the dataset, the same file for all of its sets. Where it is neither in the set nor
      in this folder, it is left out with a warning.
    - recipe.json: network, training, loss, how to whiten a real image, and the accuracy that is to be expected:
      `accuracy`, of `rcig.judge` by the protocol loo2023, or that of the pipeline's results for a name, where dvc.lock
      says that they are of this set; of an export, what its own recipe says.
    - pytorch.py: does what the recipe says, in PyTorch.
    - one PNG per image; metadata.csv with file_name, label, class_name, soft_label. `label` is the number of the top
      class; `soft_label` holds all C numbers, 1/C added so that a hard label is one-hot, with spaces between; a class
      name that a spreadsheet would take for a formula has a ' before it. `datasets.load_dataset("imagefolder",
      data_dir=folder)` reads it.
    - README.md: the card, which says all this in words.

    `seed`: one of those that the set of a name has, else its first; the export says that one alone.

    An earlier export at `folder` is replaced as a whole. Raises StoreError for a folder with anything else in it, for
    one that was changed since, for that in which the process works, for a file in its place, and for a name like that
    of a file; where the whitening in this folder is not that of the set, and where the disk is full. Raises ParamsError
    for an accuracy by another protocol and for the seed of what is a set already, DataError for images of more channels
    than a PNG has.

    >>> rcig.export("mnist-ipc1-rcig-gpu", "mnist")
    >>> rcig.export(distilled, "mine", rcig.judge(distilled, (test_images, test_labels)))
    """
    if not isinstance(folder, str | Path):
        raise StoreError(f"export: expected folder as text or a Path, got {shown(folder)}")
    if not isinstance(accuracy, Accuracy | None):
        raise ParamsError(f"export: expected accuracy as rcig.judge returns it, got {shown(accuracy)}")
    check(Path(folder))
    if not isinstance(distilled, DistilledSet):
        name, distilled = str(distilled), load(distilled, seed=seed)
        if not is_export(name):  # which is one set, whatever seeds its experiment had
            seeds = distilled.meta["seeds"]
            its = seeds[0 if seed is None else seeds.index(seed)]
            distilled = distilled._replace(meta=distilled.meta | {"seeds": [its]})
        if accuracy is None:
            accuracy = recorded(name, distilled.meta["seeds"][0])
    elif seed is not None:
        raise ParamsError("export: a set has one seed; leave it out")
    if (channels := distilled.pixels.shape[-1]) > CHANNELS:
        raise DataError(
            f"export: images of {channels} channels, a PNG has {CHANNELS} at most; save them by numpy.savez"
        )
    if accuracy is not None and accuracy.protocol != recipes.PROTOCOL:
        raise ParamsError(
            f"export: the recipe is that of {recipes.PROTOCOL}, the accuracy of {accuracy.protocol}; judge by it"
        )
    whitening = whitening_of(distilled)
    if whitening is None:
        dataset = distilled.meta["dataset"]
        warnings.warn(
            f"the whitening of {dataset} is not here and was left out, so nobody can test on real images; run"
            f" `dvc repro preprocess@{dataset}` and export again",
            stacklevel=2,
        )
    _replace(Path(folder), distilled, whitening, recipes.recipe(distilled, whitening, accuracy))


def check(folder: Path) -> None:
    """Raise StoreError unless an export may be written there, see `export`."""
    whole = folder.resolve()
    if re.fullmatch(r"\.[A-Za-z]\w*", folder.suffix):
        raise StoreError(f"{folder}: an export is a folder, whose set.npz every tool reads; name another")
    if Path.cwd().is_relative_to(whole):
        raise StoreError(f"{whole}: is the folder in which this runs, or one above it; name another folder")
    if whole.exists() and not _is_export(whole):
        raise StoreError(f"{whole}: is there and is not an earlier export; name another folder, or remove it")
    above = next(path for path in whole.parents if path.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise StoreError(f"{folder}: {above} is no folder that can be written to; name another folder")


def keep(distilled: DistilledSet, folder: Path) -> Path:
    """Save a set that could not be exported to that folder, without pictures and card, in a new one.

    That lies beside it, or else in the temporary folder; `rcig.load` reads it. Raises StoreError where there is no room
    in either.
    """
    folder, described = folder.resolve(), recipes.recipe(distilled, distilled.whitening, None)
    for place in (folder.parent, Path(tempfile.gettempdir())):
        with suppress(OSError, StoreError), ExitStack() as stack:
            kept = Path(tempfile.mkdtemp(dir=place, prefix=f"{folder.name}-"))
            stack.callback(shutil.rmtree, kept)
            _save_arrays(kept, distilled, distilled.whitening, described)
            stack.pop_all()
            return kept
    raise StoreError(
        f"{folder}: no room for the set beside it, nor in {tempfile.gettempdir()}; make some and run it again"
    )


def recorded(name: str, seed: int) -> Accuracy | None:
    """The accuracy that is known of the set that `rcig.load` finds by that name; None where nothing is.

    Of an export its recipe says it, else this folder's results of the experiment of that name.
    """
    if is_export(name):
        return _expected(Path(name) / exported.RECIPE)
    path = EVALUATED / f"{name}.csv"
    if not is_of_set("evaluate", name, path):
        return None
    table = rows.read([path])
    of_set = (
        (table["protocol"] == recipes.PROTOCOL) & (table["seed"] == seed) & ~table["method"].str.endswith(rows.PART)
    )
    table = table[of_set & (table["metric"] == "accuracy")]
    last = table[table["step"] == table["step"].max()]
    return Accuracy.of(last["value"].to_numpy(), recipes.PROTOCOL, int(last["width"].iloc[0])) if len(last) else None


def is_of_set(stage: str, name: str, result: Path) -> bool:
    """Whether a result in this folder is of the set that `rcig.load` finds by that name.

    So it is where dvc.lock says that the stage has read or made the one with the other.
    """
    path, entries = f"{FOLDER}/{name}.npz", lock.at(Path())
    entry = entries.get(f"{stage}@{name}")
    if entry is None or is_export(name):
        return False
    noted = {one["path"]: one.get("md5") for part in ("deps", "outs") for one in entry.get(part, [])}
    loaded = elsewhere.md5(Path(path)) or lock.made(entries).get(path)  # which is fetched where it is not in the folder
    found = {path: loaded, result.as_posix(): elsewhere.md5(result)}
    return None not in found.values() and found.items() <= noted.items()


def is_export(name: str) -> bool:
    """Whether `rcig.load` finds an export by that name."""
    return os.path.exists(Path(name) / exported.RECIPE)


def _expected(recipe: Path) -> Accuracy | None:
    """The accuracy that a recipe says, which has no single networks."""
    said = store.load_json(recipe).get("expected")
    if said is None:
        return None
    try:
        deviation = math.nan if said["deviation"] is None else float(said["deviation"])
        networks = np.full(said["networks"], math.nan)
        return Accuracy(float(said["accuracy"]), deviation, networks, str(said["protocol"]), int(said["width"]))
    except (KeyError, TypeError, ValueError):
        raise StoreError(f"{recipe}: does not say what accuracy to expect, but {shown(said)}; {exported.FIX}") from None


def whitening_of(distilled: DistilledSet) -> Whitening | None:
    """That of the set, of what its meta says, or of its dataset in this folder; None where there is none.

    Raises StoreError where the folder has another one.
    """
    meta, parts = distilled.meta, {"images": distilled.images[None], "pixels": distilled.pixels[None]}
    if distilled.whitening is not None:
        return distilled.whitening
    if "mean" in meta and "std" in meta:
        with suppress(ValueError, TypeError):  # a set of another kind of whitening, or a meta of anything
            standard = whiten.channels_alone(meta["mean"], meta["std"])
            saved.check_whitening("", parts, meta, standard)
            return standard
    check_name("dataset", meta["dataset"])
    if not (real.DATA / meta["dataset"] / "whitening.npz").exists():
        return None
    own = real.load_whitening(meta["dataset"])
    whitening = spaces.of_set(meta, own, lambda: real.load_split(meta["dataset"], "train")[0].images)
    saved.check_whitening("export", parts, meta, whitening)
    return whitening


def _replace(folder: Path, distilled: DistilledSet, whitening: Whitening | None, described: dict[str, Any]) -> None:
    """Fill a folder beside it and move that to its place. Raises StoreError where the disk is full."""
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _beside(folder) as beside:
            check(folder)  # anew, as the place may have changed since
            whole = beside / "whole"
            whole.mkdir()
            try:
                _fill(whole, distilled, whitening, described)
            except StoreError as error:
                raise StoreError(str(error).replace(str(whole), str(folder))) from None
            if folder.exists():
                folder.rename(beside / "before")
            whole.rename(folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreError(
            f"{folder}: no room to write it ({error.strerror}); make some and run it again, nothing of it was left"
            " behind"
        ) from None


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder to work in, beside `folder` and locked; what those left that were killed is settled before."""
    for abandoned in folder.parent.glob(f".{glob.escape(folder.name)}.{RANDOM}.tmp"):
        with suppress(OSError), _locked(abandoned):
            _settle(abandoned, folder)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    with ExitStack() as stack:
        stack.callback(_settle, beside, folder)
        with suppress(OSError):  # a file system without locks, where nobody takes it for abandoned
            stack.enter_context(_locked(beside))
        yield beside


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises OSError where another process has locked it, or nobody can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _settle(beside: Path, folder: Path) -> None:
    """Remove it; the earlier export goes back to its place where no new one is there."""
    if (beside / "before").exists() and not folder.exists():
        (beside / "before").rename(folder)
    shutil.rmtree(beside)


def _is_export(folder: Path) -> bool:
    """Whether the folder is empty, or holds what `_fill` has written, as it was written, and nothing else."""
    paths = [path for path in folder.iterdir() if path.name != "__pycache__"] if folder.is_dir() else [folder]
    if any(path.is_symlink() or not path.is_file() for path in paths):
        return False
    lines = (folder / CARD).read_bytes().splitlines(keepends=True) if folder / CARD in paths else [b""]
    return not paths or lines[-1:] == [_seal(folder, b"".join(lines[:-1]))]


def _seal(folder: Path, card: bytes) -> bytes:
    """The last line of an export's card, by which one that was changed is known."""
    content = hashlib.sha256(card)
    for path in sorted(folder.iterdir()):
        if path.name not in (CARD, "__pycache__"):
            content.update(os.fsencode(path.name) + path.read_bytes())
    return f"<!-- rcig.export {content.hexdigest()[:16]} -->\n".encode()


def _fill(folder: Path, distilled: DistilledSet, whitening: Whitening | None, described: dict[str, Any]) -> None:
    _save_pictures(folder, distilled)
    _save_arrays(folder, distilled, whitening, described)
    shutil.copyfile(Path(__file__).with_name(exported.SCRIPT), folder / exported.SCRIPT)
    said = f"{card(distilled)}\n{recipes.words(described)}\n".encode()
    (folder / CARD).write_bytes(said + _seal(folder, said))


def _save_arrays(folder: Path, distilled: DistilledSet, whitening: Whitening | None, described: dict[str, Any]) -> None:
    """What `rcig.load` reads of an export."""
    arrays = {name: getattr(distilled, name) for name in ("images", "labels", "pixels")}
    store.save(folder / exported.SET, exported.ARRAYS, **arrays, meta=json.dumps(distilled.meta, sort_keys=True))
    if whitening is not None:
        store.save(folder / exported.WHITENING, exported.HALF, **exported.halved(whitening))
    store.save_json(folder / exported.RECIPE, described)


def _save_pictures(folder: Path, distilled: DistilledSet) -> None:
    """One PNG per image, and their table."""
    classes = distilled.meta["class_names"]
    soft = distilled.labels + 1 / len(classes)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    digits = len(str(len(soft) - 1))
    for i, (pixels, label) in enumerate(zip(distilled.pixels, soft, strict=True)):
        top = int(label.argmax())
        name = f"{i:0{digits}}.png"
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(folder / name)
        class_name = escape.cell(" ".join(classes[top].split()))
        table.writerow([name, top, class_name, " ".join(f"{value:.8g}" for value in label)])
    # The name of a folder may hold bytes that are no text.
    (folder / TABLE).write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")
