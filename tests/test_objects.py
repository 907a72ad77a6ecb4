"""Damaged objects: none is deleted, each is mended or named, and what is not damaged goes on."""

import re
import shutil
import subprocess
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
    folder = tmp_path / "a clone"
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
    (written.with_name(f"{30 * 'a'}.orig")).write_text("half")
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
def test_a_damaged_object_of_the_cache_is_neither_pulled_from_nor_pushed(
    clone: Path, installed: str, tmp_path: Path
) -> None:
    """Where the remote is not in the clone, which so has no whole copy."""
    shutil.move(clone / "store", tmp_path / "elsewhere")
    run(clone, "git", "commit", "-qam", "the store has moved")
    run(clone, "dvc", "remote", "modify", "bundled", "url", str(tmp_path / "elsewhere"))
    run(clone, "dvc", "pull", PATH=installed)
    cached = object_of(clone, FIRST, objects.CACHE)
    damage(cached)
    (clone / FIRST).unlink()
    run(clone, sys.executable, "-m", "dvc", "checkout", str(FIRST))
    content = cached.read_bytes()
    shutil.move(tmp_path / "elsewhere", tmp_path / "away")
    run(clone, "dvc", "push", PATH=installed)
    assert not list((tmp_path / "elsewhere").rglob(cached.name)), "what is damaged is not pushed"
    assert cached.with_name(f"{cached.name}.damaged").read_bytes() == content
    assert not (clone / FIRST).exists(), "so that `dvc pull` brings it"
    shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)
    shutil.move(tmp_path / "away", tmp_path / "elsewhere")
    cached.with_name(f"{cached.name}.damaged").rename(cached)
    (mended, (line,)) = objects.care(clone)
    assert mended == []
    assert line.startswith(f"{cached.relative_to(clone)} ({FIRST}): damaged")
    assert "`dvc pull` brings one" in line
    run(clone, "dvc", "pull", PATH=installed)
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


def test_one_that_cannot_be_mended_keeps_none_of_the_others_from_it(clone: Path) -> None:
    """Here a folder lies in its place."""
    folder, other = (object_of(clone, path, objects.STORE) for path in CONTENT)
    folder.unlink()
    folder.mkdir()
    damage(other)
    ((mended,), (lost,)) = objects.care(clone)
    assert str(other.relative_to(clone)) in mended
    assert lost == f"{folder}: a folder lies where a file belongs; move it away"
    assert other.stat().st_mode & 0o777 == objects.PROTECTED


def test_a_project_within_a_larger_repository_is_mended_as_well(clone: Path, tmp_path: Path) -> None:
    shutil.rmtree(clone / ".git")
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "git", "add", "-A")
    damage(stored := object_of(clone, FIRST, objects.STORE))
    ((line,), lost) = objects.care(clone)
    assert "whole copy of git" in line
    assert lost == []
    assert stored.read_bytes() == CONTENT[FIRST]


def test_without_git_there_is_less_to_mend_from(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    damage(object_of(clone, FIRST, objects.STORE))
    assert [len(lines) for lines in objects.care(clone)] == [0, 1]


def test_what_has_not_changed_is_not_read_again(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clone / objects.SEEN).parent.mkdir(parents=True)
    (clone / objects.SEEN).write_text("{")
    objects.care(clone)
    read = []
    monkeypatch.setattr(objects, "_has_whole", lambda path, name: read.append(path))
    assert objects.care(clone) == ([], [])
    assert read == []
    damage(stored := object_of(clone, FIRST, objects.STORE))
    objects.care(clone)
    assert read == [stored]


def test_a_lock_file_of_another_kind_is_for_dvc_to_name(clone: Path) -> None:
    for content in ("stages:", "stages: []", "stages: {a: [1]}", "- 1"):
        (clone / "dvc.lock").write_text(content)
        assert objects.care(clone) == ([], [])


def called(command: list[str], cwd: Path, path: Path | None = None, **variables: str) -> list[str]:
    """What `python` is called with by a `dvc` in an environment where it only says that: folder, PYTHONPATH, rest."""
    environment = {"PATH": f"{path}:/usr/bin:/bin" if path else "/usr/bin:/bin", **variables}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_from_wherever_dvc_is_called_the_clone_is_looked_after_by_the_code_of_the_environment(tmp_path: Path) -> None:
    own, foreign, inside = tmp_path / "my own", tmp_path / "another's", tmp_path / "another's" / "a" / "b"
    for clone in (own, foreign):
        (clone / "stages").mkdir(parents=True)
        (clone / "stages" / "check_store.py").touch()
    inside.mkdir(parents=True)
    away = tmp_path / "environments" / "x" / "bin"
    away.mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "dvc", away / "dvc")
    (away / "python").write_text('#!/bin/sh\necho "$(pwd -P)|$PYTHONPATH|$*"\n')
    (away / "python").chmod(0o755)

    def expected(checked: Path | None, cwd: Path, *arguments: str) -> list[str]:
        check = [f"{checked}|{own}|-P -m stages.check_store"] if checked else []
        return [*check, f"{cwd}||{' '.join(['-P -m dvc', *arguments])}"]

    for environment in ("link", "folder"):
        if environment == "link":
            (own / ".venv").symlink_to(away.parent)
        else:
            (own / ".venv").unlink()
            shutil.copytree(away.parent, own / ".venv")
        path = own / ".venv" / "bin"
        assert called(["dvc", "pull"], own, path) == expected(own, own, "pull")
        assert called(["dvc", "pull"], inside, path) == expected(foreign, inside, "pull")
        assert called(["dvc", "pull"], tmp_path, path) == expected(None, tmp_path, "pull")
        assert called(["dvc", "pull"], own, path, CDPATH=str(tmp_path)) == expected(own, own, "pull")
        for option in (["--cd", str(inside)], [f"--cd={inside}"], ["--cd", "another's"]):
            assert called(["dvc", *option, "pull"], tmp_path, path) == expected(foreign, tmp_path, *option, "pull")
    (tmp_path / "dvc").symlink_to(own / ".venv" / "bin" / "dvc")
    assert called(["../dvc", "pull"], foreign) == expected(foreign, foreign, "pull")


def test_no_module_of_the_folder_at_hand_is_run(installed: str, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('run')")
    assert run(tmp_path, "dvc", "--version", PATH=installed)


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
