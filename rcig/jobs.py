"""Jobs: stages of the pipeline that run in other clones, whose results the clone that asked for them takes in.

The clone that asks is the head: its files, plan.json and dvc.lock are the only truth. A job is a stage at a commit. It
runs by `dvc repro --single-item` in a clone of its own, on the files that the head has, and its result is one file: the
outputs, and the entry of dvc.lock that DVC wrote there. The head takes a result in only where every hash in that entry
is its own. So a result that is late, of other settings or of other code is refused, and nothing is merged by git.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.fs import localfs
from dvc.repo import Repo

from rcig import elsewhere, lock, packed, planned, store
from rcig.elsewhere import versions
from rcig.errors import Foreseen, ParamsError, StoreError
from rcig.machines import Resources
from rcig.processes import ended_at_a_stop

CODE = ("rcig", "stages", "params.yaml", "plan.json", "plan", "dvc.yaml", "inputs", "released")
"""what a job takes from its commit, and what must therefore be committed"""
AT_HEAD = ("plan", "report")
"""stages that are no jobs: they take seconds and read everything"""


class RefusedError(Foreseen, ValueError):
    """A result that is not what the head asked for: whose, what differs, why that may be."""


class Job(NamedTuple):
    """What is to run."""

    stage: str
    """as dvc.lock calls it: distill@NAME"""
    commit: str
    needs: Mapping[str, str]
    """path -> md5, of every file that the stage reads and git does not bring"""
    resources: Resources = Resources()


Fetch = Callable[[str], BinaryIO]
"""path -> the file that the head has there, opened"""


class Taken(NamedTuple):
    """What the head did with a result."""

    stage: str
    said: str
    """a line, with the name of the stage"""
    seconds: float
    """that it took"""


class Stage(NamedTuple):
    """A node of DVC's graph."""

    command: str
    reads: frozenset[str]
    makes: Mapping[str, bool]
    """path -> whether DVC caches it"""
    params: Mapping[str, Sequence[str]]
    """file -> its keys of the plan"""


