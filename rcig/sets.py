"""Distilled sets for those who use them: from a name to arrays, from anywhere."""

import contextlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rcig import escape, store
from rcig.errors import StoreError

if TYPE_CHECKING:
    from rcig.whiten import Whitening

FOLDER = "artifacts/distilled"
_SETTINGS = ("settings", "loop", "size", "width", "chunk", "initialisation", "basis", "boost", "hardness")


class DistilledSet(NamedTuple):
    images: np.ndarray
    """float32 (n, h, w, c), whitened as `meta` says: what networks were meant to be trained on"""
    labels: np.ndarray
    """float32 (n, C), centred: 1/C added gives what resembles probabilities"""
    pixels: np.ndarray
    """uint8 (n, h, w, c): the same images without whitening, cut to what pixels can be"""
    meta: dict[str, Any]
    """dataset, class_names, method, settings, seeds, …"""
    whitening: "Whitening | None" = None
    """of the images, where it is at hand: of sets that `rcig.distil` has just made"""


def load(name: str, source: str | Path = ".", revision: str | None = None, seed: int | None = None) -> DistilledSet:
    """A distilled set.

    `name` is that of its experiment, or the path of an .npz file. `source` is the repository that holds it: a folder,
    or the address of a git repository, of which `revision` may name a commit, branch or tag. What is not in the folder
    itself comes from DVC's cache or remote. `seed`: one of meta["seeds"], else the first.

    Raises StoreError for a set that is not there, naming those that are, and for a damaged one.
    """
    if Path(name).suffix == ".npz":
        return _read(Path(name), seed)
    local = Path(source) / FOLDER / f"{name}.npz"
    if revision is None and local.exists():
        return _read(local, seed)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{name}.npz"
        copy.write_bytes(_fetch(name, str(source), revision))
        return _read(copy, seed)


def card(distilled: DistilledSet, summary: Mapping[str, Any] | None = None, picture: str | None = None) -> str:
    """What a set is and how it came about, in Markdown; `summary` is that of stages.distill, `picture` a path."""
    meta, (count, height, width, channels) = distilled.meta, distilled.pixels.shape
    facts = {
        "images": f"{count} of {height} × {width} × {channels}, {meta['images_per_class']} for each of"
        f" {len(meta['class_names'])} classes",
        "seeds": ", ".join(map(str, meta["seeds"])),
    } | {name: f"`{meta[name]}`" for name in ("code", "data") if name in meta}
    if summary is not None:
        held_out = summary["heldout_accuracy"]
        facts |= {
            "revision": f"`{summary['revision']}`",
            "width while distilling": str(summary["width"]),
            "steps": f"{summary['steps']} for each seed, {summary['seconds']:.0f} seconds for all",
            "held-out accuracy": "not measured" if held_out is None else f"{100 * held_out:.1f} %",
            "machine": escape.markdown(summary["machine"]),
            "versions": ", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
        }
    return "\n".join(
        [
            f"# {escape.markdown(meta['dataset'])}, {meta['images_per_class']} per class, distilled by"
            f" {escape.markdown(meta['method'])}",
            "",
            *([f"![the images of the first seed]({picture})", ""] if picture else []),
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in facts.items()),
            "",
            "Networks are meant to be trained on the whitened images and centred soft labels that `rcig.load` returns;"
            " pixels are cut to what 8 bits can hold. Code and data are fingerprints: equal ones, equal files.",
            "",
            "```json",
            json.dumps({name: meta[name] for name in _SETTINGS if name in meta}, indent=2),
            "```",
            "",
        ]
    )


def _read(path: Path, seed: int | None) -> DistilledSet:
    arrays = store.load(path, store.DISTILLED)
    meta = json.loads(str(arrays["meta"]))
    seeds = meta["seeds"]
    if seed is not None and seed not in seeds:
        raise StoreError(f"{path}: has no seed {seed}; its seeds are {', '.join(map(str, seeds))}")
    position = 0 if seed is None else seeds.index(seed)
    images, labels, pixels = (arrays[part][position] for part in ("images", "labels", "pixels"))
    return DistilledSet(images, labels, pixels, meta)


def _fetch(name: str, source: str, revision: str | None) -> bytes:
    """The file's content by way of DVC."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError
    from scmrepo.git import Git

    where = f"{source} at {revision}" if revision else source
    try:
        with tempfile.TemporaryDirectory() as clone:
            if not Path(source).is_dir():
                # DVC reads an address without a work tree, where a remote inside of the repository has no place.
                with contextlib.closing(Git.clone(source, clone)) as git:
                    if revision:
                        git.checkout(git.resolve_rev(revision))
                source, revision = clone, None
            files = DVCFileSystem(source, rev=revision)
            found = files.ls(FOLDER, detail=False) if files.isdir(FOLDER) else []
            known = sorted(Path(path).stem for path in found if path.endswith(".npz"))
            if name not in known:
                raise StoreError(f"no distilled set {name!r} in {where}; it has: {', '.join(known) or 'none'}")
            with files.open(f"{FOLDER}/{name}.npz", "rb") as file:
                return bytes(file.read())
    except (DvcException, SCMError, OSError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(
            f"distilled set {name!r} of {where} could not be fetched ({reason}); is the repository right, was the set"
            " pushed to its remote, and can that be reached?"
        ) from None
