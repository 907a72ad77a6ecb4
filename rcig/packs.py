"""Packs: stages that run on a machine without DVC, git and network, carried there and back as files.

A pack is a tar of the code of a commit, of what its stages read, in a compact form (rcig.forms), and of pack.json.
There rcig.packed runs the stages and leaves one file of results. What came of a stage is a result as of any other job,
so that the head takes it in by the same rules; or it becomes a released set, where that machine has another
environment.
"""

import glob
import itertools
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rcig import elsewhere, engines, forms, jobs, packed, store
from rcig.errors import Foreseen, ParamsError, StoreError
from rcig.fields import known

CODE = ("rcig", "stages", "params.yaml", "plan.json", "dvc.yaml", "inputs", "pyproject.toml")
"""what a pack takes from its commit"""
Release = Callable[[Path, Path], None]
"""makes a released set of the file of a set and of its folder of results"""
DIGITS = 2
"""of the number of a part, at least"""
NOT_THERE = ("preprocess", "describe")
"""stages that read what only the head has: benchmarks as they were downloaded"""


def pack(head: jobs.Head, wanted: list[str], into: Path, part: int | None, wheels: list[Path]) -> list[Path]:
    """Write a pack of stages, and of the stale ones that they follow, in files of at most `part` bytes -> the files.

    Stages that follow none of each other start in the order in which they are wanted.

    Parts of an earlier pack of that name give way. Raises ParamsError for stages that cannot run there, StoreError for
    a file that one would take for a part, and the errors of `Head.job`.
    """
    for name in wanted:
        known("stages", "stage", name, head.stages)
    names = {*wanted, *engines.needed(head, wanted)}
    asked = {name: place for place, name in enumerate(wanted)}
    ordered = sorted(names, key=lambda name: (len(head.before(name)), asked.get(name, -1), name))
    for name in ordered:
        if name.partition("@")[0] in NOT_THERE:
            raise ParamsError(f"{name}: reads what only this machine has; make it here first: dvc repro {name}")
    for wheel in wheels:
        if wheel.suffix != ".whl" or not wheel.is_file():
            raise ParamsError(f"{wheel}: no wheel; `python -m pip download --no-deps` makes one of a package")
    earlier = set() if part is None else _parts(into)
    commit = head.commit(ordered)
    made_there = {path for name in ordered for path in head.stages[name].makes}
    needs = {path: md5 for name in ordered for path, md5 in head.needs(name, made_there).items()}
    stages = {name: _described(head, name, names) for name in ordered}
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        folder = Path(scratch)
        # Not links to folders: what they lead to is read by stages of the head alone.
        committed = jobs.git(head.root, "ls-files", "-z", *CODE).split("\0")
        tracked = {name for name in committed if name and (head.root / name).is_file()}
        files: dict[str, dict[str, Any]] = {}
        members: dict[str, Path] = {}
        for path, md5 in needs.items():
            if path in tracked:
                continue
            if elsewhere.md5(head.root / path) != md5:
                raise Foreseen(f"{path}: is not what dvc.lock says; `dvc checkout {path}`, or `dvc repro` its stage")
            reduced = members[str(packed.DATA / md5)] = folder / md5
            form = forms.reduce(head.root / path, reduced)
            files[path] = {"md5": md5, "size": (head.root / path).stat().st_size, "form": form}
        members |= {str(packed.DATA / wheel.name): wheel for wheel in wheels}
        members |= {name: head.root / name for name in sorted(tracked)}
        members |= {f"{packed.DATA}/{one.relative_to(head.root)}": one for one in _checkpoints(head, ordered)}
        content = {
            "commit": commit,
            "stages": stages,
            "files": files,
            "packed": {name: elsewhere.md5(path) for name, path in members.items()},
        }
        with store.atomic_file(into) as opened, tarfile.open(fileobj=opened, mode="w", dereference=True) as archive:
            elsewhere.add(archive, str(packed.PACK), json.dumps(content).encode())
            for name, place in members.items():
                archive.add(place, name, recursive=False)
    if part is None:
        return [into]
    made = _split(into, part)
    for old in earlier.difference(made):
        old.unlink()
    return made


def unpack(head: jobs.Head, files: Iterable[Path], release: Release | None) -> Iterator[str]:
    """Take in files of results -> a line for each. Checkpoints lie beside those of this clone afterwards.

    With `release` sets become released ones, and nothing else is taken in. What is refused or damaged does not keep out
    the rest; at the end Foreseen names all of it.
    """
    wrong = []
    for file in files:
        try:
            with _opened(file) as (archive, begun):
                for member in archive.getmembers()[1:]:
                    try:
                        yield from _taken(head, file, archive, member, begun, release)
                    except Foreseen as error:
                        wrong.append(str(error))
        except Foreseen as error:
            wrong.append(str(error))
    if wrong:
        raise Foreseen("; ".join(wrong))