class Head:
    """A clone whose stages are to be made."""

    def __init__(self, root: Path = Path(), resources: Mapping[str, Resources] | None = None) -> None:
        """`resources`: of stages, by name; those that it leaves out take one core.

        Raises Foreseen where the folder is no clone, or DVC cannot read its files.
        """
        self.root, self.resources = root.resolve(), resources or {}
        try:
            self.repo = Repo(str(self.root), _wait_for_lock=True)
            found = self.repo.index.stages
        except NotDvcRepoError:
            raise Foreseen(f"{self.root}: no clone of the project; run from its folder") from None
        except DvcException as error:
            raise Foreseen(f"{error}; mend it, restore it by git, or `python -m stages.merge` after a merge") from None
        self.stages = {
            str(stage.name): Stage(
                str(stage.cmd),
                frozenset(_path(dep) for dep in stage.deps if not isinstance(dep, ParamsDependency)),
                {_path(out): bool(out.use_cache) for out in stage.outs},
                {_path(dep): list(dep.params) for dep in stage.deps if isinstance(dep, ParamsDependency)},
            )
            for stage in found
            if stage.cmd
        }
        self._makers = {path: name for name, one in self.stages.items() for path in one.makes}

    def stale(self) -> list[str]:
        """The stages whose entry of dvc.lock does not fit the plan and what is here.

        Those that follow from them may turn out stale when they are made.
        """
        return [name for name in lock.outdated(self.plan(), self.root) if name in self.stages]

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
        return Job(stage, self.commit([stage]), self.needs(stage), self.resources_of(stage))

    def commit(self, stages: Iterable[str]) -> str:
        """The commit that these stages can run at elsewhere, with the errors of `job`."""
        for stage in stages:
            if stage not in self.stages or stage in AT_HEAD:
                listing = "`python -m stages.cluster --list` names all"
                raise ParamsError(f"{stage!r}: no stage that runs elsewhere; {listing}")
        return self._commit

    @cached_property
    def _commit(self) -> str:
        """What is checked out when it is asked for first: who edits files meanwhile changes nothing that runs."""
        if changed := git(self.root, "status", "--porcelain", "--", *CODE):
            which = ", ".join(line[3:] for line in changed.splitlines()[:3])
            raise Foreseen(f"{which}: not committed, and other clones get what is committed; commit first")
        return git(self.root, "rev-parse", "HEAD")

    def needs(self, stage: str, made_there: Set[str] = frozenset()) -> dict[str, str]:
        """Path -> md5, of what a stage reads, but for what is `made_there`. Raises Foreseen for what is not here."""
        made, reads = lock.made(lock.at(self.root)), self.stages[stage].reads - made_there
        known = {path: made.get(path) or elsewhere.md5(self.root / path) for path in sorted(reads)}
        found = {path: md5 for path, md5 in known.items() if md5 is not None and (self.root / path).is_file()}
        if folders := [path for path in known if (self.root / path).is_dir()]:
            raise Foreseen(
                f"{folders[0]}: {stage} reads a folder, which is not sent to another clone; run it here:"
                f" dvc repro --single-item {stage}"
            )
        if missing := sorted(known.keys() - found.keys()):
            raise Foreseen(f"{missing[0]}: {stage} needs it and it is not here; `dvc pull`, or `dvc repro` its stage")
        return found

    def resources_of(self, stage: str) -> Resources:
        return self.resources.get(stage.partition("@")[0], Resources())

    def template(self, stage: str) -> dict[str, Any]:
        """The entry that dvc.lock gets for a stage, but for what its files contain."""
        one, plan = self.stages[stage], self.plan()
        params = {file: {key: lock.at_key(plan, key) for key in keys} for file, keys in one.params.items()}
        return {"cmd": one.command, "deps": sorted(one.reads), "params": params, "outs": sorted(one.makes)}

    def bundle(self) -> bytes:
        """The repository, with the history of what is checked out, as git clones it from a file."""
        with tempfile.TemporaryDirectory() as folder:
            git(self.root, "bundle", "create", "--quiet", f"{folder}/head", "HEAD")
            return (Path(folder) / "head").read_bytes()

    def take(self, files: Iterable[Path]) -> list[Taken | Foreseen]:
        """Take in the results in files -> for each what was done, or the error that kept it out.

        Of every result all outputs are written before its entry is, each whole or not at all, under the lock of DVC,
        whose file is read and written once. Errors are RefusedError for the result of something else than what is
        planned here, and StoreError for a damaged one.
        """
        found: list[Taken | Foreseen] = []
        with self.repo.lock:
            before = lock.at(self.root)
            entries = dict(before)
            try:
                for file in files:
                    try:
                        found.append(self._take(file, entries))
                    except Foreseen as error:
                        found.append(error)
            finally:
                if entries != before:
                    store.atomic_write(self.root / lock.LOCK, lock.written(entries))
        return found

    def _take(self, file: Path, entries: dict[str, lock.Entry]) -> Taken:
        """Take in one, whose entry is added to these."""
        with _opened(file) as (archive, header):
            name, entry, seconds = header["stage"], header["entry"], float(header["seconds"])
            mine = entries.get(name)
            if mine == entry:
                return Taken(name, f"{name}: taken in before", seconds)
            here = self._here(name)
            self._check(name, header, entries, here)
            if mine is not None and not lock.misfits(mine, entries, here):
                return Taken(name, f"{name}: made before by another run, whose result stays", seconds)
            _write(file, archive, entry, self.root)
            for path, cached in self.stages[name].makes.items():
                if cached:
                    self.repo.cache.local.add(str(self.root / path), localfs, lock.made({name: entry})[path])
            entries[name] = entry
        return Taken(name, f"{name}: taken in, {seconds:.0f} seconds on {header['machine']}", seconds)

    def extract(self, file: Path, folder: Path) -> Taken:
        """Write the outputs in a file of a result below a folder, of whatever code and environment they are.

        Raises RefusedError where no such stage is planned or it has other outputs, and StoreError for a damaged file.
        """
        with _opened(file) as (archive, header):
            name, seconds = header["stage"], float(header["seconds"])
            self._here(name)
            self._check_names(name, header["entry"])
            _write(file, archive, header["entry"], folder)
        return Taken(name, f"{name}: {seconds:.0f} seconds on {header['machine']}", seconds)

    def _here(self, name: str) -> lock.Here:
        """What a stage's entry is to fit: of what other stages make, their entries say the content."""
        if name not in self.stages:
            raise RefusedError(f"{name}: refused, as no such stage is planned here; it was renamed or removed")
        unmade = self.stages[name].reads - self._makers.keys()
        return lock.Here({path: elsewhere.md5(self.root / path) for path in unmade}, self.plan())

    def _check(self, name: str, header: Mapping[str, Any], entries: lock.Entries, here: lock.Here) -> None:
        entry = header["entry"]
        self._check_names(name, entry)
        if other := lock.misfits(entry, entries, here):
            settings = [one for one in other if one.startswith("stages.")]
            why = "settings or code were changed since" if settings else "what it reads was made anew since"
            raise RefusedError(f"{name}: refused, made of another {', '.join(other)}; {why}, so let it run again")
        if header["versions"] != versions():
            there, ours = (_pairs(one) for one in (header["versions"], versions()))
            raise RefusedError(f"{name}: refused, made with {there}, and here is {ours}; keep it as a released set")

    def _check_names(self, name: str, entry: lock.Entry) -> None:
        """Raise RefusedError for an entry that does not name all that the stage has, and nothing else."""
        named = {
            "cmd": entry.get("cmd"),
            "deps": sorted(one["path"] for one in entry.get("deps", [])),
            "params": {file: sorted(keys) for file, keys in entry.get("params", {}).items()},
            "outs": sorted(one["path"] for one in entry["outs"]),
        }
        whole = self.template(name)
        if named != whole | {"params": {file: sorted(keys) for file, keys in whole["params"].items()}}:
            raise RefusedError(
                f"{name}: refused, as dvc.yaml has other outputs, files to read, settings or another command; it was"
                " changed"
            )

    def plan(self) -> dict[str, Any]:
        """The content of plan.json. Raises StoreError where it is missing or damaged."""
        return store.load_json(self.root / planned.PLAN)


