"""From a name to arrays, from a folder, a repository or a git address; and what other tools read of an export."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from workspaces import run

import rcig
from rcig import export, sets, store
from rcig.errors import StoreError

NAME = "digits-ipc1-rcig"
META = {
    "dataset": "digits",
    "images_per_class": 1,
    "method": "rcig",
    "seeds": [3, 5],
    "class_names": ["zero", "one", "two"],
    "rcig": "0.1.0",
    "settings": {"learning_rate": 0.02},
    "loop": {"steps": 10},
}


def arrays(channels: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 3, 8, 8, channels)).astype(np.float32)
    return {
        "images": images,
        "labels": (np.eye(3) - 1 / 3 + 0.1 * rng.normal(size=(2, 3, 3))).astype(np.float32),
        "log_temperature": np.zeros(2, np.float32),
        "pixels": rng.integers(0, 256, images.shape).astype(np.uint8),
    }


def save(path: Path, channels: int = 1) -> Path:
    store.save(path, store.DISTILLED, **arrays(channels), meta=json.dumps(META))
    return path


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one set only in its remote, a folder in it, and the revision `before` that has none."""
    folder = tmp_path_factory.mktemp("sets") / "repository"
    folder.mkdir()
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "remote", "add", "-q", "-d", "bundled", "store")
    run(folder, "git", "commit", "-q", "-am", "start")
    run(folder, "git", "tag", "before")
    save(folder / sets.FOLDER / f"{NAME}.npz")
    run(folder, "dvc", "add", "-q", f"{sets.FOLDER}/{NAME}.npz")
    run(folder, "dvc", "push", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "a set")
    shutil.rmtree(folder / ".dvc" / "cache")
    (folder / sets.FOLDER / f"{NAME}.npz").unlink()
    run(folder, "git", "branch", "aside")
    return folder


def test_a_file_and_a_folder(tmp_path: Path) -> None:
    path = save(tmp_path / sets.FOLDER / f"{NAME}.npz")
    expected = arrays()
    for found in (rcig.load(str(path)), rcig.load(NAME, tmp_path), rcig.load(NAME, str(tmp_path), seed=3)):
        for part in ("images", "labels", "pixels"):
            np.testing.assert_array_equal(getattr(found, part), expected[part][0])
        assert found.meta == META
    np.testing.assert_array_equal(rcig.load(NAME, tmp_path, seed=5).pixels, expected["pixels"][1])
    with pytest.raises(StoreError, match="has no seed 0; its seeds are 3, 5"):
        rcig.load(NAME, tmp_path, seed=0)


def test_a_repository_without_the_file_and_a_git_address(repository: Path) -> None:
    for source in (repository, f"file://{repository}"):
        np.testing.assert_array_equal(rcig.load(NAME, source).pixels, arrays()["pixels"][0])
    assert not (repository / sets.FOLDER / f"{NAME}.npz").exists(), "the repository stays as it is"


def test_a_branch_and_a_commit_of_a_git_address(repository: Path) -> None:
    commit = run(repository, "git", "rev-parse", "main").strip()
    for revision in ("main", "aside", commit, commit[:10]):
        found = rcig.load(NAME, f"file://{repository}", revision)
        np.testing.assert_array_equal(found.labels, arrays()["labels"][0])


