"""A pack at work: stages run in its folder, on a machine that has neither DVC nor git nor a network.

The folder is one that rcig.packs has filled: the code of a commit, what its stages read, and pack.json, which says what
is to run. All files are looked at before anything runs. A stage that ends adds its result to one file of results at
once, so that a time limit costs no more than what runs at that moment, and that goes on from its checkpoint when the
command is given again, here or from the next pack.

Example: python -m rcig.packed --seconds 600
"""

import argparse
import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rcig import elsewhere, store
from rcig.entry import guarded
from rcig.errors import Foreseen, StoreError

PACK, DATA, SITE = Path("pack.json"), Path("pack"), Path("site")
"""what is to run; what its files are restored from; packages of wheels that came with it"""
RESULTS = Path("results.tar")
CONTENT = "results.json"
"""first member of the results: what follows, and from which checkpoints of the pack runs went on"""
CHECKPOINTS, CHECKPOINT = Path(".checkpoints"), re.compile(r"\.checkpoints/(?!\.)[\w.+-]+/[\w-]+\.npz")
ROOM = 2**30
"""bytes of disk for what stages write"""
GRACE = 10.0
"""seconds that a stage has to end in when the time is over"""


class Slots(NamedTuple):
    """Where stages run."""

    number: int
    """beside each other"""
    lock: int
    """file that they hold as long as they live, so that no other pack begins beside them"""


class Running(NamedTuple):
    """A stage at work."""

    process: subprocess.Popen[bytes]
    log: Path
    start: float


def main() -> None:
    parser = argparse.ArgumentParser("python -m rcig.packed", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    option = parser.add_argument
    option("--seconds", type=float, default=math.inf, metavar="N", help="after which all ends, with what is done")
    option("--jobs", type=int, default=1, metavar="N", help="stages beside each other (default: %(default)s)")
    option("--results", type=Path, default=RESULTS, metavar="FILE", help="what to bring home (default: %(default)s)")
    option("--size", type=float, default=math.inf, metavar="MIB", help="it may have; what does not fit stays here")
    guarded(do, parser.parse_args())


def do(given: argparse.Namespace) -> None:
    if not (given.jobs >= 1 and given.seconds > 0 and given.size > 0):
        raise Foreseen("expected --jobs of at least 1, and --seconds and --size above 0")
    end, room = time.monotonic() + given.seconds, given.size * 2**20
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pack = opened()
    alone = PACK.open("rb")
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Foreseen(
            "a pack works in this folder already, or a stage of one that was killed; wait, or end it"
        ) from None
    done = DATA / f"done-{elsewhere.md5(PACK)}"
    prepare(pack, done)
    failed: dict[str, Path] = {}
    for _ in work(pack, done, Slots(given.jobs, alone.fileno()), end, stop, failed):
        left_out = collect(pack, done, given.results, room)
    for line in left_out:
        print(line)
    left = [stage for stage in pack["stages"] if not _result(done, stage).exists() and stage not in failed]
    print(f"{given.results}: {len(pack['stages']) - len(left) - len(failed)} done, {len(left)} left")
    if failed:
        raise Foreseen(f"failed: {'; '.join(f'{stage}, see {log}' for stage, log in failed.items())}")


def opened() -> dict[str, Any]:
    """The content of pack.json. Raises StoreError where it or a file of the pack is not as it was packed."""
    fix = "unpack it anew, or send it again"
    try:
        pack: dict[str, Any] = json.loads(PACK.read_bytes())
        for path, content in pack["packed"].items():
            if not Path(path).is_file() or elsewhere.md5(Path(path)) != content:
                raise StoreError(f"{path}: missing or damaged; {fix}")
    except FileNotFoundError:
        raise StoreError(f"{PACK}: no such file; run from the folder that a pack was unpacked into") from None
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise error if isinstance(error, Foreseen) else StoreError(f"{PACK}: no pack ({error!r}); {fix}") from None
    return pack


def prepare(pack: Mapping[str, Any], done: Path) -> None:
    """Look at disk, memory, packages and the device, then restore what the stages read.

    Raises Foreseen for what is lacking, StoreError for a file that is not restored as it was.
    """
    missing = {path: one for path, one in pack["files"].items() if elsewhere.md5(Path(path)) != one["md5"]}
    needed, free = sum(one["size"] for one in missing.values()) + ROOM, shutil.disk_usage(".").free
    if free < needed:
        raise Foreseen(f"{needed / 2**30:.1f} GiB of disk are needed here, {free / 2**30:.1f} are free; make room")
    for wheel in sorted(DATA.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(SITE)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SITE.resolve()), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(SITE.resolve()))
    _check_packages(pack)
    from rcig import forms, resources  # which need packages of the pack

    for stage in pack["stages"].values():
        memory = resources.on_host() / 2**30
        if memory < stage["resources"]["memory"]:
            raise Foreseen(
                f"{stage['name']}: asks for {stage['resources']['memory']:g} GiB of memory, {memory:.1f} are free"
            )
    if asking := [name for name, stage in pack["stages"].items() if stage["resources"]["gpus"]]:
        elsewhere.check_gpu(asking[0])
    for path, one in missing.items():
        forms.restore(DATA / one["md5"], one["form"], Path(path))
        if elsewhere.md5(Path(path)) != one["md5"]:
            raise StoreError(f"{path}: not restored as it was; does this machine have another NumPy or codec?")
    for carried in (DATA / CHECKPOINTS).glob("*/*.npz"):
        if not (begun := carried.relative_to(DATA)).exists() and not _ended(pack, done, carried):
            store.atomic_write(begun, carried.read_bytes())


