"""Damaged objects: none is deleted, each is mended or named, and what is not damaged goes on."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from workspaces import ENVIRONMENT, ROOT, copy_pipeline, run

from rcig import objects

FIRST, SECOND = Path("artifacts/first.bin"), Path("artifacts/second.bin")
CONTENT = {FIRST: b"first" * 1000, SECOND: b"second" * 1000}
PIPELINE = """
stages:
  copy:
    cmd: cp artifacts/second.bin copied.bin
    deps: [artifacts/second.bin]
    outs: [copied.bin: {cache: false}]
"""


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PATH where `dvc` is what make installs."""
    beside = tmp_path_factory.mktemp("environment")
    for part in ("rcig", "stages"):
        (beside / part).symlink_to(ROOT / part)
    folder = beside / ".venv" / "bin"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "dvc", folder / "dvc")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return f"{folder}:{ENVIRONMENT['PATH']}"


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the project's code and two files of DVC in its committed store. Not to be changed."""
    folder = copy_pipeline(tmp_path_factory.mktemp("objects") / "origin")
    (folder / "dvc.yaml").write_text(PIPELINE)
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "dvc", "init", "-q")
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    (folder / ".gitignore").unlink()
    for path, content in CONTENT.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    run(folder, "dvc", "add", "-q", *map(str, CONTENT))
    run(folder, "dvc", "repro", "-q")
    run(folder, "dvc", "push", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "two files")
    return folder


@pytest.fixture
def clone(pushed: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(pushed), str(folder))
    return folder


def object_of(clone: Path, path: Path, folder: Path) -> Path:
    """Where in the clone the object of a file lies, in this folder of objects."""
    (name,) = re.findall(r"md5: (\w+)", (clone / f"{path}.dvc").read_text())
    return clone / folder / name[:2] / name[2:]