def test_dvc_get_and_import_bring_the_file(repository: Path, tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    for i, command in enumerate(("get", "import")):
        run(tmp_path, "dvc", command, "-q", str(repository), f"{sets.FOLDER}/{NAME}.npz", "-o", f"{i}.npz")
        np.testing.assert_array_equal(rcig.load(str(tmp_path / f"{i}.npz")).pixels, arrays()["pixels"][0])


def test_sets_that_are_not_there(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"no distilled set 'digits' in .*repository; it has: {NAME}"):
        rcig.load("digits", repository)
    with pytest.raises(StoreError, match=r"no distilled set .* at before; it has: none"):
        rcig.load(NAME, f"file://{repository}", "before")
    with pytest.raises(StoreError, match=r"could not be fetched .*is the repository right"):
        rcig.load(NAME, f"file://{repository}", "no-such-revision")
    with pytest.raises(StoreError, match=r"could not be fetched .*is the repository right"):
        rcig.load(NAME, tmp_path / "nowhere")
    for source in (repository, f"file://{repository}"):
        with pytest.raises(StoreError, match=r"^revision '-f': no name of a commit, branch or tag; give one$"):
            rcig.load(NAME, source, "-f")
    with pytest.raises(StoreError, match=r"no distilled set 'x+' in "):
        rcig.load(300 * "x", repository)


def damage(path: Path) -> None:
    """Change one byte."""
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def only_file(folder: Path) -> Path:
    (path,) = [path for path in folder.rglob("*") if path.is_file()]
    return path


def cure(error: StoreError) -> str:
    """The command that the one line of an error names."""
    assert "\n" not in str(error)
    return re.findall(r"`(.*?)`", str(error))[0]


def test_a_damaged_object_in_the_store_is_named_with_the_command_that_mends_it(
    repository: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "copy"))
    stored = only_file(copy / "store")
    damage(stored)
    with pytest.raises(StoreError, match=rf"^{stored.relative_to(copy)}: damaged") as caught:
        rcig.load(NAME, copy)
    run(copy, *cure(caught.value).replace("COMMIT", "HEAD").split())
    assert rcig.load(NAME, copy).meta == META


def test_a_damaged_object_in_the_cache_counts_where_there_is_no_other(repository: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "copy"))
    run(copy, "dvc", "fetch", "-q")
    cached = only_file(copy / ".dvc" / "cache" / "files")
    damage(cached)
    assert rcig.load(NAME, copy).meta == META, "the remote has a whole one"
    shutil.move(copy / "store", copy / "away")
    with pytest.raises(StoreError, match=rf"^{cached}: damaged") as caught:
        rcig.load(NAME, copy)
    shutil.move(copy / "away", copy / "store")
    run(copy, "sh", "-c", f"{cure(caught.value)} && dvc pull -q")
    assert cached.read_bytes() == only_file(copy / "store").read_bytes()


def test_a_damaged_object_of_a_git_address_is_named_by_its_place_there(repository: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "copy"))
    stored = only_file(copy / "store")
    damage(stored)
    run(copy, "git", "commit", "-qam", "damaged")
    with pytest.raises(StoreError, match=rf"^{stored.relative_to(copy)}: damaged.* in file://{copy}$") as caught:
        rcig.load(NAME, f"file://{copy}")
    run(copy, *cure(caught.value).replace("COMMIT", "HEAD~").split())
    assert rcig.load(NAME, copy).meta == META


def test_a_set_that_was_pushed_damaged_is_named_by_its_repository(repository: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "copy"))
    path = copy / sets.FOLDER / f"{NAME}.npz"
    path.write_text("no set")
    run(copy, "dvc", "add", "-q", str(path))
    path.unlink()
    with pytest.raises(StoreError, match=rf"^{sets.FOLDER}/{NAME}\.npz of {copy}: not a whole .npz file"):
        rcig.load(NAME, copy)


