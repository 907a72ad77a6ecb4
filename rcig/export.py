"""Distilled sets in the formats of other tools; all from the pixels, without whitening.

python -m rcig.export NAME FOLDER       # PNG files and metadata.csv, which Hugging Face datasets opens as it is
python -m rcig.export NAME FILE.pt      # tensors for PyTorch, which must be installed
"""

import csv
import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from rcig import escape
from rcig.errors import Foreseen, StoreError
from rcig.sets import DistilledSet, card, load
from rcig.store import atomic_file

TABLE, CARD = "metadata.csv", "README.md"
COLUMNS = ["file_name", "label", "class_name", "soft_label"]


def to_folder(distilled: DistilledSet, folder: Path) -> None:
    """One PNG per image; metadata.csv with file_name, label, class_name, soft_label; README.md, which says what it is.

    `label` is the number of the top class; `soft_label` holds all C numbers, 1/C added so that a hard label is one-hot,
    with spaces between; a class name that a spreadsheet would take for a formula has a ' before it.
    `datasets.load_dataset("imagefolder", data_dir=folder)` reads it.

    An earlier export at `folder` is replaced as a whole. Raises StoreError for a folder with anything else in it, and
    for a file in its place.
    """
    folder = folder.resolve()
    if folder.exists() and not _is_export(folder):
        raise StoreError(f"{folder}: is there and is not an earlier export; name another folder, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp") as beside:
        whole, before = Path(beside) / "whole", Path(beside) / "before"
        whole.mkdir()
        _fill(distilled, whole)
        if folder.exists():
            folder.rename(before)
        whole.rename(folder)


def _is_export(folder: Path) -> bool:
    """Whether the folder is empty, or holds what `_fill` writes and nothing else."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    others = {name for name in names if not (name.endswith(".png") and name.removesuffix(".png").isdecimal())}
    return not names or (
        others == {TABLE, CARD} and (folder / TABLE).read_bytes().startswith(",".join(COLUMNS).encode() + b"\n")
    )


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
    (folder / CARD).write_text(card(distilled), encoding="utf-8")


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
    if target.suffix in (".npz", ".pt", ".pth", ".png", ".zip"):
        raise StoreError(f"{target}: an export is a folder, or a file that ends in .pt and is no folder; name another")
    return to_folder


if __name__ == "__main__":
    main()