@contextmanager
def _opened(file: Path) -> Iterator[tuple[tarfile.TarFile, Mapping[str, str]]]:
    """The archive in a file of results, and the checkpoints that its pack had brought, with their md5.

    Raises StoreError where it is none or not whole, before anything of it is taken in.
    """
    try:
        with tarfile.open(file) as archive:
            first, *members = archive.getmembers()
            content = archive.extractfile(first) if first.name == packed.CONTENT else None
            if content is None:
                raise StoreError(f"{file}: not what a pack leaves; name the file that `python -m rcig.packed` has left")
            said = json.load(content)
            if said["members"] != {one.name: one.size for one in members} or not all(one.isreg() for one in members):
                raise EOFError("other members than it says")
            if any(one.offset_data + one.size > file.stat().st_size for one in members):
                raise EOFError("it ends early")
            yield archive, dict(said["begun"])
    except FileNotFoundError:
        raise StoreError(f"{file}: no such file; name the one that `python -m rcig.packed` has left") from None
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{file}: not a whole file of results ({error}); send it again") from None


def _taken(
    head: jobs.Head,
    file: Path,
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    begun: Mapping[str, str],
    release: Release | None,
) -> Iterator[str]:
    if packed.CHECKPOINT.fullmatch(member.name):
        here = elsewhere.md5(head.root / member.name)
        if here in (None, begun.get(member.name)):  # where that one went on from
            content: Any = archive.extractfile(member)
            store.atomic_write(head.root / member.name, content.read())
            yield f"{member.name}: kept; the run goes on from it"
        else:
            yield f"{member.name}: left out, as there is another one here; remove that to take this one"
        return
    with _copied(head, file, archive, member) as result:
        if release is not None:
            yield from _released(head, result, release)
            return
        (taken,) = head.take([result])
        if isinstance(taken, Foreseen):
            raise taken
        yield taken.said


@contextmanager
def _copied(head: jobs.Head, file: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[Path]:
    """A member in a scratch folder of its own. What is foreseen of it there names the file that it came in."""
    clones = head.root / engines.CLONES
    clones.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=clones) as scratch:
        result, content = Path(scratch) / "result.tar", archive.extractfile(member)
        with result.open("wb") as copy:
            shutil.copyfileobj(content, copy)  # type: ignore[arg-type]
        try:
            yield result
        except Foreseen as error:
            given = f"{file}: {member.name}"
            raise Foreseen(str(error).replace(str(result), given).replace(scratch, given)) from None


def _released(head: jobs.Head, result: Path, release: Release) -> Iterator[str]:
    folder = result.parent
    taken = head.extract(result, folder)
    stage, _, name = taken.stage.partition("@")
    if stage == "distill":
        release(folder / f"artifacts/distilled/{name}.npz", folder / "results" / "distill" / name)
    else:
        yield f"{taken.stage}: left out, as no set comes of it; it can be made here"


def _described(head: jobs.Head, name: str, there: set[str]) -> dict[str, Any]:
    asked = head.resources_of(name)
    return head.template(name) | {
        "name": name,
        "follows": sorted(head.before(name) & there),
        "resources": {"memory": asked.memory, "gpus": asked.gpus},
    }


def _checkpoints(head: jobs.Head, names: list[str]) -> list[Path]:
    """Of runs that were begun: here, in a clone of another job, or from a pack."""
    found = sorted((head.root / packed.CHECKPOINTS).glob("*/*.npz"))
    return [path for path in found if any(packed.is_of(path, name) for name in names)]


def _parts(file: Path) -> set[Path]:
    """The parts of a pack of that name that are there: numbered from 0 on, in as many digits.

    Raises StoreError for a file with another number.
    """
    numbered = {one for one in file.parent.glob(f"{glob.escape(file.name)}.*") if one.suffix[1:].isdecimal()}
    found: set[Path] = set()
    for digits in {width for one in numbered if (width := len(one.suffix) - 1) >= DIGITS}:
        run = (file.with_name(f"{file.name}.{number:0{digits}}") for number in itertools.count())
        found.update(itertools.takewhile(numbered.__contains__, run))
    if other := sorted(numbered - found):
        raise StoreError(f"{other[0]}: no part of a pack, and `cat {file.name}.*` would read it as one; move it away")
    return found


def _split(file: Path, size: int) -> list[Path]:
    """Files of at most so many bytes in place of one, numbered behind its name, in the order of their names."""
    digits = max(DIGITS, len(str(-(-file.stat().st_size // size) - 1)))
    parts: list[Path] = []
    with file.open("rb") as whole:
        while content := whole.read(size):
            parts.append(file.with_name(f"{file.name}.{len(parts):0{digits}}"))
            store.atomic_write(parts[-1], content)
    file.unlink()
    return parts
