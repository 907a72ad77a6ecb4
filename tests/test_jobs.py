"""Jobs: stages that run in other clones, and what the head takes in of their results."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from heads import DISTILL, FIRST, SECOND, commit
from workspaces import ROOT, ran, read_settings, run, save_settings, sections, until

from rcig import elsewhere, engines, jobs, lock, processes
from rcig.errors import Foreseen, ParamsError, StoreError
from rcig.machines import Resources


@pytest.fixture
def workspace(head_workspace: Path) -> Path:
    return head_workspace


def performed(workspace: Path, stage: str, clone: str = "clone") -> Path:
    """The file of a stage's result, run in a clone beside the workspace."""
    result = workspace.parent / f"{clone}.tar"
    job = jobs.Head(workspace).job(stage)
    jobs.perform(job, str(workspace), lambda path: (workspace / path).open("rb"), workspace.parent / clone, result)
    return result


def take(workspace: Path, result: Path) -> str:
    """What the head says of a result."""
    (taken,) = jobs.Head(workspace).take([result])
    if isinstance(taken, Foreseen):
        raise taken
    return taken.said


def test_a_result_from_another_clone_is_as_if_it_was_made_here(workspace: Path) -> None:
    result = performed(workspace, DISTILL)
    head = jobs.Head(workspace)
    assert DISTILL in head.stale()
    assert take(workspace, result).startswith(f"{DISTILL}: taken in")
    assert DISTILL not in jobs.Head(workspace).stale()
    assert DISTILL not in ran(workspace)
    (workspace / f"artifacts/distilled/{FIRST}.npz").unlink()
    run(workspace, "dvc", "checkout", f"artifacts/distilled/{FIRST}.npz")
    assert take(workspace, result) == f"{DISTILL}: taken in before"


