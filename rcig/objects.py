"""The objects of DVC in a clone: files that are named by the MD5 of their content, in store/ and in .dvc/cache.

DVC deletes a damaged object from a remote that is a folder, as store/ is, unless the object is read-only, which git
cannot say; and it takes what lies in its cache for whole. So objects are looked after before DVC meets them.
"""

import hashlib
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rcig import lock
from rcig.store import atomic_write

STORE, CACHE = Path("store/files/md5"), Path(".dvc/cache/files/md5")
DIGIT = "[0-9a-f]"
PROTECTED = 0o444
"""the mode of an object that DVC neither compares with its name nor deletes"""


class Care(NamedTuple):
    mended: list[str]
    """a line for each object that was replaced by a whole copy"""
    lost: list[str]
    """a line for each that has no whole copy in the clone, and what brings one"""


def care(root: Path) -> Care:
    """Look after the objects of the clone `root`: all of the store, and those of the cache that its workspace needs.

    One that is damaged, or missing though git has it, is replaced by the whole copy of git or of the other folder, and
    a file of the workspace with the same damage is removed, so that `dvc pull` brings it anew. Objects of the store
    become read-only. A damaged object that has no whole copy stays where it is.
    """
    found = Care([], [])
    files = _files(root)
    tracked = set(_git(root, "ls-files", "-z", STORE.as_posix()).decode().split("\0"))
    stored = {path.parent.name + path.name for path in (root / STORE).glob(f"{2 * DIGIT}/{30 * DIGIT}*")}
    for name in sorted(stored | {name for name in files if _path(STORE, name).as_posix() in tracked}):
        path = _path(STORE, name)
        if not is_whole(_read(root / path), name):
            cure = f"`git checkout COMMIT -- {path}` with a commit that has a whole one"
            copies = {"git": _git(root, "show", f":{path}"), "the cache": _read(root / _path(CACHE, name))}
            _mend(root, path, files.get(name, []), copies, cure, found)
        with suppress(OSError):
            (root / path).chmod(PROTECTED)
    for name in sorted(name for name in files if (root / _path(CACHE, name)).exists()):
        path = _path(CACHE, name)
        if not is_whole(_read(root / path), name):
            cure = "`rm {damaged}; dvc pull`, or `dvc repro` where it was never pushed"
            _mend(root, path, files[name], {"the store": _read(root / _path(STORE, name))}, cure, found)
    return found


def _mend(root: Path, path: Path, files: list[Path], copies: dict[str, bytes], cure: str, found: Care) -> None:
    """Replace an object by the first whole copy; where there is none, leave it and say the cure."""
    name, content = path.parent.name + path.name, _read(root / path)
    damaged = [file for file in files if content and _read(root / file) == content]
    state = "damaged" if (root / path).exists() else "missing"
    what = f"{path} ({', '.join(map(str, files)) or 'of another commit'}): {state}"
    for owner, copy in copies.items():
        if is_whole(copy, name):
            atomic_write(root / path, copy)
            for file in damaged:
                (root / file).unlink()
            found.mended.append(f"{what}; replaced by the whole copy of {owner}")
            return
    cure = cure.format(damaged=" ".join(map(str, [path, *damaged])))
    found.lost.append(f"{what}, and the clone has no whole copy; {cure}")


def _files(root: Path) -> dict[str, list[Path]]:
    """Object -> the files of the workspace whose content it is, as dvc.lock and files *.dvc say."""
    files: dict[str, list[Path]] = {}
    for folder, out in lock.outputs(root):
        if "md5" in out:
            files.setdefault(out["md5"], []).append(folder / out["path"])
    return files


def _path(folder: Path, name: str) -> Path:
    return folder / name[:2] / name[2:]


def _read(path: Path) -> bytes:
    """The content; none of a file that is missing or cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def is_whole(content: bytes, name: str) -> bool:
    """Whether this is the content of the object of that name."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == name.removesuffix(".dir")


def _git(root: Path, *command: str) -> bytes:
    """What git prints; nothing where it fails."""
    return subprocess.run(["git", *command], cwd=root, capture_output=True, check=False).stdout
