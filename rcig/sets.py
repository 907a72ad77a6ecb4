"""Distilled sets for those who use them: from a name to arrays, from anywhere."""

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rcig import escape, objects, store
from rcig.errors import StoreError

if TYPE_CHECKING:
    from rcig.whiten import Whitening

FOLDER = "artifacts/distilled"
SILENCE = 5
"""seconds that a remote may say nothing when it is asked, which it is five times"""
_SETTINGS = ("settings", "loop", "size", "width", "chunk", "initialisation", "basis", "boost", "hardness")


class SeedError(StoreError):
    """A seed that the set does not have."""


class DistilledSet(NamedTuple):
    """A distilled set of one seed, and what is known of it."""

    images: np.ndarray
    """float32 (n, h, w, c), whitened as `meta` says: what networks were meant to be trained on"""
    labels: np.ndarray
    """float32 (n, C), centred: 1/C added gives what resembles probabilities"""
    pixels: np.ndarray
    """uint8 (n, h, w, c): the same images without whitening, cut to what pixels can be"""
    meta: dict[str, Any]
    """dataset, class_names, method, settings, seeds, …"""
    whitening: "Whitening | None" = None
    """of the images, where it is at hand: of sets that `rcig.distil` or `rcig.read` has just made, and exports"""


def load(
    name: str | Path, source: str | Path = ".", revision: str | None = None, seed: int | None = None
) -> DistilledSet:
    """A distilled set.

    `name` is that of its experiment, or the path of an .npz file or of what `rcig.export` has written. `source` is the
    repository that holds it: a folder, or the address of a git repository, of which `revision` may name a commit,
    branch or tag. What is not in the folder itself comes from DVC's cache or remote. `seed`: one of meta["seeds"], else
    the first; an export has one set only.

    Raises StoreError for a set that is not there, naming those that are, and for a damaged one.
    """
    for what, given in (("name", name), ("source", source)):
        if not isinstance(given, str | Path):
            raise StoreError(f"load: expected {what} as text, got {given!r}")
    here = str(source) == "." and revision is None
    if Path(name).suffix == ".npz":
        if not here:
            raise StoreError(f"{name}: is the path of a file, which has no source and no revision; leave them out")
        return _read(Path(name), seed)
    if here and os.path.exists(Path(name) / "recipe.json"):
        if seed is not None:
            raise StoreError(f"{name}: an export has one set; leave out the seed")
        from rcig import exported  # which needs JAX

        return exported.read(Path(name))
    local = Path(source) / FOLDER / f"{name}.npz"
    if revision is not None and revision.startswith("-"):
        raise StoreError(f"revision {revision!r}: no name of a commit, branch or tag; give one")
    if revision is None and os.path.exists(local):  # which is False for a name that no file can have
        return _read(local, seed)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{name}.npz"
        copy.write_bytes(_fetch(str(name), str(source), revision))
        try:
            return _read(copy, seed)
        except StoreError as error:
            raise type(error)(str(error).replace(str(copy), f"{FOLDER}/{name}.npz of {source}")) from None


def card(
    distilled: DistilledSet,
    summary: Mapping[str, Any] | None = None,
    picture: str | None = None,
    tested_on: str | None = None,
) -> str:
    """What a set is and how it came about, in Markdown; `summary` is that of stages.distill, `picture` a path."""
    meta, (count, height, width, channels) = distilled.meta, distilled.pixels.shape
    facts = {
        "images": f"{count} of {height} × {width} × {channels}, {meta['images_per_class']} for each of"
        f" {len(meta['class_names'])} classes",
        "seeds": ", ".join(map(str, meta["seeds"])),
    } | {name: f"`{meta[name]}`" for name in ("code", "data") if meta.get(name) is not None}
    if tested_on is not None:
        facts["tested on"] = escape.markdown(tested_on)
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
            " pixels are cut to what 8 bits can hold."
            + (" Code and data are fingerprints: equal ones, equal files." if "code" in facts else ""),
            "",
            "```json",
            json.dumps({name: meta[name] for name in _SETTINGS if name in meta}, indent=2),
            "```",
            "",
        ]
    )


def _read(path: Path, seed: int | None) -> DistilledSet:
    arrays, meta = store.load_distilled(path)
    seeds = meta["seeds"]
    if seed is not None and seed not in seeds:
        raise SeedError(f"{path}: has no seed {seed}; its seeds are {', '.join(map(str, seeds))}")
    position = 0 if seed is None else seeds.index(seed)
    images, labels, pixels = (arrays[part][position] for part in ("images", "labels", "pixels"))
    return DistilledSet(images, labels, pixels, meta)


