"""The objects of DVC in a clone: files that are named by the MD5 of their content, in store/ and in .dvc/cache.

DVC deletes a damaged object from a remote that is a folder, as store/ is, unless the object is read-only, which git
cannot say; and it takes what lies in its cache for whole. So objects are looked after before DVC meets them.
"""

import filecmp
import io
import json
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rcig import elsewhere, lock
from rcig.errors import StoreError, of_path
from rcig.store import atomic_write

STORE, CACHE = Path("store/files/md5"), Path(".dvc/cache/files/md5")
NAME = re.compile(r"[0-9a-f]{32}(\.dir)?")
PROTECTED = 0o444
"""the mode of an object that DVC neither compares with its name nor deletes"""
SEEN = Path(".dvc/tmp/whole.json")
"""which files were whole, so that one that has not changed since is not read again"""


class Care(NamedTuple):
    mended: list[str]
    """a line for each object that was replaced by a whole copy"""
    lost: list[str]
    """a line for each that has no whole copy in the clone, and what brings one"""


def care(root: Path) -> Care:
    """Look after the objects of the clone `root`: all of the store, and those of the cache that its workspace needs.

    One that is damaged, or missing though git has it, is replaced by the whole copy of git or of the other folder, and
    a file of the workspace with the same damage is removed, so that `dvc pull` brings it anew. Objects of the store
    become read-only. A damaged one of the store that has no whole copy stays where it is; one of the cache, which DVC
    would put in place and push, is renamed to NAME.damaged.
    """
    found, files = Care([], []), _files(root)
    stored = {name for path in (root / STORE).glob("??/*") if NAME.fullmatch(name := path.parent.name + path.name)}
    for name in stored:
        _protect(root / _path(STORE, name))
    tracked = set(_git(root, "ls-files", "-z", STORE.as_posix()).decode().split("\0"))
    missing = {name for name in files if _path(STORE, name).as_posix() in tracked}
    cached = {name for name in files if (root / _path(CACHE, name)).exists()}
    seen: dict[str, list[int]] = _load(root / SEEN)
    now: dict[str, list[int]] = {}
    for folder, names in ((STORE, stored | missing), (CACHE, cached)):
        for name in sorted(names):
            path = _path(folder, name)
            try:
                mark = _mark(root / path)
                if seen.get(str(path)) == mark or _has_whole(root / path, name):
                    now[str(path)] = mark
                else:
                    _mend(root, path, files.get(name, []), found)
            except (OSError, StoreError) as error:
                found.lost.append(of_path(error) if isinstance(error, OSError) else str(error))
    if now != seen and (root / SEEN).parent.is_dir():
        with suppress(OSError, StoreError):
            atomic_write(root / SEEN, json.dumps(now))
    return found


def from_git(path: str | Path) -> str:
    """What brings a damaged object of the store back."""
    return f"`git checkout COMMIT -- {path}` with a commit that has a whole one"


def _mend(root: Path, path: Path, files: list[Path], found: Care) -> None:
    """Replace an object by the first whole copy; where there is none, say what brings one."""
    name, place = path.parent.name + path.name, root / path
    damaged = [file for file in files if _equal(root / file, place)]
    state = "damaged" if place.exists() else "missing"
    what = f"{path} ({', '.join(map(str, files)) or 'of another commit'}): {state}"
    owner, copy = next(((owner, copy) for owner, copy in _copies(root, path) if is_whole(copy, name)), ("", b""))
    if owner:
        atomic_write(place, copy)
        found.mended.append(f"{what}; replaced by the whole copy of {owner}")
    elif path.is_relative_to(CACHE):
        place.rename(place.with_name(f"{place.name}.damaged"))
        cure = f"it is {place.name}.damaged now; `dvc pull` brings one, or `dvc repro` where it was never pushed"
        found.lost.append(f"{what}, and the clone has no whole copy; {cure}")
    else:
        found.lost.append(f"{what}, and the clone has no whole copy; {from_git(path)}")
        return
    if path.is_relative_to(STORE):
        _protect(place)
    for file in damaged:
        (root / file).unlink()


def _copies(root: Path, path: Path) -> Iterator[tuple[str, bytes]]:
    """Owner and content, of the other copies of an object that the clone may have."""
    if path.is_relative_to(STORE):
        yield "git", _git(root, "show", f":./{path}")
        yield "the cache", _read(root / CACHE / path.relative_to(STORE))
    else:
        yield "the store", _read(root / STORE / path.relative_to(CACHE))


def _files(root: Path) -> dict[str, list[Path]]:
    """Object -> the files of the workspace whose content it is, as dvc.lock and files *.dvc say."""
    files: dict[str, list[Path]] = {}
    for path, name in lock.outputs(root).items():
        if NAME.fullmatch(name):
            files.setdefault(name, []).append(Path(path))
    return files


def _path(folder: Path, name: str) -> Path:
    return folder / name[:2] / name[2:]


def _protect(path: Path) -> None:
    with suppress(OSError):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and stat.S_IMODE(mode) != PROTECTED:
            path.chmod(PROTECTED)


def _mark(path: Path) -> list[int]:
    """What is another after any change of the file."""
    try:
        now = path.stat()
    except OSError:
        return []
    return [now.st_size, now.st_ctime_ns, now.st_ino]


def _load(path: Path) -> dict[str, list[int]]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read(path: Path) -> bytes:
    """The content; none of a file that is missing or cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _equal(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _has_whole(path: Path, name: str) -> bool:
    """Whether this file can be read and holds the object of that name."""
    try:
        with path.open("rb") as file:
            return elsewhere.md5_of(file) == name.removesuffix(".dir")
    except OSError:
        return False


def is_whole(content: bytes, name: str) -> bool:
    """Whether this is the content of the object of that name."""
    return elsewhere.md5_of(io.BytesIO(content)) == name.removesuffix(".dir")


def _git(root: Path, *command: str) -> bytes:
    """What git prints; nothing where it fails, or is not there."""
    try:
        return subprocess.run(["git", *command], cwd=root, capture_output=True, check=False).stdout
    except OSError:
        return b""
