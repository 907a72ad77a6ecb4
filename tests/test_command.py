"""The command `rcig`: its verbs, how they end, and that they and the library need nothing of the pipeline."""

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from test_api import spots
from test_export import a_set, in_a_clone
from test_sets import NAME, save
from workspaces import ROOT

import rcig
import rcig.__main__
from rcig.api import Accuracy
from rcig.sets import DistilledSet

SMALL = ("--steps", "2", "--width", "4")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["rcig", *arguments])
    rcig.__main__.main()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs, with images of one's own."""
    monkeypatch.chdir(tmp_path)
    images, labels = spots(90, 0)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    return tmp_path


@pytest.mark.slow
def test_from_images_to_accuracy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "distil", "mine.npz", "set", "--images-per-class", "2", "--method", "frepo", *SMALL)
    assert "set: 6 images; see how good they are: python -m rcig judge set" in capsys.readouterr().out
    same = rcig.distil("mine.npz", method="frepo", images_per_class=2, steps=2, width=4)
    np.testing.assert_array_equal(rcig.load("set").images, same.images)
    call(monkeypatch, "judge", "set", "--protocol", "inner_adam", "--width", "4", "--networks", "3")
    found = rcig.judge(same, Path("mine.npz"), "inner_adam", width=4, networks=3)
    said = f"{100 * found.mean:.1f} ± {100 * found.deviation:.1f} % (3 networks of width 4, inner_adam)"
    assert f"set: test accuracy {said}" in capsys.readouterr().out
    call(monkeypatch, "show", "set")
    shown = capsys.readouterr().out
    assert "yours, 2 per class, distilled by frepo" in shown
    assert "None" not in shown
    rcig.export(same, "set", Accuracy.of(np.array([0.5, 0.7]), "loo2023", 4))
    call(monkeypatch, "show", "set")
    assert "Test accuracy 60.0 ± 14.1 % (2 networks of width 4, loo2023)" in capsys.readouterr().out
    call(monkeypatch, "export", "set", "again")
    assert "again: exported" in capsys.readouterr().out
    assert (folder / "again" / "set.npz").read_bytes() == (folder / "set" / "set.npz").read_bytes()


