"""The entries of dvc.lock of two sides become one, and `python -m stages.merge` in the state that git leaves."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from workspaces import ROOT, copy_pipeline, documented, ran, read_settings, run, save_settings, sections

from rcig import lock
from rcig.errors import StoreError


def entry(out: str, settings: int = 0, **needed: str) -> lock.Entry:
    """What made the file `out` (NAME or NAME:md5), by which settings, of which files."""
    name, _, md5 = out.partition(":")
    return {
        "cmd": f"make {name}",
        "deps": [{"path": path, "md5": of} for path, of in needed.items()],
        "params": {"plan/make.json": {f"stages.make.{name}": {"settings": settings}}},
        "outs": [{"path": name, "md5": md5}],
    }


def here(files: dict[str, str] | None = None, **settings: int) -> lock.Here:
    plan = {"stages": {"make": {name: {"settings": value} for name, value in settings.items()}}}
    return lock.Here(files or {}, plan)


def earlier(one: lock.Entry) -> lock.Entry:
    """The entry as it was while stages followed plan.json."""
    return {
        **one,
        "params": {"plan.json": {key: value for keys in one["params"].values() for key, value in keys.items()}},
    }


OLD, NEW, OTHER = entry("x:old"), entry("x:new"), entry("x:other", settings=1)


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "taken"),
    [
        (None, NEW, None, NEW),
        (None, None, NEW, NEW),
        (OLD, NEW, OLD, NEW),
        (OLD, OLD, NEW, NEW),
        (OLD, NEW, NEW, NEW),
        (None, NEW, NEW, NEW),
        (OLD, OLD, None, None),
        (OLD, None, OLD, None),
        (OLD, None, None, None),
    ],
)
def test_what_one_side_has_changed_is_taken_whether_it_fits_or_not(
    base: Any, ours: Any, theirs: Any, taken: Any
) -> None:
    sides = [{} if side is None else {"x": side} for side in (base, ours, theirs)]
    assert lock.merge(*sides, here()) == ({} if taken is None else {"x": taken}, [])


@pytest.mark.parametrize("base", [{}, {"x": OLD}])
def test_of_a_stage_that_both_have_changed_the_one_that_fits_is_taken(base: dict[str, Any]) -> None:
    for settings, side, taken in ((0, "ours", NEW), (1, "theirs", OTHER)):
        merged, (note,) = lock.merge(base, {"x": NEW}, {"x": OTHER}, here(x=settings))
        assert merged == {"x": taken}
        assert note == f"x: changed on both sides, that of {side} is taken"
    merged, (note,) = lock.merge(base, {"x": NEW}, {"x": OTHER}, here(x=2))
    assert merged == {}
    assert note == (
        "x: changed on both sides, runs again: ours had another stages.make.x; theirs had another stages.make.x"
    )


def test_two_that_fit_and_differ_are_made_again() -> None:
    merged, (note,) = lock.merge({}, {"x": OLD}, {"x": NEW}, here(x=0))
    assert merged == {}
    assert note.endswith("runs again: both fit and differ")


def test_a_side_that_has_removed_what_the_other_changed_does_not_fit() -> None:
    assert lock.merge({"x": OLD}, {}, {"x": NEW}, here(x=0))[0] == {"x": NEW}
    assert lock.merge({"x": OLD}, {"x": NEW}, {}, here())[0] == {}


def test_what_follows_is_decided_by_what_its_maker_became() -> None:
    """Here `a` needs the file z, which the stage z makes, of which theirs is taken."""
    base = {"a": entry("a:0", z="0"), "z": entry("z:0")}
    ours = {"a": entry("a:1", z="1"), "z": entry("z:1", settings=1)}
    theirs = {"a": entry("a:2", z="2"), "z": entry("z:2", settings=2)}
    merged, notes = lock.merge(base, ours, theirs, here(a=0, z=2))
    assert merged == theirs
    assert list(merged) == ["a", "z"], "in the order of the file"
    assert [note.split(":")[0] for note in notes] == ["z", "a"]
    assert lock.merge(base, ours, theirs, here(a=0, z=1))[0] == ours
    assert lock.merge(base, ours, theirs, here(a=0, z=3))[0] == {}
    # Theirs alone has changed z.
    assert lock.merge(base, {"a": ours["a"], "z": base["z"]}, theirs, here(a=0, z=0))[0] == theirs


def test_two_plans_that_are_a_circle_together_are_no_trouble() -> None:
    ours = {"x": entry("x:1"), "y": entry("y:1", settings=1, x="1")}
    theirs = {"x": entry("x:2", settings=1, y="2"), "y": entry("y:2")}
    assert lock.merge({}, ours, theirs, here(x=0, y=1))[0] == ours
    assert lock.merge({}, ours, theirs, here(x=1, y=0))[0] == theirs


def test_an_entry_says_what_of_it_is_not_so_here() -> None:
    of = entry("x", settings=3, source="s", y="m")
    maker = {"y": entry("y:m")}
    assert lock.misfits(of, maker, here({"source": "s"}, x=3)) == []
    assert lock.misfits(of, {"y": entry("y:other")}, here({"source": "s"}, x=3)) == ["y"]
    assert lock.misfits(of, maker, here({"source": "other"}, x=3)) == ["source"]
    assert lock.misfits(of, {}, here()) == ["source", "y", "stages.make.x"]


def test_what_dvc_gives_no_md5_is_not_known() -> None:
    assert lock.made({"x": {"outs": [{"path": "x"}, {"path": "y", "md5": "1"}]}}) == {"y": "1"}


def test_entries_of_before_are_moved_to_the_part_of_their_stage() -> None:
    two: lock.Entry = {"params": {"plan.json": {"stages.a.x": 1, "stages.a.y": 2}}}
    assert lock.moved(two) == {"params": {"plan/a.json": {"stages.a.x": 1, "stages.a.y": 2}}}
    report: lock.Entry = {"cmd": "r", "params": {"plan.json": {"stages.report": 1}}, "outs": []}
    content = lock.written({"x": earlier(OTHER), "report": report, "y": NEW}).encode()
    assert lock.read(content) == {
        "x": OTHER,
        "report": report | {"params": {"plan/report.json": {"stages.report": 1}}},
        "y": NEW,
    }


def test_a_lock_file_is_written_as_dvc_writes_it() -> None:
    content = (ROOT / "dvc.lock").read_bytes()
    assert lock.written(lock.read(content)).encode() == content


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"<<<<<<< HEAD\n", b"stages: [", b"schema: '2.0'\n", b"- 1\n", b"stages:\n", b"stages: {a: 1}"],
)
def test_what_is_no_lock_file_is_an_error_of_one_line(content: bytes) -> None:
    with pytest.raises(StoreError, match=r"\Advc.lock: not a lock file of DVC \(.*\); restore it by git\Z"):
        lock.read(content)


def save(workspace: Path, **seeds: int) -> None:
    """Experiments of these names, each with one seed."""
    digits = read_settings()["shared"]["digits"]["mnist_sample-ipc1-random_real"]
    save_settings(workspace, sections(experiments={name: digits | {"seeds": [seed]} for name, seed in seeds.items()}))


def commit(workspace: Path, branch: str) -> None:
    ran(workspace)
    (workspace / "ran.txt").unlink()
    run(workspace, "git", "add", "-A")
    run(workspace, "git", "commit", "-q", "-m", branch)


def switch(workspace: Path, *options: str) -> None:
    run(workspace, "git", "checkout", "-q", *options)
    run(workspace, "dvc", "checkout", "-q")


def csv(workspace: Path, branch: str, name: str) -> str:
    return run(workspace, "git", "show", f"{branch}:results/evaluate/{name}.csv")


GIT_MERGE, ADD, MERGE, PULL, _, *COMMIT = documented("at-once.md", "git merge")


@pytest.mark.slow
def test_two_branches_that_each_add_an_experiment(tmp_path: Path) -> None:
    """Each also changes those that are called `first`, `second` and `both`; of them the merge keeps one of each side
    and a third value."""
    clone = copy_pipeline(tmp_path / "clone")
    run(clone, "git", "init", "-q", "-b", "main")
    run(clone, "dvc", "init", "-q")
    shutil.copy(ROOT / ".dvc" / "config", clone / ".dvc" / "config")
    save(clone, old=0, first=0, second=0, both=0)
    commit(clone, "base")
    assert run(clone, *MERGE, fails=True) == (
        "error: dvc.lock: git knows of no conflict in it; run this after a `git merge` that left one\n"
    )
    run(clone, "git", "branch", "other")
    save(clone, old=0, first=1, second=1, both=1, mine=0)
    commit(clone, "main")
    switch(clone, "other")
    save(clone, old=0, first=2, second=2, both=2, theirs=0)
    commit(clone, "other")
    switch(clone, "main")

    run(clone, *GIT_MERGE, fails=True)
    assert run(clone, *MERGE, fails=True) == (
        "error: params.yaml: in conflict; edit what git has marked, `git add params.yaml`, and run this again\n"
    )
    save(clone, old=0, first=1, second=2, both=-3, mine=0, theirs=0)
    run(clone, *ADD)
    said = run(clone, *MERGE, fails=True)
    assert said.startswith("error: params.yaml: experiments.both")
    assert said.endswith(
        "error: `dvc --wait-for-lock repro --quiet plan` failed, see above; mend it and run this again\n"
    )
    save(clone, old=0, first=1, second=2, both=3, mine=0, theirs=0)
    run(clone, *ADD)
    said = run(clone, *MERGE)
    for name, fate in {"first": "that of ours is taken", "second": "that of theirs is taken"}.items():
        for stage in ("distill", "picture", "evaluate"):
            assert f"{stage}@{name}: changed on both sides, {fate}\n" in said
    assert "distill@both: changed on both sides, runs again: ours had another stages.distill.both;" in said
    assert "conflict" not in said
    assert run(clone, "git", "ls-files", "--unmerged") == ""
    assert run(clone, "git", "diff", "--name-only") == "", "all that was merged is added"

    run(clone, *PULL)
    again = {f"{stage}@both" for stage in ("distill", "picture", "evaluate")} | {"report"}
    assert json.loads(run(clone, "dvc", "status", "--json")).keys() == again
    for name, branch in {"old": "main", "mine": "main", "first": "main", "theirs": "other", "second": "other"}.items():
        assert (clone / "results" / "evaluate" / f"{name}.csv").read_text() == csv(clone, branch, name)
    assert csv(clone, "main", "second") != csv(clone, "other", "second")
    assert ran(clone) == sorted(again)
    assert json.loads(run(clone, "dvc", "status", "--json")) == {}
    (clone / "ran.txt").unlink()
    for command in COMMIT:
        run(clone, *command)
    assert run(clone, "git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_git_never_merges_what_the_pipeline_makes_line_by_line(tmp_path: Path) -> None:
    """Two entries far from each other: without a rule of its own git would take both without a word."""
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    run(tmp_path, "git", "init", "-q", "-b", "main")
    paths = ("dvc.lock", "plan.json", "plan/x.json", "results/evaluate/x.csv", "reports/tables/x.md", "params.yaml")
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    lines = [str(i) for i in range(20)]

    def write(first: str, last: str) -> None:
        for path in paths:
            (tmp_path / path).write_text("\n".join([first, *lines, last, ""]))
        run(tmp_path, "git", "add", "-A")
        run(tmp_path, "git", "commit", "-q", "-m", first + last)

    write("a", "z")
    run(tmp_path, "git", "branch", "other")
    write("b", "z")
    run(tmp_path, "git", "checkout", "-q", "other")
    write("a", "y")
    run(tmp_path, "git", "merge", "main", fails=True)
    unmerged = run(tmp_path, "git", "diff", "--name-only", "--diff-filter=U").split()
    assert sorted(unmerged) == sorted(set(paths) - {"params.yaml"})
    assert (tmp_path / "dvc.lock").read_text().startswith("a\n")