def damage(path: Path) -> bytes:
    """Change one byte, and leave the file as writable as it was. What is in it now."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    path.chmod(mode)
    return path.read_bytes()


def lines(said: str, what: str) -> list[str]:
    return [line for line in said.splitlines() if what in line]


def test_a_damaged_object_of_the_store_is_replaced_by_that_of_git(clone: Path, installed: str) -> None:
    stored = object_of(clone, FIRST, objects.STORE)
    damage(stored)
    run(clone, "dvc", "pull", PATH=installed)
    assert (clone / FIRST).read_bytes() == stored.read_bytes() == CONTENT[FIRST]
    assert run(clone, "git", "status", "--short", "store") == ""


def test_one_that_dvc_deleted_is_replaced_as_well(clone: Path, installed: str) -> None:
    object_of(clone, FIRST, objects.STORE).unlink()
    run(clone, "dvc", "pull", PATH=installed)
    assert (clone / FIRST).read_bytes() == CONTENT[FIRST]


@pytest.mark.slow
def test_no_command_deletes_one_that_git_has_damaged_as_well_and_the_rest_goes_on(clone: Path, installed: str) -> None:
    stored = object_of(clone, FIRST, objects.STORE)
    content = damage(stored)
    run(clone, "git", "commit", "-qam", "damaged")
    for command in (["pull"], ["fetch"], ["repro", "--pull"], ["push"], ["status", "--cloud"]):
        # some of them fail, as they may
        said = run(clone, "sh", "-c", f"dvc {' '.join(command)} 2>&1 || true", PATH=installed)
        (line,) = lines(said, "error: ")
        assert f"{stored.relative_to(clone)} ({FIRST}): damaged" in line
        assert "`git checkout COMMIT -- store/" in line
        assert stored.read_bytes() == content, command
    assert not (clone / FIRST).exists(), "what is damaged is not put in place"
    assert (clone / SECOND).read_bytes() == CONTENT[SECOND]
    run(clone, "git", "checkout", "-q", "HEAD~", "--", str(stored.relative_to(clone)))
    run(clone, "dvc", "pull", PATH=installed)
    assert (clone / FIRST).read_bytes() == CONTENT[FIRST]


def test_after_care_any_dvc_leaves_a_damaged_object_where_it_is(clone: Path) -> None:
    written = clone / objects.STORE / "ab" / ".of-a-push.tmp"
    written.parent.mkdir(exist_ok=True)
    written.write_text("half")
    assert objects.care(clone) == ([], [])
    stored = object_of(clone, FIRST, objects.STORE)
    content = damage(stored)
    plain = f"{Path(sys.executable).parent / 'python'} -m dvc"
    run(clone, "sh", "-c", f"{plain} pull", fails=True)
    assert stored.read_bytes() == content
    assert not (clone / FIRST).exists()
    assert (clone / SECOND).read_bytes() == CONTENT[SECOND]


@pytest.mark.slow
def test_a_damaged_object_of_the_cache_is_not_handed_out_again(clone: Path, installed: str) -> None:
    run(clone, "dvc", "pull", PATH=installed)
    cached = object_of(clone, FIRST, objects.CACHE)
    damage(cached)
    (clone / FIRST).unlink()
    run(clone, sys.executable, "-m", "dvc", "checkout", str(FIRST))
    assert (clone / FIRST).read_bytes() != CONTENT[FIRST], "DVC takes what its cache has for whole"
    run(clone, "dvc", "pull", PATH=installed)
    assert (clone / FIRST).read_bytes() == cached.read_bytes() == CONTENT[FIRST]


@pytest.mark.slow
def test_what_is_said_of_a_damaged_object_of_the_cache_mends_it(clone: Path, installed: str, tmp_path: Path) -> None:
    """Where the remote is not in the clone."""
    shutil.move(clone / "store", tmp_path / "elsewhere")
    run(clone, "git", "commit", "-qam", "the store has moved")
    run(clone, "dvc", "remote", "modify", "bundled", "url", str(tmp_path / "elsewhere"))
    run(clone, "dvc", "pull", PATH=installed)
    cached = object_of(clone, FIRST, objects.CACHE)
    damage(cached)
    (clone / FIRST).unlink()
    run(clone, sys.executable, "-m", "dvc", "checkout", str(FIRST))
    (mended, (line,)) = objects.care(clone)
    assert mended == []
    assert line.startswith(f"{cached.relative_to(clone)} ({FIRST}): damaged")
    (command,) = re.findall(r"`(rm .*?)`", line)
    run(clone, "sh", "-c", command, PATH=installed)
    assert (clone / FIRST).read_bytes() == cached.read_bytes() == CONTENT[FIRST]


def test_the_store_is_mended_from_the_cache_where_git_has_nothing(clone: Path) -> None:
    run(clone, sys.executable, "-m", "dvc", "pull")
    stored = object_of(clone, FIRST, objects.STORE)
    run(clone, "git", "rm", "-q", "--cached", str(stored.relative_to(clone)))
    damage(stored)
    ((line,), lost) = objects.care(clone)
    assert "damaged; replaced by the whole copy of the cache" in line
    assert lost == []
    assert stored.read_bytes() == CONTENT[FIRST]


def test_a_folder_that_is_no_clone_has_nothing_to_look_after(tmp_path: Path) -> None:
    assert objects.care(tmp_path) == ([], [])


@pytest.mark.slow
def test_make_repro_goes_on_with_the_rest_and_ends_with_the_line(clone: Path, installed: str) -> None:
    stored = object_of(clone, FIRST, objects.STORE)
    damage(stored)
    run(clone, "git", "commit", "-qam", "damaged")
    (clone / "dvc.yaml").write_text(PIPELINE.replace("cmd: cp", "cmd: cp -f"))
    (clone / "copied.bin").unlink()
    for part in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / part, clone / part)
    shutil.copytree(ROOT / "tools", clone / "tools")
    shutil.copytree(Path(installed.split(":")[0]), clone / ".venv" / "bin")
    (clone / ".venv" / ".ready").touch()
    said = run(clone, "make", "repro", fails=True)
    assert (clone / "copied.bin").read_bytes() == CONTENT[SECOND]
    assert f"{stored.relative_to(clone)} ({FIRST}): damaged" in lines(said, "error: ")[-1]
