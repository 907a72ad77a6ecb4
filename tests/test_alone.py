"""Two runs in one clone: who comes second is told who is there, and single stages run side by side."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock
from workspaces import (
    ENVIRONMENT,
    ROOT,
    STUB,
    copy_pipeline,
    documented,
    ran,
    read_settings,
    run,
    save_settings,
    sections,
)

from rcig import alone

HOW = (
    "runs in this folder; wait for it or stop it. To run two things at once, give one a clone of its own, or run"
    " single stages by `dvc --wait-for-lock repro --single-item STAGE` (docs/at-once.md)"
)
HOLD = "import sys; from pathlib import Path; from rcig.alone import alone\nwith alone(Path(sys.argv[1]), 'make x'): {}"
STAYS = "print('here', flush=True); sys.stdin.read()"


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is alone in the folder, until the block ends."""
    command = [sys.executable, "-c", HOLD.format(STAYS), str(folder)]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_one_is_told_who_is_there_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    with held(tmp_path) as first:
        for _ in range(2):
            with pytest.raises(alone.BusyError) as error, alone.alone(tmp_path, "make y"):
                pass
            who, how = str(error.value).split(") ", 1)
            assert re.fullmatch(rf"`make x` \(process {first.pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", who)
            assert how == HOW
    for _ in range(2):
        with alone.alone(tmp_path, "make y"):
            pass


@pytest.mark.parametrize("how", ["write", "read"])
def test_what_dvc_runs_is_seen_and_what_it_ran_when_it_was_killed_is_not(tmp_path: Path, how: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    noted = tmp_path / alone.DVC
    noted.parent.mkdir(parents=True)
    for pid in (ended.pid, os.getpid()):
        info = {"pid": pid, "cmd": "dvc repro"}
        noted.write_text(json.dumps({how: {"plan.json": info if how == "write" else [info]}}))
        if pid == ended.pid:
            with alone.alone(tmp_path, "make x"):
                pass
        else:
            with pytest.raises(alone.BusyError) as error, alone.alone(tmp_path, "make x"):
                pass
            assert str(error.value) == f"`dvc repro` (process {pid}) {HOW}"
            with pytest.raises(alone.BusyError), alone.alone(tmp_path, "make x"):
                pass


@pytest.mark.parametrize("noted", ["[]", "{", '{"read": []}', '{"write": {"a": {"pid": 1}}}', '{"write": {"a": 1}}'])
def test_a_note_of_another_kind_is_for_dvc_to_name(tmp_path: Path, noted: str) -> None:
    (tmp_path / alone.DVC).parent.mkdir(parents=True)
    (tmp_path / alone.DVC).write_text(noted)
    with alone.alone(tmp_path, "make x"):
        pass


def test_who_has_ended_is_not_named_by_whoever_has_not_yet_written_its_name(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / alone.HELD).parent.mkdir(parents=True)
    with FileLock(tmp_path / alone.HELD):
        for written in ("", f"`make x` (process {ended.pid}, since 2026-01-01 00:00:00)", "`make x` (proc"):
            (tmp_path / alone.HELD).write_text(written)
            with pytest.raises(alone.BusyError) as error, alone.alone(tmp_path, "make y"):
                pass
            assert str(error.value) == f"another command {HOW}"


@pytest.mark.parametrize(("script", "folder"), [("demo", "demo"), ("repro", ".")])
def test_a_second_make_touches_nothing(tmp_path: Path, script: str, folder: str) -> None:
    for part in ("rcig", "stages", "inputs", "released", "params.yaml"):
        (tmp_path / part).symlink_to(ROOT / part)
    with held(tmp_path / folder) as first:
        before = sorted(tmp_path.rglob("*"))
        said = run(tmp_path, sys.executable, "-m", f"stages.{script}", fails=True)
        assert re.fullmatch(rf"error: `make x` \(process {first.pid}, since .*\) {re.escape(HOW)}\n", said)
        assert sorted(tmp_path.rglob("*")) == before


FIRST, SECOND = "mnist_sample-ipc1-rcig", "mnist_sample-ipc1-random_real"
GATE = """#!/bin/sh
if [ "$2" = stages.distill ]; then
    touch "at-$3"
    until [ -e go ]; do sleep 0.1; done
fi
exec "{}/python" "$@"
"""
"""A stubbed pipeline whose distillations last until the file `go` is there."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The pipeline of two experiments, in which all is made but what follows from a changed setting of both."""
    clone = copy_pipeline(tmp_path / "clone")
    digits = read_settings()["shared"]["digits"]
    experiments = {name: digits[name] for name in (FIRST, SECOND)}
    save_settings(clone, sections(experiments=experiments))
    run(clone, "dvc", "init", "--no-scm", "-q")
    ran(clone)
    save_settings(clone, sections(experiments={name: one | {"width": 4} for name, one in experiments.items()}))
    gate = tmp_path / "gate" / "python"
    gate.parent.mkdir()
    gate.write_text(GATE.format(STUB))
    gate.chmod(0o755)
    return clone


@contextmanager
def started(clone: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command that works behind the gate, which ends with status 0 before the block does."""
    environment = ENVIRONMENT | {"PATH": f"{clone.parent / 'gate'}{os.pathsep}{ENVIRONMENT['PATH']}"}
    process = subprocess.Popen(
        command, cwd=clone, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield process
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    finally:
        process.kill()


def reached(clone: Path, *names: str) -> None:
    """Wait until these distillations run."""
    for _ in range(1200):
        if all((clone / f"at-{name}").exists() for name in names):
            return
        time.sleep(0.1)
    raise AssertionError("the distillations do not run")


@pytest.mark.slow
def test_beside_a_repro_another_one_is_told_so_and_takes_nothing_from_it(clone: Path) -> None:
    with started(clone, "dvc", "repro") as first:
        reached(clone, SECOND)
        dvc = r"\S*dvc\S* repro"
        said = run(clone, "dvc", "repro", fails=True)
        assert "is busy, it is being blocked by" in said
        assert re.search(rf"\(PID {first.pid}\): {dvc}\n", said)
        said = run(clone, sys.executable, "-m", "stages.repro", fails=True)
        assert re.fullmatch(rf"error: `{dvc}` \(process {first.pid}\) {re.escape(HOW)}\n", said)
        (clone / "go").touch()
    assert json.loads(run(clone, "dvc", "status", "--json")) == {}


LOCKED = "import sys, time, zc.lockfile; zc.lockfile.LockFile('.dvc/tmp/lock'); print(1, flush=True); time.sleep(6)"


@pytest.mark.slow
def test_two_stages_run_side_by_side_and_are_recorded_whatever_else_dvc_does(clone: Path) -> None:
    """As docs/at-once.md says. Another command has the lock of DVC for longer than it waits by itself, 3 seconds."""
    before, *side_by_side = documented("at-once.md", "dvc repro plan")
    run(clone, *before)
    with started(clone, *side_by_side[0]), started(clone, *side_by_side[1]):
        reached(clone, FIRST, SECOND)
        with subprocess.Popen([sys.executable, "-c", LOCKED], cwd=clone, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            (clone / "go").touch()
    status = json.loads(run(clone, "dvc", "status", "--json"))
    follows = {f"{stage}@{name}" for stage in ("picture", "evaluate") for name in (FIRST, SECOND)}
    assert status.keys() - {"report"} == follows, "both distillations are recorded"
