"""Distilled sets in the formats of other tools; all from the pixels, without whitening.

python -m rcig.export NAME FOLDER       # PNG files and metadata.csv, which Hugging Face datasets opens as it is
python -m rcig.export NAME FILE.pt      # tensors for PyTorch, which must be installed
"""

import csv
import fcntl
import glob
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from rcig import escape
from rcig.errors import Foreseen, StoreError
from rcig.sets import DistilledSet, card, load
from rcig.store import RANDOM, atomic_file

TABLE, CARD = "metadata.csv", "README.md"
COLUMNS = ["file_name", "label", "class_name", "soft_label"]


def to_folder(distilled: DistilledSet, folder: Path) -> None:
    """One PNG per image; metadata.csv with file_name, label, class_name, soft_label; README.md, which says what it is.

    `label` is the number of the top class; `soft_label` holds all C numbers, 1/C added so that a hard label is one-hot,
    with spaces between; a class name that a spreadsheet would take for a formula has a ' before it.
    `datasets.load_dataset("imagefolder", data_dir=folder)` reads it.

    An earlier export at `folder` is replaced as a whole. Raises StoreError for a folder with anything else in it, for
    one that was changed since, for that in which the process works, and for a file in its place.
    """
    folder = folder.resolve()
    if Path.cwd().is_relative_to(folder):
        raise StoreError(f"{folder}: is the folder in which this runs, or one above it; name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _beside(folder) as beside:
        if folder.exists() and not _is_export(folder):
            raise StoreError(f"{folder}: is there and is not an earlier export; name another folder, or remove it")
        whole = beside / "whole"
        whole.mkdir()
        _fill(distilled, whole)
        if folder.exists():
            folder.rename(beside / "before")
        whole.rename(folder)


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
    paths = list(folder.iterdir()) if folder.is_dir() else [folder]
    if any(path.is_symlink() or not path.is_file() for path in paths):
        return False
    lines = (folder / CARD).read_bytes().splitlines(keepends=True) if folder / CARD in paths else [b""]
    return not paths or lines[-1:] == [_seal(folder, b"".join(lines[:-1]))]


def _seal(folder: Path, card: bytes) -> bytes:
    """The last line of an export's card, by which one that was changed is known."""
    content = hashlib.sha256(card)
    for path in sorted(folder.iterdir()):
        if path.name != CARD:
            content.update(os.fsencode(path.name) + path.read_bytes())
    return f"<!-- rcig.export {content.hexdigest()[:16]} -->\n".encode()


def _fill(distilled: DistilledSet, folder: Path) -> None:
    classes = distilled.meta["class_names"]
    soft = distilled.labels + 1 / len(classes)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    digits = len(str(len(soft) - 1))
    for i, (pixels, label) in enumerate(zip(distilled.pixels, soft, strict=True)):
        top = int(label.argmax())
        name = f"{i:0{digits}}.png"
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(folder / name)
        class_name = escape.cell(" ".join(classes[top].split()))
        rows.writerow([name, top, class_name, " ".join(f"{value:.8g}" for value in label)])
    (folder / TABLE).write_text(text.getvalue(), encoding="utf-8")
    said = f"{card(distilled)}\n".encode()
    (folder / CARD).write_bytes(said + _seal(folder, said))


def to_torch(distilled: DistilledSet, path: Path) -> None:
    """A dictionary for `torch.load`: images float32 (n, c, h, w) from 0 to 1, labels float32 (n, C), and meta.

    Labels have 1/C added, so that a hard label is one-hot. Raises StoreError where PyTorch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise StoreError(f"{path}: writing it needs PyTorch; install torch, or export to a folder") from None
    content = {
        "images": torch.from_numpy(np.ascontiguousarray(distilled.pixels.transpose(0, 3, 1, 2), np.float32) / 255),
        "labels": torch.from_numpy(distilled.labels + np.float32(1 / distilled.labels.shape[1])),
        "meta": json.dumps(distilled.meta),
    }
    with atomic_file(path) as file:
        torch.save(content, file)


def main() -> None:
    arguments = sys.argv[1:]
    if "--help" in arguments:
        print(__doc__)
        return
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    name, target = arguments[0], Path(arguments[1])
    try:
        write = _writer(target)
        write(load(name), target)
    except Foreseen as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {target}: could not be written ({error.strerror or error}); name another place")


def _writer(target: Path) -> Callable[[DistilledSet, Path], None]:
    """What writes the kind of file or folder that the name asks for. Raises StoreError for a name of another kind."""
    if target.suffix == ".pt" and not target.is_dir():
        return to_torch
    if re.fullmatch(r"\.[A-Za-z]\w*", target.suffix):
        raise StoreError(f"{target}: an export is a folder, or a file that ends in .pt and is no folder; name another")
    return to_folder


if __name__ == "__main__":
    main()
