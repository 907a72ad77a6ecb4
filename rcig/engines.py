"""What runs jobs: this machine, or a cluster by Ray. In which order they run is the head's to say, see rcig.jobs."""

import io
import itertools
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, Protocol

from filelock import FileLock, Timeout

from rcig import store
from rcig.errors import Foreseen
from rcig.jobs import Head, Job, Taken, has, perform
from rcig.machines import Resources
from rcig.processes import end_started

CLONES = Path(".cache/jobs")
"""of the head, and in the home folder of other machines: clones in which jobs run, and results on their way"""
TRIES = 3
"""of a job whose machine died"""


class LostError(Exception):
    """The machine that ran a job is gone; the job may run on another."""


class Engine(Protocol):
    """Runs jobs somewhere, beside each other."""

    slots: int
    """how many it is given at a time"""
    where: str
    """they run, in words"""

    def places(self) -> int:
        """How many can run at a time now, roughly; the others that it was given wait."""
        ...

    def submit(self, job: Job) -> "Future[Path]":
        """The file of the result, in time; or Foreseen where the stage failed, or LostError."""
        ...

    def stop(self) -> None:
        """End what still runs. A long distillation leaves its checkpoint."""
        ...


class Made(NamedTuple):
    """What came of a run."""

    taken: list[str]
    failed: dict[str, str]
    """stage -> why"""


def run(head: Head, engine: Engine, wanted: list[str], told: Callable[[str], None]) -> Made:
    """Make all stale stages, or those that are wanted and what they follow, each when those before it are made.

    What was taken in is in dvc.lock: a run that was stopped goes on where it was. What follows a stage that failed does
    not run. Raises Foreseen where another process does the same for this clone.
    """
    alone = FileLock(head.root / CLONES / "head.lock")
    try:
        alone.acquire(timeout=0)
    except Timeout:
        raise Foreseen(f"{head.root}: another process makes its stages now; wait for it, or stop it") from None
    try:
        return _run(head, engine, wanted, told)
    finally:
        engine.stop()
        alone.release()


def _run(head: Head, engine: Engine, wanted: list[str], told: Callable[[str], None]) -> Made:
    head.commit(wanted)
    made, clock = Made([], {}), Clock()
    running: dict[Future[Path], str] = {}
    tries: dict[str, int] = {}
    while True:
        for name in ready(head, wanted, {*running.values()}):
            if name in made.failed or len(running) == engine.slots:
                continue
            try:
                running[engine.submit(head.job(name))] = name
                told(f"{name}: starts {engine.where}")
            except Foreseen as error:
                made.failed[name] = str(error)
                told(str(error))
        if not running:
            return made
        beside, said = min(len(running), engine.places()), []
        results: dict[str, Path] = {}
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            tries[name] = tries.get(name, 0) + 1
            try:
                results[name] = future.result()
            except LostError as error:
                said.append(f"{name}: its machine is gone ({error}), {tries[name]} of {TRIES} tries")
                if tries[name] == TRIES:
                    made.failed[name] = said[-1]
            except Foreseen as error:
                made.failed[name] = str(error)
                said.append(str(error))
        for name, taken in zip(results, head.take(results.values()), strict=True):
            results[name].unlink()
            if isinstance(taken, Foreseen):
                made.failed[name] = str(taken)
                said.append(str(taken))
            else:
                made.taken.append(name)
                clock.took(name, taken.seconds)
                said.append(taken.said)
        waiting = [one for one in needed(head, wanted) if one not in made.failed]
        for line in said:
            at_work = min(len(running), engine.places())
            told(f"{line} [{_counts(made, at_work, waiting)}; {clock.words(waiting, beside)}]")


def _counts(made: Made, running: int, waiting: list[str]) -> str:
    left = len(waiting) - running
    counts = {"done": len(made.taken), "running": running, "waiting": left, "failed": len(made.failed)}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "done")


class Clock:
    """How long a run has taken, and how long it may go on by what stages of each kind have taken so far."""

    def __init__(self) -> None:
        self._start, self._seconds = time.monotonic(), defaultdict[str, list[float]](list)

    def took(self, name: str, seconds: float) -> None:
        self._seconds[name.partition("@")[0]].append(seconds)

    def words(self, waiting: list[str], beside: int) -> str:
        """`beside`: how many run at a time."""
        said = f"{(time.monotonic() - self._start) / 60:.1f} minutes"
        if not self._seconds or not waiting:
            return said
        every = [*itertools.chain(*self._seconds.values())]
        left = sum(fmean(self._seconds.get(name.partition("@")[0], every)) for name in waiting)
        return f"{said}, about {left / beside / 60:.1f} left"


def take(head: Head, files: Iterable[Path], told: Callable[[str], None]) -> None:
    """Take in results. Raises Foreseen, which names all that are kept out, when the others are in."""
    found = head.take(files)
    for taken in found:
        if isinstance(taken, Taken):
            told(taken.said)
    if refused := [str(one) for one in found if isinstance(one, Foreseen)]:
        raise Foreseen("; ".join(refused))