def _fetch(name: str, source: str, revision: str | None) -> bytes:
    """The file's content by way of DVC."""
    where = f"{source} at {revision}" if revision else source
    try:
        from dvc.api import DVCFileSystem
    except ImportError:
        raise StoreError(
            f"no distilled set {name!r} in {where}, and to fetch it needs DVC: pip install 'rcig[pipeline]'; or give"
            " the path of an .npz file or of an export"
        ) from None
    try:
        with tempfile.TemporaryDirectory() as clone:
            root = source
            if not Path(source).is_dir():
                # DVC reads an address without a work tree, where a remote inside of the repository has no place.
                _clone(source, revision, clone)
                root, revision = clone, None
            files, path = DVCFileSystem(root, rev=revision), f"{FOLDER}/{name}.npz"
            found = files.ls(FOLDER, detail=False) if files.isdir(FOLDER) else []
            known = sorted(Path(other).stem for other in found if other.endswith(".npz"))
            if name not in known:
                raise StoreError(f"no distilled set {name!r} in {where}; it has: {', '.join(known) or 'none'}")
            if "md5" in files.info(path):
                return _object(files.repo, path, Path(root).resolve(), where)
            with files.open(path, "rb") as file:
                return bytes(file.read())
    except StoreError:
        raise
    except Exception as error:  # what clients of remotes raise has no common base
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(
            f"distilled set {name!r} of {where} could not be fetched ({reason}); is the repository right, was the set"
            " pushed to its remote, and can that be reached?"
        ) from None


def _clone(address: str, revision: str | None, folder: str) -> None:
    """Clone a git repository into the folder, and check the revision out. Raises OSError with what git says, and where
    it says nothing, of its progress either, for 5 * SILENCE seconds."""
    commands = [["git", "clone", "--progress", "--", address, folder]]
    if revision:
        commands.append(["git", "-C", folder, "checkout", "--progress", revision, "--"])
    for command in commands:
        said = b""
        with subprocess.Popen(
            command, env=os.environ | {"GIT_TERMINAL_PROMPT": "0"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            while select.select([process.stderr], [], [], 5 * SILENCE)[0]:
                if not (part := os.read(process.stderr.fileno(), 2**16)):
                    break
                said += part
            else:
                process.terminate()
                raise OSError(f"no answer for {5 * SILENCE} seconds")
        if process.returncode:
            lines = said.decode(errors="replace").splitlines()
            raise OSError("\n".join(line for line in lines if not line.endswith("...") and "% (" not in line))


def _object(repo: Any, path: str, root: Path, where: str) -> bytes:
    """The content of a file that DVC tracks in the repository at `root`: of its cache, or else of its remote.

    Raises StoreError where all there is of it is damaged, and what the remote's client raises.
    """
    index = repo.index.data["repo"]
    entry = index[tuple(path.split("/"))]
    storage, damaged = index.storage_map[entry.key], ""
    for place in (storage.cache, storage.remote):
        if place is not None:
            system, at = place.get(entry)
            _give_up_early(system)
            try:
                content = bytes(system.cat_file(at))
            except FileNotFoundError:
                if place is storage.remote and not damaged:
                    raise
                continue
            if objects.is_whole(content, entry.hash_info.value):
                return content
            damaged = system.unstrip_protocol(at) if system.protocol != "local" else at
    if damaged.startswith(f"{root / '.dvc'}/"):
        cure = f"`rm {damaged}` and `dvc pull` in {where}"
    elif damaged.startswith(f"{root}/"):
        damaged = str(Path(damaged).relative_to(root))
        cure = f"{objects.from_git(damaged)} in {where}"
    else:
        cure = "remove it there, and `dvc push` in a clone that has a whole one"
    raise StoreError(f"{damaged}: damaged, its content is not what dvc.lock of {where} names; to mend it: {cure}")


def _give_up_early(system: Any) -> None:
    """Let a remote that never answers be given up in half a minute, where its settings do not say how long it may."""
    patience = {name: SILENCE for name in ("connect_timeout", "read_timeout") if name not in system.config}
    if system.protocol == "s3":
        system.fs_args.setdefault("config_kwargs", {}).update(patience, retries={"total_max_attempts": 1})
    elif system.protocol in ("http", "https"):
        system.fs_args["client_kwargs"].update(patience)
