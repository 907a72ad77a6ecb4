"""Packs: stages that run on a machine without DVC, git and network, carried there and back as files.

A pack is a tar of the code of a commit, of what its stages read, in a compact form (rcig.forms), and of pack.json.
There rcig.packed runs the stages and leaves one file of results. What came of a stage is a result as of any other job,
so that the head takes it in by the same rules; or it becomes a released set, where that machine has another
environment.
"""

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from rcig import elsewhere, engines, forms, jobs, packed, store
from rcig.errors import ParamsError, StoreError
from rcig.fields import known

CODE = ("rcig", "stages", "params.yaml", "plan.json", "dvc.yaml", "inputs", "pyproject.toml")
"""what a pack takes from its commit"""
NOT_THERE = ("preprocess", "describe")
"""stages that read what only the head has: benchmarks as they were downloaded"""


def pack(head: jobs.Head, wanted: list[str], into: Path, part: int | None, wheels: list[Path]) -> list[Path]:
    """Write a pack of stages, and of the stale ones that they follow, in files of at most `part` bytes -> the files.

    Raises ParamsError for stages that cannot run there, and the errors of `Head.job`.
    """
    for name in wanted:
        known("stages", "stage", name, head.stages)
    names = {*wanted, *engines.needed(head, wanted)}
    ordered = sorted(names, key=lambda name: (len(head.before(name)), name))
    for name in ordered:
        if name.partition("@")[0] in NOT_THERE:
            raise ParamsError(f"{name}: reads what only this machine has; make it here first: dvc repro {name}")
    for wheel in wheels:
        if wheel.suffix != ".whl" or not wheel.is_file():
            raise ParamsError(f"{wheel}: no wheel; `python -m pip download --no-deps` makes one of a package")
    commit = head.commit(ordered)
    made_there = {path for name in ordered for path in head.stages[name].makes}
    needs = {path: md5 for name in ordered for path, md5 in head.needs(name, made_there).items()}
    stages = {name: _described(head, name, names) for name in ordered}
    with tempfile.TemporaryDirectory(dir=_folder(into)) as scratch:
        folder = Path(scratch)
        tracked = {*jobs.git(head.root, "ls-files", *CODE).splitlines()}
        files: dict[str, dict[str, Any]] = {}
        members: dict[str, Path] = {}
        for path, md5 in needs.items():
            if path in tracked:
                continue
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
        with store.atomic_file(into) as opened, tarfile.open(fileobj=opened, mode="w") as archive:
            _add(archive, str(packed.PACK), json.dumps(content).encode())
            for name, place in members.items():
                archive.add(place, name, recursive=False)
    return [into] if part is None else _split(into, part)


def unpack(head: jobs.Head, file: Path, release: Callable[[Path, Path], None] | None) -> Iterator[str]:
    """Take in a file of results -> a line for each. Checkpoints lie beside those of this clone afterwards.

    With `release`, which is given the file of a set and its folder of results, sets become released ones and nothing
    else is taken in. A result that is refused does not keep the others out; at the end RefusedError names all.
    """
    refused = []
    with tempfile.TemporaryDirectory(dir=_folder(head.root / ".cache" / "jobs" / "x")) as scratch:
        for member, content in _members(file):
            if packed.CHECKPOINT.fullmatch(member):
                if (head.root / member).exists():
                    yield f"{member}: left out, as there is one here; remove that to take this one"
                else:
                    store.atomic_write(head.root / member, content.read())
                    yield f"{member}: kept; the run goes on from it"
                continue
            result = Path(scratch) / "result.tar"
            with result.open("wb") as copy:
                shutil.copyfileobj(content, copy)
            if release is not None:
                yield from _release(head, result, Path(scratch) / "set", release)
                continue
            (taken,) = head.take([result])
            if isinstance(taken, jobs.Taken):
                yield taken.said
            elif isinstance(taken, jobs.RefusedError):
                refused.append(str(taken))
            else:
                raise taken
    if refused:
        raise jobs.RefusedError("; ".join(refused))


def _release(head: jobs.Head, result: Path, folder: Path, release: Callable[[Path, Path], None]) -> Iterator[str]:
    taken = head.extract(result, folder)
    stage, _, name = taken.stage.partition("@")
    if stage == "distill":
        release(folder / f"artifacts/distilled/{name}.npz", folder / "results" / "distill" / name)
    else:
        yield f"{taken.stage}: left out, as no set comes of it; it can be made here"
    shutil.rmtree(folder)


def _described(head: jobs.Head, name: str, there: set[str]) -> dict[str, Any]:
    asked = head.resources_of(name)
    return head.template(name) | {
        "name": name,
        "follows": sorted(head.before(name) & there),
        "resources": {"memory": asked.memory, "gpus": asked.gpus},
    }


def _checkpoints(head: jobs.Head, names: list[str]) -> list[Path]:
    """Of runs that were begun: here, in a clone of another job, or from a pack."""
    runs = {name.partition("@")[2] for name in names if name.startswith("distill@")}
    found = sorted((head.root / packed.CHECKPOINTS).glob("*/*.npz"))
    return [path for path in found if path.parent.name.rpartition("-")[0] in runs]


def _folder(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.parent.resolve()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _members(file: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Names and contents in a file of results. Raises StoreError where it is none, or ends early."""
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise StoreError(f"{file}: {member.name} is no file; this is not what a pack leaves")
                yield member.name, content  # type: ignore[misc]
    except (tarfile.TarError, EOFError) as error:
        raise StoreError(f"{file}: not a whole file of results ({error}); send it again") from None
    except FileNotFoundError:
        raise StoreError(f"{file}: no such file; name the one that `python -m rcig.packed` has left") from None


def _split(file: Path, size: int) -> list[Path]:
    """Files of at most so many bytes in place of one, numbered behind its name."""
    parts: list[Path] = []
    with file.open("rb") as whole:
        while content := whole.read(size):
            parts.append(file.with_name(f"{file.name}.{len(parts):02}"))
            store.atomic_write(parts[-1], content)
    file.unlink()
    number = len(parts)
    while (old := file.with_name(f"{file.name}.{number:02}")).exists():  # of a pack that was larger
        old.unlink()
        number += 1
    return parts