def test_an_object_that_was_not_pushed(repository: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "copy"))
    only_file(copy / "store").unlink()
    with pytest.raises(StoreError, match=r"could not be fetched .*was the set pushed"):
        rcig.load(NAME, copy)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_pictures(tmp_path: Path, channels: int) -> None:
    distilled = rcig.load(str(save(tmp_path / "set.npz", channels)))
    export.to_folder(distilled, tmp_path / "out")
    with (tmp_path / "out" / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row, pixels, label in zip(rows, distilled.pixels, distilled.labels, strict=True):
        shown = np.asarray(Image.open(tmp_path / "out" / row["file_name"])).reshape(pixels.shape)
        np.testing.assert_array_equal(shown, pixels)
        np.testing.assert_allclose([float(value) for value in row["soft_label"].split()], label + 1 / 3, rtol=1e-6)
        assert row["class_name"] == META["class_names"][int(row["label"])]
        assert int(row["label"]) == label.argmax()
    assert "digits, 1 per class, distilled by rcig" in (tmp_path / "out" / "README.md").read_text()


def test_an_export_replaces_an_earlier_one_as_a_whole(tmp_path: Path) -> None:
    distilled, out = rcig.load(str(save(tmp_path / "set.npz"))), tmp_path / "out"
    many = distilled._replace(pixels=np.repeat(distilled.pixels, 40, 0), labels=np.repeat(distilled.labels, 40, 0))
    export.to_folder(many, out)
    assert len(list(out.glob("*.png"))) == 120
    export.to_folder(distilled, out)
    assert {path.name for path in out.iterdir()} == {"0.png", "1.png", "2.png", "metadata.csv", "README.md"}
    assert {path.name for path in tmp_path.iterdir()} == {"set.npz", "out"}


@pytest.mark.parametrize(
    "name", ["mine.png", "99.png", "7777.png/", "notes.txt", "metadata.csv", "README.md", "0.png", "folder/"]
)
def test_a_folder_with_anything_else_in_it_is_refused(tmp_path: Path, name: str) -> None:
    distilled, out = rcig.load(str(save(tmp_path / "set.npz"))), tmp_path / "out"
    export.to_folder(distilled, out)
    (out / name).mkdir() if name.endswith("/") else (out / name).write_text("mine")
    before = sorted(out.iterdir())
    with pytest.raises(StoreError, match=r"out: is there and is not an earlier export; name another folder"):
        export.to_folder(distilled, out)
    assert sorted(out.iterdir()) == before


def test_an_export_that_is_not_moved_into_place_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distilled, out = rcig.load(str(save(tmp_path / "set.npz"))), tmp_path / "out"
    export.to_folder(distilled, out)
    before, rename = {path.name: path.read_bytes() for path in out.iterdir()}, Path.rename

    def fails(path: Path, target: Path) -> None:
        if path.name == "whole":
            raise KeyboardInterrupt
        rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(KeyboardInterrupt):
        export.to_folder(distilled, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"set.npz", "out"}


@pytest.mark.parametrize("moved", [True, False])
def test_what_a_killed_export_left_is_removed_and_an_earlier_one_is_put_back(tmp_path: Path, moved: bool) -> None:
    """It was killed between the two moves, or before them. What another export is writing stays."""
    distilled, out = rcig.load(str(save(tmp_path / "set.npz"))), tmp_path / "out"
    abandoned = tmp_path / ".out.abcdefg_.tmp"
    if moved:
        (abandoned / "before").mkdir(parents=True)
        (abandoned / "before" / "notes.txt").write_text("mine")
    else:
        (abandoned / "whole").mkdir(parents=True)
    with export._beside(out) as beside:
        assert beside.is_dir()
        if moved:
            with pytest.raises(StoreError, match="is not an earlier export"):
                export.to_folder(distilled, out)
            assert (out / "notes.txt").read_text() == "mine"
        else:
            export.to_folder(distilled, out)
        assert beside.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"set.npz", "out"}