def _check_packages(pack: Mapping[str, Any]) -> None:
    modules = {"rcig.forms", *(one["cmd"].split()[2] for one in pack["stages"].values())}
    modules |= {"imagecodecs" for one in pack["files"].values() if one["form"] == "jpeg_xl"}
    for module in sorted(modules):
        done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:]
            raise Foreseen(f"{module} cannot be imported here: {' '.join(said)}; put its wheel into the pack, --wheels")


def work(
    pack: Mapping[str, Any], done: Path, slots: Slots, end: float, stop: threading.Event, failed: dict[str, Path]
) -> Iterator[None]:
    """Run the stages, each after those that it follows, until all are done, the time is over, or a signal came.

    Yields whenever one is done, and at the end, when none runs. Those that fail get into `failed`, with their logs.
    """
    running: dict[str, Running] = {}
    try:
        while time.monotonic() < end and not stop.is_set():
            for name in _ready(pack, done, {*running, *failed}):
                if len(running) < slots.number:
                    running[name] = _start(name, pack["stages"][name]["cmd"], slots)
                    print(f"{name}: started", flush=True)
            if not running:
                break
            stop.wait(0.2)
            for name, (process, log, start) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                missing = [path for path in pack["stages"][name]["outs"] if not Path(path).is_file()]
                if process.returncode or missing:
                    failed[name] = log
                    print(f"{name}: failed, see {log}", flush=True)
                    continue
                seconds = time.time() - start
                _save(pack, name, done, seconds, log)
                print(f"{name}: done in {seconds:.0f} seconds", flush=True)
                yield
    finally:
        _end(running)
    yield


def _ready(pack: Mapping[str, Any], done: Path, other: set[str]) -> list[str]:
    ended = {name for name in pack["stages"] if _result(done, name).exists()}
    return [
        name
        for name, stage in pack["stages"].items()
        if name not in ended and name not in other and set(stage["follows"]) <= ended
    ]


def _start(name: str, command: str, slots: Slots) -> Running:
    log = Path("logs") / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    environment = elsewhere.BESIDE_OTHERS | os.environ | {"DVC_STAGE": name}
    python = Path(sys.executable)
    start = command.replace("python ", f'"{python}" ', 1)
    with log.open("ab") as file:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {start}"],
            env=environment,
            stdout=file,
            stderr=file,
            pass_fds=[slots.lock],
            start_new_session=True,  # Ctrl-C is for the pack, which then ends it
        )
    return Running(process, log, time.time())


def _end(running: Mapping[str, Running]) -> None:
    for one in running.values():
        os.killpg(one.process.pid, signal.SIGTERM)
    for one in running.values():
        try:
            one.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(one.process.pid, signal.SIGKILL)


def _save(pack: Mapping[str, Any], name: str, done: Path, seconds: float, log: Path) -> None:
    """Write the result of a stage, with the entry that DVC would have written: what was read and what was made."""
    stage = pack["stages"][name]
    entry = {
        "cmd": stage["cmd"],
        "deps": [described(path) for path in stage["deps"]],
        "params": stage["params"],
        "outs": [described(path) for path in stage["outs"]],
    }
    said = log.read_text("utf-8", "replace")
    elsewhere.write(_result(done, name), Path(), name, pack["commit"], entry, seconds, said)


def described(path: str) -> dict[str, Any]:
    """What DVC notes of a file."""
    return {"path": path, "hash": "md5", "md5": elsewhere.md5(Path(path)), "size": Path(path).stat().st_size}


def collect(pack: Mapping[str, Any], done: Path, into: Path, room: float) -> list[str]:
    """Write one file of all results, and of the checkpoints of what is not done, as far as they fit -> what does not
    fit, said in a line each."""
    results = [path for name in pack["stages"] if (path := _result(done, name)).exists()]
    states = [path for path in sorted(CHECKPOINTS.glob("*/*.npz")) if not _ended(pack, done, path)]
    contents, said = {}, []
    left = room - tarfile.RECORDSIZE - tarfile.BLOCKSIZE
    for path, name in [(one, one.name) for one in results] + [(one, str(one)) for one in states]:
        size = path.stat().st_size
        left -= (taken := size + 3 * tarfile.BLOCKSIZE)  # its header, and at most two blocks that are not full
        if left < 0:
            said.append(f"{path}: {size / 2**20:.1f} MiB, too large for {into}; it stays here")
            left += taken
        else:
            contents[name] = path.read_bytes()
    begun = {str(Path(name).relative_to(DATA)): md5 for name, md5 in pack["packed"].items() if CHECKPOINTS.name in name}
    listed = {"members": {name: len(content) for name, content in contents.items()}, "begun": begun}
    with store.atomic_file(into) as file, tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in {CONTENT: json.dumps(listed).encode(), **contents}.items():
            elsewhere.add(archive, name, content)
    return said


def _ended(pack: Mapping[str, Any], done: Path, checkpoint: Path) -> bool:
    """Whether the stage of a checkpoint is done."""
    return any(is_of(checkpoint, name) and _result(done, name).exists() for name in pack["stages"])


def is_of(checkpoint: Path, stage: str) -> bool:
    """Whether a checkpoint is of that stage, by the name of its folder: NAME-DIGEST of distill@NAME, or
    STAGE-NAME-DIGEST."""
    kind, _, key = stage.partition("@")
    return checkpoint.parent.name.rpartition("-")[0] == (key if kind == "distill" else f"{kind}-{key}")


def _result(done: Path, stage: str) -> Path:
    return done / f"{stage}.tar"


if __name__ == "__main__":
    main()