def _write(file: Path, archive: tarfile.TarFile, entry: lock.Entry, root: Path) -> None:
    """Write the outputs of a result below a folder, all or none."""
    with ExitStack() as all_or_none:
        for path, md5 in lock.made({"": entry}).items():
            into = all_or_none.enter_context(store.atomic_file(root / path))
            content: Any = archive.extractfile(path)
            if elsewhere.md5_of(content) != md5:
                raise StoreError(f"{file}: {path} is not what its entry says; the file is damaged, send it again")
            content.seek(0)
            shutil.copyfileobj(content, into)


def perform(job: Job, source: str, fetch: Fetch, clone: Path, result: Path) -> None:
    """Run a job in a clone of `source`, what git can clone: a path, an address, a bundle. It is made or brought up.

    What the stage needs and the clone has not is fetched. Writes the result; a killed run leaves its checkpoints
    beside the clone, where the next one goes on. Raises Foreseen with the end of the log where the stage fails.
    """
    start = time.time()
    if job.resources.gpus:
        elsewhere.check_gpu(job.stage)
    _bring(clone, source, job.commit)
    for path, md5 in job.needs.items():
        if elsewhere.md5(clone / path) != md5:
            with store.atomic_file(clone / path) as into, fetch(path) as origin:
                shutil.copyfileobj(origin, into)
            if elsewhere.md5(clone / path) != md5:
                raise Foreseen(f"{path}: has changed since {job.stage} was asked for; ask again")
    store.atomic_write(clone / lock.LOCK, lock.written({}))  # of many stages DVC reads and writes it for long
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", job.stage]
    environment = elsewhere.BESIDE_OTHERS | os.environ | {"DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    pipe = subprocess.PIPE
    with ended_at_a_stop():  # where subprocess.run would end DVC alone, and leave the stage
        started = subprocess.Popen(command, cwd=clone, env=environment, stdout=pipe, stderr=pipe, text=True)
        said = "".join(started.communicate())
    if started.returncode:
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        raise Foreseen(f"{job.stage}: failed in {clone}: {' '.join(errors[-1:] or said.split()[-40:])}")
    elsewhere.write(result, clone, job.stage, job.commit, lock.at(clone)[job.stage], time.time() - start, said)


def _bring(clone: Path, source: str, commit: str) -> None:
    """A clone at a commit. What is ignored by git there stays: raw arrays, checkpoints, DVC's cache."""
    clone.parent.mkdir(parents=True, exist_ok=True)
    if git(clone, "rev-parse", "--show-toplevel", fails=True) != str(clone.resolve()):  # none, or half of one
        shutil.rmtree(clone, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=clone.parent) as scratch:
            git(clone.parent, "clone", "--quiet", "--no-checkout", source, f"{scratch}/clone")
            os.replace(f"{scratch}/clone", clone)
    elif not has(clone, commit):
        git(clone, "fetch", "--quiet", source, "HEAD")
    git(clone, "checkout", "--quiet", "--force", "--detach", commit)
    shared, link = clone.parent.resolve() / "checkpoints", clone / ".checkpoints"
    shared.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(shared)  # as the job that goes on may be in another clone


def has(clone: Path, commit: str) -> bool:
    """Whether a clone, if it is one, has a commit, so that nothing of the repository needs to be sent."""
    return git(clone, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", fails=True) == commit


def git(folder: Path, *arguments: str, fails: bool = False) -> str:
    """What git prints; bytes that are no text are as Python has them in paths."""
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, errors="surrogateescape", check=False)
    if done.returncode and not fails:
        raise Foreseen(f"`git {' '.join(arguments[:2])}` in {folder}: {' '.join(done.stderr.split())}")
    return done.stdout.rstrip()


def _path(item: Any) -> str:
    return PurePosixPath(item.def_path).as_posix()


def _pairs(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


@contextmanager
def _opened(file: Path) -> Iterator[tuple[tarfile.TarFile, dict[str, Any]]]:
    """The archive and the header of a result. Raises StoreError where the file is none, Foreseen for that of a pack."""
    if not file.is_file() or not tarfile.is_tarfile(file):
        what = "no file of a result" if file.exists() else "no such file"
        raise StoreError(f"{file}: {what}; name what `python -m stages.cluster --one STAGE --return FILE` has written")
    with tarfile.open(file) as archive:
        yield archive, _header(file, archive)


def _header(file: Path, archive: tarfile.TarFile) -> dict[str, Any]:
    """The head of a result, whose members are the outputs of its entry and nothing else."""
    try:
        first, *members = archive.getmembers()
        opened = archive.extractfile(first)
        if first.name == packed.CONTENT:
            raise Foreseen(f"{file}: of a pack; take it in: python -m stages.unpack {file}")
        if first.name != elsewhere.HEADER or first.size > elsewhere.LARGEST or opened is None:
            raise ValueError(f"begins with {first.name}")
        header: dict[str, Any] = json.loads(opened.read())
        outs = [(out["path"], out["size"]) for out in header["entry"]["outs"] if out["md5"]]
        if [(one.name, one.size) for one in members] != outs or not all(one.isreg() for one in members):
            raise ValueError("has other files than its entry")
        str(header["stage"]), float(header["seconds"]), str(header["machine"]), dict(header["versions"])
        lock.read(lock.written({header["stage"]: header["entry"]}).encode())
        header["entry"] = lock.moved(header["entry"])
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, RecursionError, StoreError) as error:
        raise StoreError(f"{file}: not a whole result ({' '.join(str(error).split())}); send it again") from None
    return header
