"""What a stranger finds in an export: pictures, arrays, a whitening, a recipe; and where none is written."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_sets import META, arrays

import rcig
from rcig import exporting, whiten
from rcig.errors import StoreError
from rcig.sets import DistilledSet


def a_set(channels: int = 1) -> DistilledSet:
    """Three real images, which are noise, and soft labels."""
    raw = np.random.default_rng(1).integers(0, 256, (300, 8, 8, channels)).astype(np.uint8)
    whitening = whiten.fit(raw, "standard" if channels == 1 else "zca")
    return DistilledSet(np.asarray(whiten.apply(whitening, raw[:3])), arrays()["labels"][0], raw[:3], META, whitening)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_pictures(tmp_path: Path, channels: int) -> None:
    distilled = a_set(channels)
    rcig.export(distilled, tmp_path / "out")
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
    distilled, out = a_set(), tmp_path / "out"
    many = DistilledSet(*(np.repeat(part, 40, 0) for part in distilled[:3]), *distilled[3:])
    rcig.export(many, out)
    assert len(list(out.glob("*.png"))) == 120
    rcig.export(distilled, out)
    rest = {"metadata.csv", "README.md", "set.npz", "whitening.npz", "recipe.json", "pytorch.py"}
    assert {path.name for path in out.iterdir()} == {"0.png", "1.png", "2.png"} | rest
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize(
    "name", ["mine.png", "99.png", "7777.png/", "notes.txt", "metadata.csv", "README.md", "0.png", "folder/"]
)
def test_a_folder_with_anything_else_in_it_is_refused(tmp_path: Path, name: str) -> None:
    distilled, out = a_set(), tmp_path / "out"
    rcig.export(distilled, out)
    (out / name).mkdir() if name.endswith("/") else (out / name).write_text("mine")
    before = sorted(out.iterdir())
    with pytest.raises(StoreError, match=r"out: is there and is not an earlier export; name another folder"):
        rcig.export(distilled, out)
    assert sorted(out.iterdir()) == before


def test_an_export_that_is_not_moved_into_place_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distilled, out = a_set(), tmp_path / "out"
    rcig.export(distilled, out)
    before, rename = {path.name: path.read_bytes() for path in out.iterdir()}, Path.rename

    def fails(path: Path, target: Path) -> None:
        if path.name == "whole":
            raise KeyboardInterrupt
        rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(KeyboardInterrupt):
        rcig.export(distilled, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("moved", [True, False])
def test_what_a_killed_export_left_is_removed_and_an_earlier_one_is_put_back(tmp_path: Path, moved: bool) -> None:
    """It was killed between the two moves, or before them. What another export is writing stays."""
    distilled, out = a_set(), tmp_path / "out"
    abandoned = tmp_path / ".out.abcdefg_.tmp"
    if moved:
        (abandoned / "before").mkdir(parents=True)
        (abandoned / "before" / "notes.txt").write_text("mine")
    else:
        (abandoned / "whole").mkdir(parents=True)
    with exporting._beside(out) as beside:
        assert beside.is_dir()
        if moved:
            with pytest.raises(StoreError, match="is not an earlier export"):
                rcig.export(distilled, out)
            assert (out / "notes.txt").read_text() == "mine"
        else:
            rcig.export(distilled, out)
        assert beside.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_the_folder_in_which_it_runs_is_no_place_for_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distilled = a_set()
    (tmp_path / "out" / "in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / "in")
    for target in (".", ".."):
        with pytest.raises(StoreError, match=r"is the folder in which this runs, or one above it; name another"):
            rcig.export(distilled, target)
    assert list((tmp_path / "out" / "in").iterdir()) == []


def test_an_export_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distilled, out = a_set(), tmp_path / "out"
    rcig.export(distilled, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "card", full)
    with pytest.raises(OSError, match="No space"):
        rcig.export(DistilledSet(*(part[:1] for part in distilled[:3]), *distilled[3:]), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n@"])
def test_no_class_name_is_a_formula(tmp_path: Path, start: str) -> None:
    distilled = a_set()
    names = [f"{start}1+1", "=", "red cat"]
    rcig.export(distilled._replace(meta=META | {"class_names": names}), tmp_path / "out")
    with (tmp_path / "out" / "metadata.csv").open(newline="") as file:
        written = {int(row["label"]): row["class_name"] for row in csv.DictReader(file)}
    expected = [f"'{start.strip()}1+1", "'=", "red cat"]
    assert written == {label: expected[label] for label in written}
    assert 0 in written


def test_hugging_face_reads_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    distilled = a_set(3)
    rcig.export(distilled, tmp_path / "out")
    read = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "c"))["train"]
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in read["image"]]), distilled.pixels)
    assert list(read["label"]) == distilled.labels.argmax(1).tolist()
