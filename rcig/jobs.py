"""Jobs: stages of the pipeline that run in other clones, whose results the clone that asked for them takes in.

The clone that asks is the head: its files, plan.json and dvc.lock are the only truth. A job is a stage at a commit. It
runs by `dvc repro --single-item` in a clone of its own, on the files that the head has, and its result is one file: the
outputs, and the entry of dvc.lock that DVC wrote there. The head takes a result in only where every hash in that entry
is its own. So a result that is late, of other settings or of other code is refused, and nothing is merged by git.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from dvc.fs import localfs
from dvc.repo import Repo

from rcig import lock, planned, store
from rcig.errors import Foreseen, ParamsError, StoreError

CODE = ("rcig", "stages", "params.yaml", "plan.json", "dvc.yaml", "inputs", "released")
"""what a job takes from its commit, and what must therefore be committed"""
AT_HEAD = ("plan", "report")
"""stages that are no jobs: they take seconds and read everything"""
HEADER, LARGEST = "job.json", 2**24
"""first member of a result, and how large it may be"""


class RefusedError(Foreseen, ValueError):
    """A result that is not what the head asked for: whose, what differs, why that may be."""


class Job(NamedTuple):
    """What is to run."""

    stage: str
    """as dvc.lock calls it: distill@NAME"""
    commit: str
    needs: Mapping[str, str]
    """path -> md5, of every file that the stage reads and git does not bring"""


Fetch = Callable[[str], BinaryIO]
"""path -> the file that the head has there, opened"""


class Stage(NamedTuple):
    """A node of DVC's graph."""

    command: str
    reads: frozenset[str]
    makes: Mapping[str, bool]
    """path -> whether DVC caches it"""


class Head:
    """A clone whose stages are to be made."""

    def __init__(self, root: Path = Path()) -> None:
        self.root = root.resolve()
        self.repo = Repo(str(self.root), _wait_for_lock=True)
        self.stages = {
            str(stage.name): Stage(
                str(stage.cmd),
                frozenset(_path(dep) for dep in stage.deps if dep.def_path != str(planned.PLAN)),
                {_path(out): bool(out.use_cache) for out in stage.outs},
            )
            for stage in self.repo.index.stages
            if stage.cmd
        }
        self._makers = {path: name for name, one in self.stages.items() for path in one.makes}

    def stale(self) -> list[str]:
        """The stages whose entry of dvc.lock does not fit the plan and what is here.

        Those that follow from them may turn out stale when they are made.
        """
        return [name for name in lock.outdated(self._plan(), self.root) if name in self.stages]

    def before(self, name: str) -> set[str]:
        """All stages that a stage follows."""
        found: set[str] = set()
        todo = [name]
        while todo:
            reads = self.stages[todo.pop()].reads
            direct = {self._makers[path] for path in reads if path in self._makers} - found
            found |= direct
            todo += direct
        return found

    def job(self, stage: str) -> Job:
        """What a stage needs to run elsewhere.

        Raises ParamsError for a stage that is none or no job, and Foreseen for what is not committed or not here.
        """
        if stage not in self.stages or stage in AT_HEAD:
            raise ParamsError(f"{stage!r}: no stage that runs elsewhere; `python -m stages.cluster --list` names all")
        if changed := _git(self.root, "status", "--porcelain", "--", *CODE):
            which = ", ".join(line[3:] for line in changed.splitlines()[:3])
            raise Foreseen(f"{which}: not committed, and other clones get what is committed; commit first")
        made, reads = lock.made(lock.at(self.root)), self.stages[stage].reads
        known = {path: made.get(path) or _md5(self.root / path) for path in sorted(reads)}
        found = {path: md5 for path, md5 in known.items() if md5 is not None and (self.root / path).is_file()}
        if missing := sorted(known.keys() - found.keys()):
            raise Foreseen(f"{missing[0]}: {stage} needs it and it is not here; `dvc pull`, or `dvc repro` its stage")
        return Job(stage, _git(self.root, "rev-parse", "HEAD"), found)

    def bundle(self) -> bytes:
        """The repository, with the history of what is checked out, as git clones it from a file."""
        with tempfile.TemporaryDirectory() as folder:
            _git(self.root, "bundle", "create", "--quiet", f"{folder}/head", "HEAD")
            return (Path(folder) / "head").read_bytes()

    def take(self, file: Path) -> str:
        """Take in the result in a file -> a line that says of what stage, and what was done.

        All outputs are written before the entry is, each whole or not at all, under the lock of DVC. Raises
        RefusedError for the result of something else than what is planned here, and StoreError for a damaged one.
        """
        with tarfile.open(file) if file.is_file() and tarfile.is_tarfile(file) else _no_result(file) as archive:
            header = _header(file, archive)
            name, entry = header["stage"], header["entry"]
            with self.repo.lock:
                entries = lock.at(self.root)
                if entries.get(name) == entry:
                    return f"{name}: taken in before"
                here = self._here(name)
                self._check(name, entry, entries, here)
                mine = entries.get(name)
                if mine is not None and not lock.misfits(mine, entries, here):
                    return f"{name}: made before by another run, whose result stays"
                self._write(file, archive, name, entry)
                merged = {**entries, name: entry}
                store.atomic_write(self.root / lock.LOCK, lock.written(merged))
        return f"{name}: taken in, {header['seconds']:.0f} seconds on {header['machine']}"

    def _here(self, name: str) -> lock.Here:
        """What a stage's entry is to fit: of what other stages make, their entries say the content."""
        if name not in self.stages:
            raise RefusedError(f"{name}: refused, as no such stage is planned here; it was renamed or removed")
        unmade = self.stages[name].reads - self._makers.keys()
        return lock.Here({path: _md5(self.root / path) for path in unmade}, self._plan())

    def _check(self, name: str, entry: lock.Entry, entries: lock.Entries, here: lock.Here) -> None:
        stage = self.stages[name]
        outs = {out["path"] for out in entry["outs"]}
        if outs != set(stage.makes) or entry.get("cmd") != stage.command:
            raise RefusedError(f"{name}: refused, as dvc.yaml has other outputs or another command; it was changed")
        if other := lock.misfits(entry, entries, here):
            settings = [one for one in other if one.startswith("stages.")]
            why = "settings or code were changed since" if settings else "what it reads was made anew since"
            raise RefusedError(f"{name}: refused, made of another {', '.join(other)}; {why}, so let it run again")

    def _write(self, file: Path, archive: tarfile.TarFile, name: str, entry: lock.Entry) -> None:
        md5s = {out["path"]: out["md5"] for out in entry["outs"]}
        with ExitStack() as all_or_none:
            for path, md5 in md5s.items():
                into = all_or_none.enter_context(store.atomic_file(self.root / path))
                content: Any = archive.extractfile(path)
                if lock.md5_of(content) != md5:
                    raise StoreError(f"{file}: {path} is not what its entry says; the file is damaged, send it again")
                content.seek(0)
                shutil.copyfileobj(content, into)
        for path, cached in self.stages[name].makes.items():
            if cached:
                self.repo.cache.local.add(str(self.root / path), localfs, md5s[path])

    def _plan(self) -> dict[str, Any]:
        return dict(json.loads((self.root / planned.PLAN).read_bytes()))