def test_the_folder_in_which_it_runs_is_no_place_for_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distilled = rcig.load(str(save(tmp_path / "set.npz")))
    (tmp_path / "out" / "in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / "in")
    for target in (".", ".."):
        with pytest.raises(StoreError, match=r"is the folder in which this runs, or one above it; name another"):
            export.to_folder(distilled, Path(target))
    assert list((tmp_path / "out" / "in").iterdir()) == []


def test_an_export_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distilled, out = rcig.load(str(save(tmp_path / "set.npz"))), tmp_path / "out"
    export.to_folder(distilled, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "card", full)
    with pytest.raises(OSError, match="No space"):
        export.to_folder(distilled._replace(pixels=distilled.pixels[:1], labels=distilled.labels[:1]), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"set.npz", "out"}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n@"])
def test_no_class_name_is_a_formula(tmp_path: Path, start: str) -> None:
    distilled = rcig.load(str(save(tmp_path / "set.npz")))
    names = [f"{start}1+1", "=", "red cat"]
    export.to_folder(distilled._replace(meta=META | {"class_names": names}), tmp_path / "out")
    with (tmp_path / "out" / "metadata.csv").open(newline="") as file:
        written = {int(row["label"]): row["class_name"] for row in csv.DictReader(file)}
    expected = [f"'{start.strip()}1+1", "'=", "red cat"]
    assert written == {label: expected[label] for label in written}
    assert 0 in written


def test_a_card_says_how_the_set_came_about(tmp_path: Path) -> None:
    distilled = rcig.load(str(save(tmp_path / "set.npz", 3)))
    summary = {
        "revision": "abc",
        "width": 32,
        "steps": 10,
        "seconds": 12.3,
        "heldout_accuracy": 0.875,
        "machine": "two cores",
        "versions": {"jax": "1"},
    }
    text = sets.card(distilled, summary, "images.png", "a fifth | drawn once")
    for part in (
        "| tested on | a fifth \\| drawn once |",
        "3 of 8 × 8 × 3",
        "3, 5",
        "87.5 %",
        "two cores",
        "jax 1",
        "](images.png)",
        '"learning_rate": 0.02',
    ):
        assert part in text
    assert "not measured" in sets.card(distilled, summary | {"heldout_accuracy": None})


def test_hugging_face_reads_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    distilled = rcig.load(str(save(tmp_path / "set.npz", 3)))
    export.to_folder(distilled, tmp_path / "out")
    read = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "c"))["train"]
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in read["image"]]), distilled.pixels)
    assert list(read["label"]) == distilled.labels.argmax(1).tolist()


def test_torch_reads_the_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    distilled = rcig.load(str(save(tmp_path / "set.npz", 3)))
    export.to_torch(distilled, tmp_path / "set.pt")
    read = torch.load(tmp_path / "set.pt", weights_only=True)
    np.testing.assert_allclose(255 * read["images"].numpy().transpose(0, 2, 3, 1), distilled.pixels, atol=1e-4)
    np.testing.assert_allclose(read["labels"].numpy(), distilled.labels + 1 / 3, atol=1e-6)
    assert json.loads(read["meta"]) == META


def test_torch_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(StoreError, match=r"set\.pt: writing it needs PyTorch; install torch, or export to a folder"):
        export.to_torch(rcig.load(str(save(tmp_path / "set.npz"))), tmp_path / "set.pt")
    assert not (tmp_path / "set.pt").exists()


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    export.main()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / sets.FOLDER / f"{NAME}.npz")
    command(monkeypatch, NAME, "out")
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    with pytest.raises(SystemExit, match=r"error: set\.npz: no such file"):
        command(monkeypatch, "set.npz", "out")


@pytest.mark.parametrize("target", ["set.npz", "set.PT", "x.tar", "x.h5", "there.pt", "there.txt", "there.txt/out"])
def test_a_target_that_is_no_place_for_an_export_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / sets.FOLDER / f"{NAME}.npz")
    (tmp_path / "there.txt").write_text("mine")
    (tmp_path / "there.pt").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit, match=rf"^error: .*{target}: .*name another.*") as ended:
        command(monkeypatch, NAME, target)
    assert "\n" not in str(ended.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.txt").read_text() == "mine"


def test_how_the_command_is_called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, "--help")
    assert "rcig.export NAME FOLDER" in capsys.readouterr().out
    for arguments in ([], ["a"], ["a", "b", "c"]):
        with pytest.raises(SystemExit) as ended:
            command(monkeypatch, *arguments)
        assert ended.value.code == 2
        assert "rcig.export NAME FOLDER" in capsys.readouterr().err