def ready(head: Head, wanted: list[str], running: Set[str] = frozenset()) -> list[str]:
    """The stale stages, all or those that are wanted and what they follow, that follow no stale or running one."""
    stale = needed(head, wanted)
    return [name for name in stale if name not in running and not head.before(name) & {*stale, *running}]


def needed(head: Head, wanted: Iterable[str]) -> list[str]:
    """The stale stages, all or those that are wanted and what they follow."""
    stale, asked = head.stale(), set(wanted)
    asked |= {name for one in wanted for name in head.before(one)}
    return [name for name in stale if not asked or name in asked]


@contextmanager
def free_clone(folder: Path) -> Iterator[Path]:
    """A folder for a clone in that folder, in which no other process works until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        lock = FileLock(folder / f"{number}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        with lock:
            yield folder / str(number)
        return


class Local:
    """Clones on this machine."""

    where = "here"

    def __init__(self, head: Head, slots: int) -> None:
        self.root, self.slots = head.root, slots
        self._pool = ThreadPoolExecutor(slots)

    def places(self) -> int:
        return self.slots

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        end_started()

    def submit(self, job: Job) -> Future[Path]:
        return self._pool.submit(self._perform, job)

    def _perform(self, job: Job) -> Path:
        result = result_of(self.root, job)
        perform_here(self.root, job, result)
        return result


def perform_here(root: Path, job: Job, result: Path) -> None:
    """Run a job of the head `root` in a clone on this machine."""
    with free_clone(root / CLONES) as clone:
        perform(job, str(root), lambda path: (root / path).open("rb"), clone, result)


def result_of(root: Path, job: Job) -> Path:
    """Where the head keeps a result until it is taken in."""
    return root / CLONES / f"{job.stage.replace('@', '-')}.tar"


class Cluster:
    """Ray's cluster at an address: auto, HOST:PORT, or local for one that ends with this process.

    Each job has the resources of its stage. Machines need the environment of the lock file, and neither a folder that
    they share nor access to the head's repository: code and files travel by Ray.
    """

    slots = 10**4

    def __init__(self, head: Head, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise Foreseen("Ray is not installed; `pip install ray`, or leave out --address") from None
        self.ray, self.root, self.where = ray, head.root, f"on the cluster at {address}"
        module = {"py_modules": [str(Path(__file__).parent)]}
        given = None if address == "local" else address
        try:
            ray.init(given, runtime_env=module, logging_level=logging.WARNING, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise Foreseen(
                f"--address {address}: no cluster of Ray answers there ({said}); `ray start --head`"
            ) from None
        self._run = ray.remote(max_retries=0)(on_machine)
        self._bundle = ray.put(head.bundle())
        self._files: dict[str, Any] = {}

    def submit(self, job: Job) -> Future[Path]:
        for path, md5 in job.needs.items():
            if md5 not in self._files:
                self._files[md5] = self.ray.put((self.root / path).read_bytes())
        files = {path: self._files[md5] for path, md5 in job.needs.items()}
        found: Future[Path] = Future()
        run = self._run.options(**options(job.resources))
        run.remote(job, [self._bundle], files).future().add_done_callback(lambda ended: self._settle(job, ended, found))
        return found

    def places(self) -> int:
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def stop(self) -> None:
        self.ray.shutdown()

    def _settle(self, job: Job, ended: "Future[bytes]", found: Future[Path]) -> None:
        errors = self.ray.exceptions
        try:
            result = result_of(self.root, job)
            store.atomic_write(result, ended.result())
            found.set_result(result)
        except errors.RayTaskError as error:
            found.set_exception(error.cause if isinstance(error.cause, Foreseen) else Foreseen(f"{job.stage}: {error}"))
        except errors.RayError as error:
            found.set_exception(LostError(" ".join(str(error).split())[:120]))
        except BaseException as error:
            found.set_exception(error)


def options(resources: Resources) -> dict[str, float]:
    """How Ray calls them."""
    return {
        "num_cpus": resources.cores,
        "num_gpus": resources.gpus,
        **({"memory": resources.memory * 2**30} if resources.memory else {}),
    }


def on_machine(job: Job, bundle: list[Any], files: Mapping[str, Any]) -> bytes:
    """Run a job on a machine of the cluster -> its result. Of the files, what a clone has is not sent again."""
    import ray

    with free_clone(Path.home() / CLONES) as clone:
        result, source = clone.with_suffix(".tar"), clone.with_suffix(".bundle")
        if not has(clone, job.commit):
            store.atomic_write(source, ray.get(bundle[0]))
        perform(job, str(source), lambda path: io.BytesIO(ray.get(files[path])), clone, result)
        return result.read_bytes()