def perform(job: Job, source: str, fetch: Fetch, clone: Path, result: Path) -> None:
    """Run a job in a clone of `source`, what git can clone: a path, an address, a bundle. It is made or brought up.

    What the stage needs and the clone has not is fetched. Writes the result; a killed run leaves its checkpoints
    beside the clone, where the next one goes on. Raises Foreseen with the end of the log where the stage fails.
    """
    start = time.time()
    _bring(clone, source, job.commit)
    for path, md5 in job.needs.items():
        if _md5(clone / path) != md5:
            with store.atomic_file(clone / path) as into, fetch(path) as origin:
                shutil.copyfileobj(origin, into)
            if _md5(clone / path) != md5:
                raise Foreseen(f"{path}: has changed since {job.stage} was asked for; ask again")
    entries = lock.at(clone)
    entries.pop(job.stage, None)
    store.atomic_write(clone / lock.LOCK, lock.written(entries))
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", job.stage]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["DVC_NO_ANALYTICS"] = "1"
    log = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    said = log.stdout + log.stderr
    if log.returncode:
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        raise Foreseen(f"{job.stage}: failed in {clone}: {' '.join(errors[-1:] or said.split()[-40:])}")
    entry = lock.at(clone)[job.stage]
    header = {
        "stage": job.stage,
        "commit": job.commit,
        "entry": entry,
        "seconds": time.time() - start,
        "machine": os.uname().nodename,
        "log": said[-LARGEST // 4 :],
    }
    with store.atomic_file(result) as into, tarfile.open(fileobj=into, mode="w") as archive:
        content = json.dumps(header).encode()
        member = tarfile.TarInfo(HEADER)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        for out in entry["outs"]:
            archive.add(clone / out["path"], out["path"], recursive=False)


def _bring(clone: Path, source: str, commit: str) -> None:
    """A clone at a commit. What is ignored by git there stays: raw arrays, checkpoints, DVC's cache."""
    if not (clone / ".git").exists():
        clone.parent.mkdir(parents=True, exist_ok=True)
        _git(clone.parent, "clone", "--quiet", "--no-checkout", source, str(clone.resolve()))
    elif _git(clone, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", fails=True) != commit:
        _git(clone, "fetch", "--quiet", source, "HEAD")
    _git(clone, "checkout", "--quiet", "--force", "--detach", commit)
    shared, link = clone.parent.resolve() / "checkpoints", clone / ".checkpoints"
    shared.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(shared)  # as the job that goes on may be in another clone


def _git(folder: Path, *arguments: str, fails: bool = False) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    if done.returncode and not fails:
        raise Foreseen(f"`git {' '.join(arguments[:2])}` in {folder}: {' '.join(done.stderr.split())}")
    return done.stdout.rstrip()


def _path(item: Any) -> str:
    return PurePosixPath(item.def_path).as_posix()


def _md5(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return lock.md5_of(file)


def _no_result(file: Path) -> Any:
    what = "no file of a result" if file.exists() else "no such file"
    raise StoreError(f"{file}: {what}; name what `python -m stages.cluster --one STAGE --return FILE` has written")


def _header(file: Path, archive: tarfile.TarFile) -> dict[str, Any]:
    """The head of a result, whose members are the outputs of its entry and nothing else."""
    try:
        first, *members = archive.getmembers()
        opened = archive.extractfile(first)
        if first.name != HEADER or first.size > LARGEST or opened is None:
            raise ValueError(f"begins with {first.name}")
        header: dict[str, Any] = json.loads(opened.read())
        outs = [(out["path"], out["size"]) for out in header["entry"]["outs"]]
        if [(one.name, one.size) for one in members] != outs or not all(one.isreg() for one in members):
            raise ValueError("has other files than its entry")
        str(header["stage"]), float(header["seconds"]), str(header["machine"])
        lock.read(lock.written({header["stage"]: header["entry"]}).encode())
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, RecursionError, StoreError) as error:
        raise StoreError(f"{file}: not a whole result ({' '.join(str(error).split())}); send it again") from None
    return header
