"""Distilled sets in the formats of other tools; all from the pixels, without whitening.

python -m rcig.export NAME FOLDER       # PNG files and metadata.csv, which Hugging Face datasets opens as it is
python -m rcig.export NAME FILE.pt      # tensors for PyTorch, which must be installed
"""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from rcig import escape
from rcig.errors import StoreError
from rcig.sets import DistilledSet, card, load
from rcig.store import atomic_file, atomic_write


def to_folder(distilled: DistilledSet, folder: Path) -> None:
    """One PNG per image; metadata.csv with file_name, label, class_name, soft_label; README.md, which says what it is.

    `label` is the number of the top class; `soft_label` holds all C numbers, 1/C added so that a hard label is one-hot,
    with spaces between. `datasets.load_dataset("imagefolder", data_dir=folder)` reads it.
    """
    classes = distilled.meta["class_names"]
    soft = distilled.labels + 1 / len(classes)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file_name", "label", "class_name", "soft_label"])
    digits = len(str(len(soft) - 1))
    for i, (pixels, label) in enumerate(zip(distilled.pixels, soft, strict=True)):
        top = int(label.argmax())
        name = f"{i:0{digits}}.png"
        with atomic_file(folder / name) as file:
            Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "png")
        rows.writerow([name, top, escape.cell(classes[top]), " ".join(f"{value:.8g}" for value in label)])
    atomic_write(folder / "metadata.csv", text.getvalue())
    atomic_write(folder / "README.md", card(distilled))


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
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        distilled, target = load(sys.argv[1]), Path(sys.argv[2])
        (to_torch if target.suffix == ".pt" else to_folder)(distilled, target)
    except StoreError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