def test_a_job_leaves_others_room_on_a_gpu(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = workspace / "stages/distill.py"
    script.write_text(
        "import os\nprint('at once:', os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'])\n" + script.read_text()
    )
    ran(workspace, "plan")
    commit(workspace)

    def log(result: Path) -> str:
        with tarfile.open(result) as archive:
            header: Any = archive.extractfile(elsewhere.HEADER)
            return str(json.load(header)["log"])

    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    assert "at once: false" in log(performed(workspace, DISTILL))
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    assert "at once: true" in log(performed(workspace, DISTILL, "another")), "where the user says so"


def test_all_that_is_stale_is_made_in_the_order_of_the_graph(workspace: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    shutil.copytree(workspace, serial, symlinks=True)
    ran(serial)
    told: list[str] = []
    head = jobs.Head(workspace)
    found = engines.run(head, engines.Local(head, 2), [], told.append)
    assert found.failed == {}
    assert sorted(line.partition(":")[0] for line in told if line.endswith("starts here")) == sorted(found.taken)
    assert len(told) == 2 * len(found.taken)
    assert found.taken.index(f"evaluate@{FIRST}") > found.taken.index(DISTILL)
    assert ran(workspace) == ["report"], "which reads all results, and is no job"
    assert lock.at(workspace) == lock.at(serial)
    assert list((workspace / engines.CLONES).glob("*.tar")) == []
    assert engines.run(jobs.Head(workspace), engines.Local(head, 2), [], told.append).taken == []


def test_only_what_is_wanted_and_what_it_follows(workspace: Path) -> None:
    head = jobs.Head(workspace)
    assert engines.ready(head, [f"evaluate@{FIRST}"]) == [DISTILL]
    assert engines.ready(head, [f"evaluate@{FIRST}"], {DISTILL}) == []
    assert {DISTILL, f"distill@{SECOND}"} <= set(engines.ready(head, []))


def test_what_follows_a_failed_stage_does_not_run(workspace: Path) -> None:
    head = jobs.Head(workspace)
    engine = engines.Local(head, 1)
    submit = engine.submit

    def failing(job: jobs.Job) -> Any:
        if job.stage == DISTILL:
            return submit(job._replace(stage="distill@nothing"))
        return submit(job)

    engine.submit = failing  # type: ignore[method-assign]
    found = engines.run(head, engine, [], lambda line: None)
    assert list(found.failed) == [DISTILL]
    assert "distill@nothing: failed in" in found.failed[DISTILL]
    assert f"evaluate@{SECOND}" in found.taken
    assert f"evaluate@{FIRST}" not in found.taken


def test_a_job_whose_machine_died_runs_again(workspace: Path) -> None:
    head, asked = jobs.Head(workspace), []
    engine = engines.Local(head, 1)
    submit = engine.submit

    def dying(job: jobs.Job) -> Any:
        asked.append(job.stage)
        if len(asked) < engines.TRIES or job.stage != DISTILL:
            ended: Any = engines.Future()
            ended.set_exception(engines.LostError("gone"))
            return ended
        return submit(job)

    engine.submit = dying  # type: ignore[method-assign]
    assert engines.run(head, engine, [DISTILL], lambda line: None).taken == [DISTILL]
    assert asked == [DISTILL] * engines.TRIES
    asked.clear()
    lost = engines.run(head, engine, [f"distill@{SECOND}"], lambda line: None)
    assert "3 of 3 tries" in lost.failed[f"distill@{SECOND}"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def other_settings(workspace: Path) -> None:
    edit(workspace / "params.yaml", "steps: 1000", "steps: 1001")
    ran(workspace, "plan")


def other_code(workspace: Path) -> None:
    edit(workspace / "rcig/inner.py", "\nclass ", "\nNEW = 1\n\n\nclass ")
    ran(workspace, "plan")


def other_data(workspace: Path) -> None:
    path = workspace / "artifacts/data/mnist_sample/train.npz"
    path.write_text("other")
    entries = lock.at(workspace)
    (out,) = (one for one in entries["preprocess@mnist_sample"]["outs"] if one["path"].endswith("train.npz"))
    with path.open("rb") as file:
        out["md5"] = elsewhere.md5_of(file)
    (workspace / "dvc.lock").write_text(lock.written(entries))


def removed(workspace: Path) -> None:
    digits = read_settings()["shared"]["digits"]
    save_settings(workspace, sections(experiments={SECOND: digits[SECOND]}))
    ran(workspace, "plan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_settings, f"made of another stages.distill.{FIRST}; settings or code were changed since"),
        (other_code, f"made of another stages.distill.{FIRST}; settings or code were changed since"),
        (other_data, "made of another artifacts/data/mnist_sample/train.npz; what it reads was made anew since"),
        (removed, "no such stage is planned here"),
    ],
)
def test_a_result_of_something_else_is_refused(workspace: Path, change: Callable[[Path], None], message: str) -> None:
    result = performed(workspace, DISTILL)
    change(workspace)
    before = (workspace / "dvc.lock").read_bytes()
    with pytest.raises(jobs.RefusedError, match=message):
        take(workspace, result)
    assert (workspace / "dvc.lock").read_bytes() == before
    assert not (workspace / f"artifacts/distilled/{FIRST}.npz").exists()


def test_of_two_results_the_first_stays(workspace: Path) -> None:
    result = performed(workspace, DISTILL)
    other = rewritten(result, workspace.parent / "other.tar", content=b"as good")
    take(workspace, result)
    assert take(workspace, other) == f"{DISTILL}: made before by another run, whose result stays"
    assert (workspace / f"artifacts/distilled/{FIRST}.npz").read_bytes() != b"as good"


def test_a_refused_result_does_not_keep_others_out(workspace: Path) -> None:
    first, second = performed(workspace, DISTILL), performed(workspace, f"distill@{SECOND}", "other")
    evil = rewritten(first, workspace.parent / "evil.tar", npz="rcig/inner.py")
    refused, lost, taken = jobs.Head(workspace).take([evil, workspace.parent / "none.tar", second])
    assert isinstance(refused, jobs.RefusedError)
    assert isinstance(lost, StoreError)
    assert isinstance(taken, jobs.Taken)
    stale = jobs.Head(workspace).stale()
    assert DISTILL in stale
    assert f"distill@{SECOND}" not in stale


def rewritten(result: Path, path: Path, content: bytes | None = None, **renamed: str) -> Path:
    """A result with another content of its set, as its entry says; or with members of other names."""
    with tarfile.open(result) as archive:
        members = {one.name: archive.extractfile(one).read() for one in archive.getmembers()}  # type: ignore[union-attr]
    header = json.loads(members.pop(elsewhere.HEADER))
    if content is not None:
        out = next(out for out in header["entry"]["outs"] if out["path"].endswith(".npz"))
        members[out["path"]] = content
        out |= {"md5": elsewhere.md5_of(io.BytesIO(content)), "size": len(content)}
    for old, new in renamed.items():
        out = next(out for out in header["entry"]["outs"] if out["path"].endswith(old))
        members = {new if name == out["path"] else name: data for name, data in members.items()}
        out["path"] = new
    with tarfile.open(path, "w") as archive:
        for name, data in {elsewhere.HEADER: json.dumps(header).encode(), **members}.items():
            elsewhere.add(archive, name, data)
    return path


def test_outputs_are_written_only_where_those_of_the_stage_lie(workspace: Path) -> None:
    result = performed(workspace, DISTILL)
    for place in ("../out.npz", "rcig/inner.py", "/tmp/out.npz"):
        evil = rewritten(result, workspace.parent / "evil.tar", npz=place)
        with pytest.raises(
            jobs.RefusedError, match=r"dvc\.yaml has other outputs, files to read, settings or another command"
        ):
            take(workspace, evil)
    assert not (workspace.parent / "out.npz").exists()


def files_of(workspace: Path) -> list[Path]:
    return sorted(path for path in workspace.rglob("*") if path.is_file() and ".dvc" not in path.parts)


def test_half_a_result_leaves_nothing_behind(workspace: Path) -> None:
    result = performed(workspace, DISTILL)
    content = result.read_bytes()
    with tarfile.open(result) as archive:
        last = archive.getmembers()[-1].offset_data
    flipped = content[:last] + bytes([content[last] ^ 1]) + content[last + 1 :]
    before = files_of(workspace)
    cut = workspace.parent / "cut.tar"
    for damaged in (content[: last + 1], content[: last // 2], flipped, b"", b"no archive"):
        cut.write_bytes(damaged)
        with pytest.raises(StoreError):
            take(workspace, cut)
    assert files_of(workspace) == before
    with pytest.raises(StoreError, match="no such file"):
        take(workspace, workspace.parent / "none.tar")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "dvc.lock",
            "stages:\n<<<<<<< HEAD\n",
            r"dvc\.lock', .* corrupted; mend it, .*`python -m stages\.merge` after a merge",
        ),
        ("dvc.lock", "stages: {}\n", r"dvc\.lock' validation failed; mend it"),
        ("dvc.lock", "", r"dvc\.lock' validation failed; mend it"),
        ("dvc.yaml", "stages: [", r"dvc\.yaml', .* corrupted; mend it"),
        ("params.yaml", "a: [", r"params\.yaml', .* corrupted; mend it"),
        ("plan.json", "<<<<<<< HEAD\n", r"plan\.json: not readable as JSON .*`dvc repro`"),
    ],
)
def test_a_head_whose_files_are_damaged_says_so(workspace: Path, file: str, content: str, message: str) -> None:
    (workspace / file).write_text(content)
    with pytest.raises(Foreseen, match=message):
        jobs.Head(workspace).stale()


def test_a_full_disk_leaves_nothing_half(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = performed(workspace, DISTILL)
    copy, count = shutil.copyfileobj, []

    def full(*given: Any) -> Any:
        count.append(1)
        if len(count) == 2:
            raise OSError(28, "No space left on device")
        return copy(*given)

    monkeypatch.setattr(jobs.shutil, "copyfileobj", full)
    before = (workspace / "dvc.lock").read_bytes()
    with pytest.raises(StoreError, match="no room to write it"):
        take(workspace, result)
    assert (workspace / "dvc.lock").read_bytes() == before
    assert not (workspace / f"artifacts/distilled/{FIRST}.npz").exists()
    assert not (workspace / f"results/distill/{FIRST}/summary.json").exists()


def test_what_is_not_committed_is_no_job(workspace: Path) -> None:
    edit(workspace / "rcig/inner.py", "\nclass ", "\nNEW = 1\n\n\nclass ")
    with pytest.raises(Foreseen, match=r"rcig/inner.py: not committed"):
        jobs.Head(workspace).job(DISTILL)
    run(workspace, "git", "checkout", "--", "rcig")
    head = jobs.Head(workspace)
    commit = head.job(DISTILL).commit
    edit(workspace / "rcig/inner.py", "\nclass ", "\nNEW = 1\n\n\nclass ")
    assert head.job(f"distill@{SECOND}").commit == commit, "what is edited while jobs run waits for the next start"
    with pytest.raises(ParamsError, match="'report': no stage that runs elsewhere"):
        jobs.Head(workspace).job("report")


def test_a_stage_whose_files_are_missing_is_no_job(workspace: Path) -> None:
    (workspace / "artifacts/data/mnist_sample/train.npz").unlink()
    with pytest.raises(Foreseen, match=r"train.npz: distill@.* needs it and it is not here"):
        jobs.Head(workspace).job(DISTILL)


def test_a_stage_that_reads_a_folder_says_where_it_can_run(workspace: Path) -> None:
    page = workspace / "artifacts/data/mnist_sample/train.npz"
    page.unlink()
    page.mkdir()
    with pytest.raises(Foreseen, match=rf"train.npz: {DISTILL} reads a folder.* dvc repro --single-item {DISTILL}"):
        jobs.Head(workspace).job(DISTILL)


def test_an_empty_name_is_no_stage_and_runs_nothing(workspace: Path) -> None:
    before = (workspace / "dvc.lock").read_bytes()
    command = ("python", "-m", "stages.cluster", "--one", "", "--return", "result.tar")
    assert "'': no stage that runs elsewhere" in run(workspace, *command, fails=True)
    assert (workspace / "dvc.lock").read_bytes() == before
    assert not (workspace / "result.tar").exists()


def test_half_a_clone_is_made_anew(workspace: Path) -> None:
    """Git would take the repository above it."""
    clone = workspace / engines.CLONES / "0"
    (clone / ".git").mkdir(parents=True)
    page = workspace / "inputs" / "none"
    page.write_text("edited, not committed")
    head = jobs.Head(workspace)
    job = jobs.Job(DISTILL, run(workspace, "git", "rev-parse", "HEAD").strip(), head.needs(DISTILL))
    jobs.perform(job, str(workspace), lambda path: (workspace / path).open("rb"), clone, workspace / "result.tar")
    assert page.read_text() == "edited, not committed"
    assert run(workspace, "git", "symbolic-ref", "HEAD")
    assert (clone / ".git" / "HEAD").exists()


def test_a_job_whose_files_are_missing_fails_alone(workspace: Path) -> None:
    result = performed(workspace, DISTILL)
    take(workspace, result)
    (workspace / f"artifacts/distilled/{FIRST}.npz").unlink()
    head = jobs.Head(workspace)
    found = engines.run(head, engines.Local(head, 1), [], lambda line: None)
    assert f"artifacts/distilled/{FIRST}.npz: evaluate@{FIRST} needs it" in found.failed[f"evaluate@{FIRST}"]
    assert f"evaluate@{SECOND}" in found.taken


def test_outputs_that_are_links_travel_as_files(workspace: Path) -> None:
    run(workspace, "dvc", "config", "cache.type", "symlink")
    commit(workspace)
    assert take(workspace, performed(workspace, DISTILL)).startswith(f"{DISTILL}: taken in")


@pytest.mark.parametrize("part", ["deps", "params"])
def test_an_entry_that_says_less_is_refused(workspace: Path, part: str) -> None:
    result = performed(workspace, DISTILL)
    short = workspace.parent / "short.tar"
    with tarfile.open(result) as archive, tarfile.open(short, "w") as made:
        for member in archive.getmembers():
            content = archive.extractfile(member).read()  # type: ignore[union-attr]
            if member.name == elsewhere.HEADER:
                header = json.loads(content)
                del header["entry"][part]
                content = json.dumps(header).encode()
            elsewhere.add(made, member.name, content)
    with pytest.raises(
        jobs.RefusedError, match=r"dvc\.yaml has other outputs, files to read, settings or another command"
    ):
        take(workspace, short)


def test_a_clone_is_brought_to_the_commit_of_the_next_job(workspace: Path) -> None:
    performed(workspace, DISTILL)
    other_settings(workspace)
    commit(workspace)
    result = performed(workspace, DISTILL)
    assert take(workspace, result).startswith(f"{DISTILL}: taken in")


def test_a_job_goes_on_in_whichever_clone_is_free(workspace: Path) -> None:
    for clone in ("one", "two"):
        performed(workspace, DISTILL, clone)
    (workspace.parent / "one" / ".checkpoints" / "reached").touch()
    assert (workspace.parent / "two" / ".checkpoints" / "reached").exists()


def test_the_command_on_files(workspace: Path) -> None:
    """As the jobs of a batch system do it."""
    listed = run(workspace, "python", "-m", "stages.cluster", "--list", f"evaluate@{FIRST}")
    assert listed.split() == [DISTILL]
    said = run(workspace, "python", "-m", "stages.cluster", "--one", "distill@x", "--return", "x.tar", fails=True)
    assert "error: 'distill@x': no stage that runs elsewhere" in said
    result = performed(workspace, DISTILL)
    assert f"{DISTILL}: taken in" in run(workspace, "python", "-m", "stages.cluster", "--take", str(result))
    assert "--jobs: expected at least 1" in run(workspace, "python", "-m", "stages.cluster", "--jobs", "0", fails=True)
    said = run(workspace, "python", "-m", "stages.cluster", "evaluate@y", fails=True)
    assert "unknown stage 'evaluate@y'; known: " in said


@pytest.mark.parametrize("beside", [1, 3])
def test_the_time_left_is_that_of_what_is_left(beside: int) -> None:
    clock = engines.Clock()
    assert "left" not in clock.words(["distill@a"], beside), "as nothing has ended yet"
    clock.took("distill@a", 600)
    clock.took("evaluate@a", 120)
    clock.took("evaluate@b", 240)
    left = (600 + 180 + (600 + 120 + 240) / 3) / beside / 60
    assert f"about {left:.1f} left" in clock.words(["distill@b", "evaluate@c", "attack@a"], beside)


def works(number: int) -> bool:
    """Whether a process is there, other than as a status that nobody has read."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def slow(workspace: Path, seconds: int) -> None:
    """Distillations take so long, and say when they have begun."""
    script = workspace / "stages" / "distill.py"
    script.write_text(
        f"import time\nopen('{workspace}/began', 'a').close()\ntime.sleep({seconds})\n{script.read_text()}"
    )
    ran(workspace, "plan")
    commit(workspace)


@pytest.mark.slow
def test_a_stop_ends_what_runs_and_the_next_start_goes_on(workspace: Path) -> None:
    slow(workspace, 600)
    command = [sys.executable, "-m", "stages.cluster", DISTILL]
    started = subprocess.Popen(command, cwd=workspace, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until((workspace / "began").exists)
    second = run(workspace, "python", "-m", "stages.cluster", DISTILL, fails=True)
    assert "another process makes its stages now" in second
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert said.strip().splitlines()[-1].startswith("error: stopped; what was taken in stays")
    assert not psutil.Process().children(recursive=True)
    assert DISTILL in jobs.Head(workspace).stale()
    (workspace / "stages" / "distill.py").write_text(
        (workspace / "stages" / "evaluate.py").read_text().replace("evaluate", "distill")
    )
    ran(workspace, "plan")
    commit(workspace)
    assert f"{DISTILL}: taken in" in run(workspace, "python", "-m", "stages.cluster", DISTILL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "number", "shell"),
    [("demo", signal.SIGINT, "sh"), ("repro", signal.SIGINT, "bash"), ("repro", signal.SIGTERM, "sh")],
)
def test_a_stop_of_the_pipeline_is_one_line(workspace: Path, script: str, number: signal.Signals, shell: str) -> None:
    """Ctrl-C reaches all processes of a terminal, another signal one. Shells differ in what they hand on."""
    (workspace / "store").mkdir()
    slow(workspace, 600)
    command = [sys.executable, "-m", f"stages.{script}"]
    environment = os.environ | {"SHELL": f"/bin/{shell}"}
    started = subprocess.Popen(
        command, cwd=workspace, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        until((workspace / "began").exists)
        (os.killpg if number == signal.SIGINT else os.kill)(started.pid, number)
        _, said = started.communicate(timeout=60)
    finally:
        processes.end_started()
    assert started.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "error: stopped; what is made stays, and the same command goes on from there"
    assert not psutil.Process().children(recursive=True)


def test_all_that_was_started_ends_and_its_status_stays_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a shell that starts another process as soon as one has ended, and of a process that does not want to end."""
    monkeypatch.setattr(processes, "GRACE", 1.0)
    loop = "while true; do sleep 0.01; done"
    deaf = f"import pathlib, signal, time; signal.signal({signal.SIGTERM:d}, signal.SIG_IGN); "
    deaf += f"pathlib.Path({str(tmp_path / 'deaf')!r}).touch(); time.sleep(600)"
    started = [subprocess.Popen(["sh", "-c", loop]), subprocess.Popen([sys.executable, "-c", deaf])]
    until((tmp_path / "deaf").exists)
    processes.end_started()
    assert [process.wait(timeout=10) for process in started] == [-signal.SIGTERM, -signal.SIGKILL]
    assert not psutil.Process().children(recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_of_one_stage_for_another_machine_ends_it(workspace: Path, number: signal.Signals) -> None:
    slow(workspace, 600)
    command = [sys.executable, "-m", "stages.cluster", "--one", DISTILL, "--return", "result.tar"]
    started = subprocess.Popen(command, cwd=workspace, stderr=subprocess.PIPE, text=True)
    try:
        until((workspace / "began").exists)
        stage = psutil.Process(started.pid).children(recursive=True)
        started.send_signal(number)
        _, said = started.communicate(timeout=60)
    finally:
        processes.end_started()
    assert started.returncode == 130
    assert said.strip().splitlines()[-1].startswith("error: stopped; what was taken in stays")
    assert not any(works(process.pid) for process in stage)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_that_garbage_collection_has_swallowed_is_said_again(number: signal.Signals) -> None:
    script = f"""
import gc, os, time
from rcig import processes

processes.AGAIN = 0.2
gc.callbacks.append(lambda *_: (gc.callbacks.clear(), os.kill(os.getpid(), {number:d}), time.sleep(0.01)))
with processes.stoppable("that is all"):
    gc.collect()
    print("went on", flush=True)
    time.sleep(600)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, "went on\n")
    assert done.stderr.splitlines()[-1] == "error: stopped; that is all"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_a_command_starts_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    """Popen is left with the signal on its way, wherever that arrives."""
    script = f"""
import os, pathlib, subprocess
from rcig import processes

real = subprocess.Popen

def started(*given, **more):
    found = real(*given, **more)
    pathlib.Path("child").write_text(str(found.pid))
    os.kill(os.getpid(), {number:d})
    return found

subprocess.Popen = started
with processes.stoppable("that is all"):
    processes.call(["sleep", "600"], pathlib.Path(), os.environ)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (130, "error: stopped; that is all\n")
    assert not works(int((tmp_path / "child").read_text()))


def test_two_results_taken_in_at_once_are_both_there(workspace: Path) -> None:
    other = f"distill@{SECOND}"
    files = [performed(workspace, DISTILL), performed(workspace, other, "other")]
    command = [sys.executable, "-m", "stages.cluster", "--take"]
    takers = [subprocess.Popen([*command, file], cwd=workspace) for file in files]
    assert [taker.wait(120) for taker in takers] == [0, 0]
    assert not {DISTILL, other} & {*jobs.Head(workspace).stale()}


def test_a_job_that_asks_for_a_gpu_does_not_run_without_one(workspace: Path) -> None:
    head = jobs.Head(workspace, {"distill": Resources(gpus=1)})
    found = engines.run(head, engines.Local(head, 1), [DISTILL], lambda line: None)
    assert found.failed[DISTILL].startswith(f"{DISTILL}: asks for a GPU, and JAX on ")
    assert "has: cpu;" in found.failed[DISTILL]


def test_what_a_job_asks_of_a_machine(workspace: Path) -> None:
    head = jobs.Head(workspace, {"distill": Resources(cores=4, memory=2, gpus=0.5)})
    assert engines.options(head.job(DISTILL).resources) == {"num_cpus": 4, "memory": 2**31, "num_gpus": 0.5}
    assert engines.options(head.resources_of(f"evaluate@{FIRST}")) == {"num_cpus": 1, "num_gpus": 0}


def test_a_result_of_other_packages_is_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = performed(workspace, DISTILL)
    monkeypatch.setattr(jobs, "versions", lambda: {"jax": "0.1"})
    with pytest.raises(jobs.RefusedError, match=r"made with jax .*, and here is jax 0\.1; keep it as a released set"):
        take(workspace, result)


@pytest.mark.slow
def test_a_cluster_that_loses_a_machine_ends_as_a_serial_run(workspace: Path, tmp_path: Path) -> None:
    import ray  # which takes a second
    from ray.cluster_utils import Cluster

    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = machines.add_node(num_cpus=1)
    serial = tmp_path / "serial"
    shutil.copytree(workspace, serial, symlinks=True)
    ran(serial)
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if sum("taken in" in one for one in told) == 2 and "taken in" in line:
            machines.remove_node(second, allow_graceful=False)

    try:
        head = jobs.Head(workspace)
        found = engines.run(head, engines.Cluster(head, machines.address), [], tell)
    finally:
        ray.shutdown()
        machines.shutdown()
    assert found.failed == {}
    assert ran(workspace) == ["report"]
    assert lock.at(workspace) == lock.at(serial)
    for path in (serial / "results").rglob("*.json"):
        assert (workspace / path.relative_to(serial)).read_bytes() == path.read_bytes()