def test_what_is_judged_on_what(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours on their own dataset where none is named, on which theirs must be; a set of others is read as it is said."""
    asked: list[object] = []
    ours = rcig.distil(*spots(60, 0), "random_real")
    rcig.export(ours, "ours")
    rcig.export(ours._replace(meta=ours.meta | {"own": {"path": "leaves"}}), "own")
    rcig.export(ours._replace(meta=ours.meta | {"dataset": "digits"}), "named")
    (folder / "theirs.pt").touch()

    def judge(distilled: object, on: object, protocol: str, **settings: int) -> Accuracy:
        asked.append((on, protocol, settings))
        return Accuracy.of(np.array([0.5]), protocol, 4)

    def read(path: str, dataset: str, **settings: object) -> DistilledSet:
        asked.append((path, dataset, settings))
        return ours

    monkeypatch.setattr(rcig, "judge", judge, raising=False)
    monkeypatch.setattr(rcig, "read", read, raising=False)
    for more in (
        ("named",),
        ("ours", "--dataset", "digits"),
        ("own",),
        ("theirs.pt", "--dataset", "digits"),
        ("ours/set.npz", "--dataset", "digits", "--space", "kornia_zca", "--labels", "logits"),
    ):
        call(monkeypatch, "judge", *more)
    settings = {"width": 128, "networks": 2}
    on_digits = ("digits", "loo2023", settings)
    assert asked == [
        on_digits,
        on_digits,
        (Path("leaves"), "loo2023", settings),
        ("theirs.pt", "digits", {"seed": 0}),
        on_digits,
        ("ours/set.npz", "digits", {"seed": 0, "space": "kornia_zca", "labels": "logits"}),
        on_digits,
    ]
    for arguments, message in (
        (("theirs.pt",), "add --dataset NAME"),
        (("theirs.pt", "--space", "ours"), "add --dataset NAME"),
        (("nothing.npz", "--dataset", "digits"), "no such file"),
        (("ours",), "was distilled from arrays, which are kept nowhere; add --dataset NAME"),
        (("ours", "--space", "bytes"), "ours: --space and --labels are for a set of others, whose dataset is needed; "),
        (("own", "--dataset", "inputs/leaves"), "expected the name of a dataset, got 'inputs/leaves'; leave it out"),
        (("ours", "--seed", "1"), "error: ours: an export has one set; leave out the seed\n"),
    ):
        with pytest.raises(SystemExit) as ended:
            call(monkeypatch, "judge", *arguments)
        assert ended.value.code == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nothing.npz"), "nothing.npz: no such file"),
        (("show", "mine.npz"), "mine.npz: no whole set of ours (mine.npz: "),
        (("show", "mine.npz"), "one of others is not shown but judged; add --dataset"),
        (
            ("export", "nothing.npz", "set.pt"),
            "set.pt: an export is a folder, whose set.npz every tool reads; name ",
        ),
        (("export", "nothing.npz", "."), "is the folder in which this runs, or one above it; name another folder"),
        (("export", "nothing.npz", "full"), "full: is there and is not an earlier export; name another folder"),
        (("distil", "mine.npz", "full"), "full: is there and is not an earlier export; name another folder"),
        (("distil", "mine.npz", "text.npz/set"), "text.npz is no folder that can be written to; name another folder"),
        (("judge", "text.npz"), "text.npz: no whole set of ours (text.npz: "),
        (("distil", "pictures", "pictures/new/set"), "pictures/new/set: lies in pictures, and would be images of it"),
        (("distil", "none.npz", "set"), "none.npz"),
        (("distil", "text.npz", "set"), "text.npz"),
        (("add", "../x", "mine.npz"), "expected names of at most 80 letters"),
        (("distil", "mine.npz", "set", "--method", "rcgi"), "unknown method 'rcgi'; known: "),
        (("distil", "mine.npz", "set", "--steps", "0"), "rcig learns nothing in 0 steps"),
    ],
)
def test_what_was_foreseen_is_one_line_and_status_1(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").touch()
    (folder / "text.npz").write_text("no arrays")
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, *arguments)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert sorted(folder.rglob("*")) == before


def test_a_seed_that_a_set_lacks_is_said_before_anything_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(folder / "set.npz")
    with pytest.raises(SystemExit):
        call(monkeypatch, "judge", "set.npz", "--seed", "7")
    assert capsys.readouterr().err == "error: set.npz: has no seed 7; its seeds are 3, 5\n"


def test_a_set_that_cannot_be_written_where_it_was_to_be_lies_beside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = rcig.distil(*spots(60, 0), "random_real")
    capsys.readouterr()

    def distil(*_: object, **__: object) -> DistilledSet:
        (folder / "set").mkdir()
        (folder / "set" / "mine.txt").touch()
        return made

    monkeypatch.setattr(rcig, "distil", distil, raising=False)
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "distil", "mine.npz", "set")
    assert ended.value.code == 1
    (kept,) = folder.glob("set-*")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: set: could not be written (")
    assert f"; the set is in {kept}, " in line
    np.testing.assert_array_equal(rcig.load(kept).images, made.images)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_stopped_ends_in_one_line_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def write(*_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    (folder / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "temporary"))
    monkeypatch.setattr("rcig.data.sources.write", write)
    monkeypatch.setattr(os, "_exit", sys.exit)
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "distil", "mine.npz", "set")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "error: stopped; the same command starts anew\n"
    assert sorted(folder.rglob("*")) == before


def test_a_set_of_a_clone_is_shown_with_its_results(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    distilled = a_set(3)
    assert distilled.whitening is not None
    in_a_clone(folder, distilled, distilled.whitening)
    known = ("| machine | a box |", "Test accuracy 25.0 ± 0.0 % (2 networks of width 64, loo2023)")
    call(monkeypatch, "show", NAME)
    shown = capsys.readouterr().out
    assert all(words in shown for words in known)
    rcig.export(distilled, NAME)
    call(monkeypatch, "show", NAME)
    shown = capsys.readouterr().out
    assert not any(words in shown for words in known)


@pytest.mark.parametrize("arguments", [(), ("dance",), ("show",), ("export", "x"), ("distil", "a", "b", "--seed", "x")])
def test_wrong_arguments_are_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, *arguments)
    assert ended.value.code == 2
    assert "usage: rcig" in capsys.readouterr().err


def test_a_reader_that_stops_ends_it_without_a_word(folder: Path) -> None:
    """As `rcig show SET | head` does."""
    rcig.export(rcig.distil(*spots(60, 0), "random_real"), "set")
    command = [sys.executable, "-c", "from rcig.__main__ import main; main()", "show", "set"]
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize("verb", ["add", "distil", "judge", "show", "export"])
def test_help_has_an_example_that_is_understood(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, verb, "--help")
    assert ended.value.code == 0
    example = " ".join(capsys.readouterr().out.split()).split("example: python -m rcig ")[1]
    assert rcig.__main__._parser().parse_args(example.split()).verb is getattr(rcig.__main__, verb)


WITHOUT = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in set(sys.argv[1].split(",")):
            raise ModuleNotFoundError(f"{name} is no part of the library", name=name)

sys.meta_path.insert(0, Refused())
import numpy as np
import rcig
rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8), np.arange(60) % 3
distilled = rcig.distil(images, labels, "rcig", steps=1, width=2)
rcig.export(distilled, "out", rcig.judge(distilled, (images, labels), width=2, networks=1))
assert (rcig.load("out").images == distilled.images).all()
try:
    rcig.load("mnist-ipc1-rcig")
except rcig.errors.StoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_the_library_needs_nothing_of_the_pipeline(tmp_path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {line.split("[")[0].split(">")[0] for lines in extras.values() for line in lines}
    modules = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if {owner.replace("_", "-").lower() for owner in owners} <= {name.replace("_", "-") for name in names}
    }
    assert {"dvc", "tensorflow_datasets", "matplotlib"} <= modules
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, ",".join(modules)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "no distilled set 'mnist-ipc1-rcig' in ., and to fetch it needs DVC: pip install 'rcig[pipeline]'; or give the"
        " path of an .npz file or of an export\n"
    )


@pytest.mark.slow
def test_the_wheel_has_the_command_and_all_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "rcig", source / "rcig", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    options = ["--no-build-isolation", "--no-index", "--target", str(tmp_path / "installed"), str(source)]
    subprocess.run([*pip, *options], check=True, capture_output=True)
    made = {path.relative_to(source) for path in (source / "rcig").rglob("*") if path.is_file()}
    found = {path.relative_to(tmp_path / "installed") for path in (tmp_path / "installed" / "rcig").rglob("*")}
    assert made <= found
    done = subprocess.run(
        [sys.executable, tmp_path / "installed" / "bin" / "rcig", "show", "nothing.npz"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr[:27]) == (1, "error: nothing.npz: no such")
