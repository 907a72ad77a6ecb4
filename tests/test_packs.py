"""Packs: stages on a machine without DVC and git, there and back."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from heads import DISTILL, FIRST, SECOND, commit
from workspaces import ROOT, ran, run, until

from rcig import elsewhere, forms, jobs, lock, packed, packs, store
from rcig.errors import Foreseen, ParamsError, StoreError
from rcig.machines import Resources

EVALUATE = f"evaluate@{FIRST}"
CHECKPOINT = f".checkpoints/{FIRST}-0123456789abcdef/0.npz"


PATHS = {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def workspace(head_workspace: Path) -> Path:
    return head_workspace


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder on another machine."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


def carried(workspace: Path, there: Path, *stages: str, resources: Resources | None = None) -> None:
    """Pack stages, and unpack them there."""
    head = jobs.Head(workspace, {"distill": resources} if resources else None)
    (file,) = packs.pack(head, [*stages], workspace.parent / "pack.tar", None, [])
    with tarfile.open(file) as archive:
        archive.extractall(there, filter="data")


def worked(there: Path, *options: str, fails: bool = False, **variables: str) -> str:
    """Run the pack, on a machine that has a shell and this Python and no other program."""
    programs = there.parent / "programs"
    programs.mkdir(exist_ok=True)
    if not (programs / "sh").exists():
        (programs / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    environment = os.environ | {"PATH": str(programs)} | variables
    command = [sys.executable, "-m", "rcig.packed", *options]
    done = subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def taken(workspace: Path, there: Path) -> list[str]:
    return [*packs.unpack(jobs.Head(workspace), [there / "results.tar"], None)]


def test_what_comes_back_is_as_if_it_was_made_here(workspace: Path, there: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    shutil.copytree(workspace, serial, symlinks=True)
    ran(serial, EVALUATE)
    carried(workspace, there, EVALUATE)
    assert "2 done, 0 left" in worked(there, "--jobs", "2")
    assert [line.partition(",")[0] for line in taken(workspace, there)] == [
        f"{DISTILL}: taken in",
        f"{EVALUATE}: taken in",
    ]
    assert lock.at(workspace) == lock.at(serial)
    assert ran(workspace, EVALUATE) == []


def test_whatever_lies_among_the_inputs_is_carried_or_left(workspace: Path, there: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "note").write_text("of another place")
    (workspace / "inputs" / "leaves").symlink_to(tmp_path / "elsewhere")
    (workspace / "inputs" / "note").symlink_to(tmp_path / "elsewhere" / "note")
    (workspace / "inputs" / "Blätter.txt").write_text("ä")
    latin = os.fsdecode(b"Bl\xe4tter.txt")
    (workspace / "inputs" / latin).write_text("latin")
    commit(workspace)
    carried(workspace, there, DISTILL)
    shutil.rmtree(tmp_path / "elsewhere")
    assert "1 done, 0 left" in worked(there)
    assert (there / "inputs" / "note").read_text() == "of another place"
    assert (there / "inputs" / "Blätter.txt").read_text() == "ä"
    assert (there / "inputs" / latin).read_text() == "latin"
    assert not (there / "inputs" / "leaves").exists()


def test_it_comes_in_parts(workspace: Path, there: Path) -> None:
    parts = packs.pack(jobs.Head(workspace), [DISTILL], workspace.parent / "pack.tar", 2**18, [])
    assert len(parts) > 2
    assert {part.stat().st_size for part in parts[:-1]} == {2**18}
    assert sorted(workspace.parent.glob("*pack.tar*")) == parts
    fewer = packs.pack(jobs.Head(workspace), [DISTILL], workspace.parent / "pack.tar", 2**19, [])
    assert sorted(workspace.parent.glob("*pack.tar*")) == fewer, "parts of a larger pack do not stay"
    parts = fewer
    (there / "pack.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(there / "pack.tar") as archive:
        archive.extractall(there, filter="data")
    assert "1 done, 0 left" in worked(there)


def test_nothing_but_an_earlier_pack_gives_way_and_only_to_a_whole_one(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(size: int) -> list[Path]:
        return packs.pack(jobs.Head(workspace), [DISTILL], tmp_path / "pack.tar", size, [])

    before = {part: part.read_bytes() for part in pack(2**18)}
    with monkeypatch.context() as patch:
        patch.setattr(packs, "_split", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack(2**19)
    for number in ("2024", "2024.00"):
        other = tmp_path / f"pack.tar.{number}"
        other.write_text("precious")
        with pytest.raises(
            StoreError, match=rf"{other.name}: no part of a pack, and `cat pack\.tar\.\*` would read it"
        ):
            pack(2**19)
        assert other.read_text() == "precious"
        other.unlink()
    assert {part: part.read_bytes() for part in before} == before


def slow(workspace: Path, stage: str) -> None:
    """Where SLOW is set, a stage leaves a checkpoint and then takes ten minutes."""
    script = workspace / "stages" / f"{stage}.py"
    lines = (
        "import os, pathlib, sys, time",
        "if __name__ == '__main__' and 'SLOW' in os.environ:",
        "    checkpoint = pathlib.Path('.checkpoints', sys.argv[1] + '-0123456789abcdef', '0.npz')",
        "    checkpoint.parent.mkdir(parents=True, exist_ok=True)",
        "    checkpoint.write_bytes(b'reached' * 1000)",
        "    time.sleep(600)",
        script.read_text(),
    )
    script.write_text("\n".join(lines))
    ran(workspace, "plan")
    commit(workspace)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [(DISTILL, f"distill@{SECOND}"), (f"distill@{SECOND}", DISTILL)])
def test_stages_start_in_the_order_in_which_they_are_named(
    workspace: Path, there: Path, wanted: tuple[str, ...]
) -> None:
    carried(workspace, there, *wanted)
    started = [line.partition(":")[0] for line in worked(there).splitlines() if line.endswith(": started")]
    assert tuple(started) == wanted


def test_a_time_limit_costs_only_what_runs(workspace: Path, there: Path) -> None:
    slow(workspace, "evaluate")
    carried(workspace, there, EVALUATE)
    assert "1 done, 1 left" in worked(there, "--seconds", "9", SLOW="1")
    assert [line.partition(":")[0] for line in taken(workspace, there)] == [f"{DISTILL}"]
    said = worked(there)
    assert f"{DISTILL}: started" not in said
    assert "2 done, 0 left" in said
    assert f"{EVALUATE}: taken in" in " ".join(taken(workspace, there))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_the_time_does(workspace: Path, there: Path, number: signal.Signals) -> None:
    slow(workspace, "distill")
    carried(workspace, there, DISTILL)
    started = subprocess.Popen([sys.executable, "-m", "rcig.packed"], cwd=there, env=os.environ | {"SLOW": "1"})
    until((there / CHECKPOINT).exists)
    started.send_signal(number)
    assert started.wait(60) == 0
    assert not psutil.Process().children(recursive=True), "the stage has ended too"
    assert taken(workspace, there) == [f"{CHECKPOINT}: kept; the run goes on from it"]


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on_elsewhere(workspace: Path, there: Path, tmp_path: Path) -> None:
    slow(workspace, "distill")
    carried(workspace, there, DISTILL)
    assert "0 done, 1 left" in worked(there, "--seconds", "9", SLOW="1")
    (line,) = taken(workspace, there)
    assert line == f"{CHECKPOINT}: kept; the run goes on from it"
    assert (workspace / CHECKPOINT).read_bytes() == b"reached" * 1000
    third = tmp_path / "third"
    carried(workspace, third, DISTILL)
    script = third / "stages" / "distill.py"
    script.write_text(script.read_text().replace("* 1000", "* 1000 + b'further'"))
    pack = json.loads((third / packed.PACK).read_text())
    pack["packed"]["stages/distill.py"] = elsewhere.md5(script)
    (third / packed.PACK).write_text(json.dumps(pack))
    assert "0 done, 1 left" in worked(third, "--seconds", "9", SLOW="1")
    assert "0 done, 1 left" in worked(third, "--seconds", "1", SLOW="1"), "it has changed since, and the pack is whole"
    assert taken(workspace, third) == [f"{CHECKPOINT}: kept; the run goes on from it"]
    assert (workspace / CHECKPOINT).read_bytes() == b"reached" * 1000 + b"further"
    assert "left out, as there is another one here" in taken(workspace, there)[0]


def test_what_does_not_fit_is_said_and_stays(workspace: Path, there: Path) -> None:
    slow(workspace, "evaluate")
    carried(workspace, there, EVALUATE)
    said = worked(there, "--size", "0.001")
    assert "MiB, too large for results.tar; it stays here" in said
    assert (there / "results.tar").stat().st_size < 2**20
    assert taken(workspace, there) == []
    worked(there, "--size", "1")
    assert (there / "results.tar").stat().st_size < 2**20
    assert len(taken(workspace, there)) == 2


def test_one_pack_at_a_time_works_in_a_folder(workspace: Path, there: Path) -> None:
    carried(workspace, there, DISTILL)
    with (there / packed.PACK).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "a pack works in this folder already" in worked(there, fails=True)
    assert "1 done, 0 left" in worked(there)
    shutil.copytree(there, there.parent / "again")
    commit_other(workspace)
    carried(workspace, there.parent / "again", DISTILL)
    assert f"{DISTILL}: started" in worked(there.parent / "again"), "what another pack has made here does not count"


def commit_other(workspace: Path) -> None:
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace("steps: 1000", "steps: 1001"))
    ran(workspace, "plan")
    commit(workspace)


def test_a_stage_without_its_outputs_has_failed(workspace: Path, there: Path) -> None:
    (workspace / "stages" / "distill.py").write_text("")
    ran(workspace, "plan")
    commit(workspace)
    carried(workspace, there, DISTILL)
    assert f"failed: {DISTILL}" in worked(there, fails=True)


def test_an_input_that_has_changed_is_not_packed(workspace: Path, tmp_path: Path) -> None:
    with (workspace / "artifacts/data/mnist_sample/whitening.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(Foreseen, match=r"whitening\.npz: is not what dvc\.lock says"):
        packs.pack(jobs.Head(workspace), [DISTILL], tmp_path / "pack.tar", None, [])


def test_a_pack_that_was_damaged_does_not_run(workspace: Path, there: Path) -> None:
    carried(workspace, there, DISTILL)
    listed = [*json.loads((there / packed.PACK).read_text())["packed"]]
    for path in (next(name for name in listed if name.startswith("pack/")), "stages/distill.py"):
        content = (there / path).read_bytes()
        (there / path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert f"error: {path}: missing or damaged" in worked(there, fails=True)
        (there / path).write_bytes(content)
    (there / packed.PACK).write_text("{}")
    assert "error: pack.json: no pack" in worked(there, fails=True)
    (there / packed.PACK).unlink()
    assert "error: pack.json: no such file" in worked(there, fails=True)
    assert not (there / "logs").exists()


def test_a_stage_that_fails_is_named_with_its_log(workspace: Path, there: Path) -> None:
    (workspace / "stages" / "distill.py").write_text(
        "if __name__ == '__main__':\n    raise SystemExit('error: no luck')\n"
    )
    ran(workspace, "plan")
    commit(workspace)
    carried(workspace, there, EVALUATE)
    assert f"failed: {DISTILL}, see logs/{DISTILL}.log" in worked(there, fails=True)
    assert "error: no luck" in (there / f"logs/{DISTILL}.log").read_text()
    assert taken(workspace, there) == []


def test_a_wheel_brings_what_that_machine_lacks(workspace: Path, there: Path, tmp_path: Path) -> None:
    script = workspace / "stages" / "distill.py"
    script.write_text(f"import brought\n{script.read_text()}")
    ran(workspace, "plan")
    commit(workspace)
    carried(workspace, there, DISTILL)
    said = worked(there, fails=True)
    assert "stages.distill cannot be imported here: ModuleNotFoundError: No module named 'brought'" in said
    wheel = tmp_path / "brought-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("brought.py", "")
    head = jobs.Head(workspace)
    (file,) = packs.pack(head, [DISTILL], tmp_path / "pack.tar", None, [wheel])
    with tarfile.open(file) as archive:
        archive.extractall(there, filter="data")
    assert "1 done, 0 left" in worked(there)
    with pytest.raises(ParamsError, match="no wheel"):
        packs.pack(head, [DISTILL], tmp_path / "pack.tar", None, [script])


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources(gpus=1), f"{DISTILL}: asks for a GPU, and JAX on"),
        (Resources(memory=1e6), f"{DISTILL}: asks for 1e+06 GiB of memory"),
    ],
)
def test_the_machine_is_looked_at_first(workspace: Path, there: Path, resources: Resources, message: str) -> None:
    carried(workspace, there, DISTILL, resources=resources)
    assert message in worked(there, fails=True)
    assert not (there / "logs").exists()


def test_what_cannot_run_there_is_not_packed(workspace: Path, tmp_path: Path) -> None:
    head = jobs.Head(workspace)
    with pytest.raises(ParamsError, match="preprocess@mnist_sample: reads what only this machine has"):
        packs.pack(head, ["preprocess@mnist_sample"], tmp_path / "pack.tar", None, [])
    with pytest.raises(ParamsError, match="unknown stage 'distill@x'"):
        packs.pack(head, ["distill@x"], tmp_path / "pack.tar", None, [])
    (workspace / "artifacts/data/mnist_sample/train.npz").unlink()
    with pytest.raises(Foreseen, match=r"train\.npz: distill@.* needs it"):
        packs.pack(head, [DISTILL], tmp_path / "pack.tar", None, [])
    assert not (tmp_path / "pack.tar").exists()


def test_a_result_of_another_environment_becomes_a_released_set(
    workspace: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried(workspace, there, EVALUATE)
    worked(there)
    monkeypatch.setattr(jobs, "versions", lambda: {"jax": "0.1"})
    with pytest.raises(Foreseen, match=f"{DISTILL}: refused, made with jax.*{EVALUATE}: refused"):
        taken(workspace, there)
    released: list[tuple[str, bytes, list[str]]] = []

    def release(path: Path, results: Path) -> None:
        released.append((path.name, path.read_bytes(), sorted(one.name for one in results.iterdir())))

    said = [*packs.unpack(jobs.Head(workspace), [there / "results.tar"], release)]
    content = (there / f"artifacts/distilled/{FIRST}.npz").read_bytes()
    assert released == [(f"{FIRST}.npz", content, ["curve.csv", "summary.json"])]
    assert said == [f"{EVALUATE}: left out, as no set comes of it; it can be made here"]


def test_results_that_are_cut_off_or_foreign_leave_nothing(workspace: Path, there: Path, tmp_path: Path) -> None:
    carried(workspace, there, EVALUATE)
    worked(there)
    content = (there / "results.tar").read_bytes()
    with tarfile.open(there / "results.tar") as archive:
        ends = [one.offset_data + one.size for one in archive.getmembers()]
    before = (workspace / "dvc.lock").read_bytes()
    cut = tmp_path / "cut.tar"
    for size in (0, 700, *ends[:-1], ends[0] + 1024, ends[1] - 1, ends[-1] - 1):
        cut.write_bytes(content[:size])
        with pytest.raises(Foreseen, match=r"not (a whole file of results|what a pack leaves)"):
            [*packs.unpack(jobs.Head(workspace), [cut], None)]
    assert (workspace / "dvc.lock").read_bytes() == before
    with tarfile.open(cut, "w") as archive:
        archive.add(there / f"logs/{DISTILL}.log", "../../.checkpoints/x-0/0.npz")
    for path, message in ((cut, "not what a pack leaves"), (tmp_path / "none", "no such file")):
        with pytest.raises(Foreseen, match=message):
            [*packs.unpack(jobs.Head(workspace), [path], None)]


@pytest.mark.parametrize("released", [False, True])
def test_a_damaged_result_is_named_by_the_file_that_was_given(workspace: Path, there: Path, released: bool) -> None:
    carried(workspace, there, DISTILL)
    worked(there)
    content, made = ((there / name).read_bytes() for name in ("results.tar", f"artifacts/distilled/{FIRST}.npz"))
    (there / "results.tar").write_bytes(content.replace(made, bytes([made[0] ^ 1]) + made[1:], 1))
    with pytest.raises(Foreseen) as error:
        [*packs.unpack(jobs.Head(workspace), [there / "results.tar"], (lambda *_: None) if released else None)]
    assert str(error.value) == (
        f"{there}/results.tar: {DISTILL}.tar: artifacts/distilled/{FIRST}.npz is not what its entry says; the file is"
        " damaged, send it again"
    )


def foreign(file: Path, **members: bytes) -> Path:
    """A file of results with other members."""
    listed = {"members": {name: len(content) for name, content in members.items()}, "begun": {}}
    with tarfile.open(file, "w") as archive:
        for name, content in {packed.CONTENT: json.dumps(listed).encode(), **members}.items():
            elsewhere.add(archive, name, content)
    return file


def test_what_is_wrong_does_not_keep_out_the_rest(workspace: Path, there: Path, tmp_path: Path) -> None:
    carried(workspace, there, DISTILL)
    worked(there)
    evil = {".checkpoints/../0.npz": b"x", "../out": b"x", "/tmp/out": b"x", "distill@x.tar": b"no archive"}
    bad = foreign(tmp_path / "bad.tar", **evil)
    said = run(
        *(workspace, "python", "-m", "stages.unpack", str(bad), str(tmp_path / "none"), str(there / "results.tar")),
        fails=True,
    )
    assert f"{DISTILL}: taken in" in said
    assert said.count("no file of a result") == len(evil)
    assert "no such file" in said
    assert not (workspace / "0.npz").exists()
    assert DISTILL not in jobs.Head(workspace).stale()
    assert "no clone of the project" in run(tmp_path, "python", "-m", "stages.unpack", str(bad), fails=True, **PATHS)


def images(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape).astype(np.uint8)


def test_files_are_restored_byte_by_byte(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(40, 40)).astype(np.float32)
    zeros = np.zeros((2, 2), np.float32)
    zeros[0, 1] = -0.0  # equal to its transpose in value, not in bits
    smooth = np.tile(np.arange(32, dtype=np.uint8)[None, None, :, None], (2000, 32, 1, 3))
    arrays = {
        "colour": {"images": images(rng, 7, 5, 4, 3), "labels": np.arange(7)},
        "strips": {"images": np.concatenate([smooth, images(rng, 100, 32, 32, 3)])},
        "grey": {"images": images(rng, 7, 5, 4, 1)},
        "none": {"images": images(rng, 0, 5, 4, 3)},
        "matrices": {"symmetric": matrix + matrix.T, "not": matrix, "signs": zeros, "text": np.array("a")},
    }
    for name, content in arrays.items():
        store.save_arrays(tmp_path / name, content)
    np.savez_compressed(tmp_path / "foreign", images=images(rng, 7, 5, 4, 3))
    (tmp_path / "text").write_text("text")
    expected = {"colour": "jpeg_xl", "strips": "jpeg_xl", "foreign.npz": "file", "text": "file"}
    for name in (*arrays, "foreign.npz", "text"):
        form = forms.reduce(tmp_path / name, tmp_path / "reduced")
        assert form == expected.get(name, "arrays")
        forms.restore(tmp_path / "reduced", form, tmp_path / "restored")
        assert (tmp_path / "restored").read_bytes() == (tmp_path / name).read_bytes(), name
    forms.reduce(tmp_path / "matrices", tmp_path / "reduced")
    content = (tmp_path / "reduced").read_bytes()
    for damaged in (content[:-40], content[:300] + b"damaged" + content[307:], b""):
        (tmp_path / "reduced").write_bytes(damaged)
        with pytest.raises(StoreError, match="not a file in its compact form"):
            forms.restore(tmp_path / "reduced", "arrays", tmp_path / "again")
        assert not (tmp_path / "again").exists()


def test_the_commands(workspace: Path, there: Path) -> None:
    said = run(workspace, "python", "-m", "stages.pack", DISTILL, "--to", "../p.tar", "--part", "0.3")
    parts = sorted(workspace.parent.glob("p.tar.*"))
    assert said.count(" MiB\n") == len(parts) > 1
    (there / "p.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    run(there, "tar", "xf", "p.tar")
    worked(there)
    results = str(there / "results.tar")
    said = run(workspace, "python", "-m", "stages.cluster", "--take", results, fails=True)
    assert said == f"error: {results}: of a pack; take it in: python -m stages.unpack {results}\n"
    assert f"{DISTILL}: taken in" in run(workspace, "python", "-m", "stages.unpack", results)
    for size in ("-1", "0.01", "nan", "inf"):
        said = run(workspace, "python", "-m", "stages.pack", DISTILL, "--part", size, fails=True)
        assert "--part: expected at least 0.1 MiB" in said
    for options in (("--jobs", "0"), ("--seconds", "nan"), ("--size", "-1")):
        assert "expected --jobs of at least 1" in worked(there, *options, fails=True)
