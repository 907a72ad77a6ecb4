"""What a stranger finds in an export: pictures, arrays, a whitening, a recipe; and where none is written."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_sets import META, NAME, arrays

import rcig
from rcig import elsewhere, exported, exporting, lock, rows, sets, store, whiten
from rcig.api import Accuracy
from rcig.errors import DataError, Foreseen, ParamsError, StoreError
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
    with pytest.raises(StoreError, match=r"/out: no room to write it \(No space left on device\); make some"):
        rcig.export(DistilledSet(*(part[:1] for part in distilled[:3]), *distilled[3:]), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_full_disk_is_said_of_the_folder_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise StoreError(f"{path}: no room to write it")

    monkeypatch.setattr(store, "save", full)
    with pytest.raises(StoreError, match=f"^{tmp_path}/out/set.npz: no room to write it$"):
        rcig.export(a_set(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [True, False])
def test_a_set_that_cannot_be_exported_is_kept_with_its_whitening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(exporting.tempfile, "tempdir", str(tmp_path / "temporary"))
    distilled, place = a_set(), tmp_path if room else tmp_path / "none"
    kept = exporting.keep(distilled, place / "out")
    assert kept.parent == (tmp_path if room else tmp_path / "temporary")
    rcig.export(kept, tmp_path / "again")
    read = rcig.load(tmp_path / "again")
    np.testing.assert_array_equal(read.images, distilled.images)
    assert read.whitening is not None
    assert read.meta == META
    monkeypatch.setattr(exporting, "_save_arrays", lambda *_: (_ for _ in ()).throw(StoreError("no room")))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError, match=r"no room for the set beside it, nor in .*temporary; make some"):
        exporting.keep(distilled, place / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_class_name_that_is_no_text_is_written(tmp_path: Path) -> None:
    names = ["\udcff", "\udcfe", "\udcfd"]
    rcig.export(a_set()._replace(meta=META | {"class_names": names}), tmp_path / "out")
    assert "\\udcff" in (tmp_path / "out" / "metadata.csv").read_text()
    assert rcig.load(tmp_path / "out").meta["class_names"] == names


WRONG: list[tuple[tuple[Any, ...], dict[str, int], type[Foreseen], str]] = [
    ((a_set(), None), {}, StoreError, "export: expected folder as text or a Path, got None"),
    ((a_set(), "out", 0.87), {}, ParamsError, "export: expected accuracy as rcig.judge returns it, got 0.87"),
    ((a_set(), "out"), {"seed": 5}, ParamsError, "export: a set has one seed; leave it out"),
    ((a_set(5), "out"), {}, DataError, "export: images of 5 channels, a PNG has 4 at most; save them by numpy.savez"),
]


@pytest.mark.parametrize(("given", "more", "error", "message"), WRONG)
def test_what_cannot_be_exported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[Any, ...],
    more: dict[str, int],
    error: type[Foreseen],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=f"^{message}$"):
        rcig.export(*given, **more)
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("channels", [1, 3])
def test_an_export_is_read_as_the_same_set(tmp_path: Path, channels: int) -> None:
    distilled = a_set(channels)
    rcig.export(distilled, tmp_path / "out")
    for place in (tmp_path / "out", str(tmp_path / "out")):
        read = rcig.load(place)
        for name in ("images", "labels", "pixels"):
            np.testing.assert_array_equal(getattr(read, name), getattr(distilled, name))
        assert read.meta == distilled.meta
        assert distilled.whitening is not None
        assert read.whitening is not None
        for name in ("mean", "std", "mean_image", "forward", "eigenvalues"):
            np.testing.assert_array_equal(getattr(read.whitening, name), getattr(distilled.whitening, name))
        np.testing.assert_allclose(read.whitening.inverse, distilled.whitening.inverse, atol=1e-4)
        np.testing.assert_array_equal(whiten.to_pixels(read.whitening, read.images), distilled.pixels)


def test_an_export_has_no_seeds_to_choose_from(tmp_path: Path) -> None:
    rcig.export(a_set(), tmp_path)
    with pytest.raises(StoreError, match="an export has one set; leave out the seed"):
        rcig.load(tmp_path, seed=3)


def test_a_place_has_no_other_source_and_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rcig.export(a_set(), "digits")
    assert rcig.load("digits").meta["dataset"] == "digits"
    for more in ({"source": "nowhere"}, {"revision": "before"}):
        with pytest.raises(StoreError, match="distilled set 'digits'"):
            rcig.load("digits", **more)  # type: ignore[arg-type]
        with pytest.raises(StoreError, match=r"set\.npz: is the path of a file, which has no source and no revision"):
            rcig.load("digits/set.npz", **more)  # type: ignore[arg-type]


def test_a_meta_of_anything_is_no_whitening(tmp_path: Path) -> None:
    distilled = a_set()._replace(whitening=None)
    for mean in ("x", [[0.5]], [0.5, 0.5], None, {"a": 1}):
        with pytest.warns(UserWarning, match="was left out"):
            rcig.export(distilled._replace(meta=META | {"mean": mean, "std": [0.1]}), tmp_path)


def test_what_anyone_reads_by_numpy_alone(tmp_path: Path) -> None:
    distilled = a_set(3)
    rcig.export(distilled, tmp_path)
    with np.load(tmp_path / "set.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], distilled.images)
        np.testing.assert_array_equal(arrays["labels"], distilled.labels)
    with np.load(tmp_path / "whitening.npz", allow_pickle=False) as arrays:
        assert arrays["forward"].shape == (192 * 193 // 2,)
        assert arrays["forward"][1] == distilled.whitening.forward[1, 0]  # type: ignore[union-attr]


def test_a_recipe_says_what_was_expected_of_which_networks(tmp_path: Path) -> None:
    distilled = a_set()
    found = Accuracy.of(np.array([0.5, 0.7]), "loo2023", 16)
    rcig.export(distilled, tmp_path / "out", found)
    recipe = store.load_json(tmp_path / "out" / "recipe.json")
    assert recipe["expected"] == {
        "accuracy": pytest.approx(0.6),
        "deviation": pytest.approx(0.1 * 2**0.5),
        "networks": 2,
        "width": 16,
        "protocol": "loo2023",
    }
    assert [stage["filters"] for stage in recipe["network"]["stages"]] == [16]
    assert (recipe["images"]["shape"], recipe["images"]["mirror"]) == ([3, 8, 8, 1], False)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Test accuracy to expect: 60.0 ± 14.1 % (2 networks of width 16" in card
    assert "python pytorch.py . test.npz" in card
    assert "width=16" in card
    rcig.export(distilled, tmp_path / "out", Accuracy.of(np.array([0.5]), "loo2023", 16))
    assert store.load_json(tmp_path / "out" / "recipe.json")["expected"]["deviation"] is None
    rcig.export(tmp_path / "out", tmp_path / "again")
    assert (tmp_path / "again" / "recipe.json").read_bytes() == (tmp_path / "out" / "recipe.json").read_bytes()
    assert (tmp_path / "again" / "README.md").read_bytes() == (tmp_path / "out" / "README.md").read_bytes()
    store.save_json(tmp_path / "again" / "recipe.json", {"expected": {"accuracy": 0.5}})
    with pytest.raises(
        StoreError, match=r"recipe\.json: does not say what accuracy to expect, but .*; export it again"
    ):
        rcig.export(tmp_path / "again", tmp_path / "third")
    rcig.export(distilled, tmp_path / "out")
    assert store.load_json(tmp_path / "out" / "recipe.json")["expected"] is None
    with pytest.raises(ParamsError, match=r"the recipe is that of loo2023, the accuracy of reference; judge by it"):
        rcig.export(distilled, tmp_path / "out", Accuracy.of(np.array([0.5]), "reference", 16))


def in_a_clone(folder: Path, distilled: DistilledSet, whitening: whiten.Whitening) -> None:
    """The set of seed 5 under its name, its dataset's whitening, what its networks reached, and dvc.lock of it all."""
    meta = {key: value for key, value in distilled.meta.items() if key not in ("mean", "std")}
    parts = {
        name: np.stack([part, part]) for name, part in zip(("images", "labels", "pixels"), distilled, strict=False)
    }
    path = folder / sets.FOLDER / f"{NAME}.npz"
    store.save(path, store.DISTILLED, **parts, log_temperature=np.zeros(2, np.float32), meta=json.dumps(meta))
    store.save(folder / "artifacts/data/digits/whitening.npz", store.WHITENING, **whitening._asdict())
    shared = {"dataset": "digits", "images_per_class": 1, "architecture": "conv", "metric": "accuracy"}
    said: list[rows.Row] = []
    for method, protocol, seed, step, value in (
        ("rcig", "loo2023", 5, 1000, 0.75),
        ("rcig", "loo2023", 5, 500, 0.5),
        ("rcig", "loo2023", 3, 1000, 0.25),
        ("rcig", "reference", 5, 1000, 0.125),
        ("rcig+part", "loo2023", 5, 1000, 0.0625),
    ):
        row = shared | {"method": method, "protocol": protocol, "seed": seed, "step": step, "width": 64}
        said += rows.by_network([value, value], **row)
    result, summary = f"results/evaluate/{NAME}.csv", f"results/distill/{NAME}/summary.json"
    rows.save(folder / result, NAME, said, "code")
    versions = {"revision": "a commit", "machine": "a box", "versions": {}}
    store.save_json(folder / summary, versions | {"width": 4, "steps": 10, "seconds": 60, "heldout_accuracy": 0.5})
    made, judged, known = (
        [{"path": name, "md5": elsewhere.md5(folder / name)}]
        for name in (path.relative_to(folder).as_posix(), result, summary)
    )
    entries = {f"distill@{NAME}": {"outs": made + known}, f"evaluate@{NAME}": {"deps": made, "outs": judged}}
    (folder / "dvc.lock").write_text(lock.written(entries))


def test_a_set_of_a_clone_has_the_whitening_and_the_results_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distilled = a_set(3)
    assert distilled.whitening is not None
    in_a_clone(tmp_path, distilled, distilled.whitening)
    monkeypatch.chdir(tmp_path)
    rcig.export(NAME, "out", seed=5)
    recipe = store.load_json(Path("out/recipe.json"))
    assert (recipe["expected"]["accuracy"], recipe["expected"]["networks"], recipe["expected"]["width"]) == (
        0.75,
        2,
        64,
    )
    assert recipe["whitening"]["kind"] == "zca"
    assert rcig.load("out").meta["seeds"] == [5]
    assert "| seeds | 5 |" in Path("out/README.md").read_text()
    rcig.export(NAME, "first")
    assert rcig.load("first").meta["seeds"] == [3]
    assert store.load_json(Path("first/recipe.json"))["expected"]["accuracy"] == 0.25
    read = rcig.load("out").whitening
    assert read is not None
    np.testing.assert_array_equal(read.forward, distilled.whitening.forward)
    rcig.export(f"{sets.FOLDER}/{NAME}.npz", "file")
    assert store.load_json(Path("file/recipe.json"))["expected"] is None, "a file may be anybody's"


@pytest.mark.parametrize("changed", ["set", "result", "lock", "export"])
def test_results_of_another_set_are_not_those_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """It was distilled anew and not judged since, was judged without a record, or has but the name of an experiment."""
    distilled = a_set(3)
    assert distilled.whitening is not None
    in_a_clone(tmp_path, distilled, distilled.whitening)
    monkeypatch.chdir(tmp_path)
    summary = Path("results/distill", NAME, "summary.json")
    assert exporting.is_of_set("distill", NAME, summary)
    if changed == "set":
        store.save(Path(sets.FOLDER, f"{NAME}.npz"), store.DISTILLED, **arrays(3), meta=json.dumps(META))
    elif changed == "result":
        for path in (summary, Path("results/evaluate", f"{NAME}.csv")):
            path.write_text(f"{path.read_text()}\n")
    elif changed == "lock":
        Path("dvc.lock").unlink()
    else:
        rcig.export(distilled, NAME)
    assert not exporting.is_of_set("distill", NAME, summary)
    assert exporting.recorded(NAME, 5) is None


def test_results_are_of_a_set_that_is_yet_to_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distilled = a_set(3)
    assert distilled.whitening is not None
    in_a_clone(tmp_path, distilled, distilled.whitening)
    monkeypatch.chdir(tmp_path)
    Path(sets.FOLDER, f"{NAME}.npz").unlink()
    found = exporting.recorded(NAME, 5)
    assert found is not None
    assert found.mean == 0.75
    entries = lock.at(Path())
    entries[f"distill@{NAME}"] = {"outs": [{"path": f"{sets.FOLDER}/{NAME}.npz", "md5": "another"}]}
    Path("dvc.lock").write_text(lock.written(entries))
    assert exporting.recorded(NAME, 5) is None


def test_the_whitening_of_another_dataset_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distilled, rng = a_set(3), np.random.default_rng(2)
    in_a_clone(tmp_path, distilled, whiten.fit(rng.integers(0, 90, (300, 8, 8, 3)).astype(np.uint8), "zca"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="its pixels are not its images by the whitening of the dataset"):
        rcig.export(NAME, "out")
    assert not Path("out").exists()


def test_a_set_for_the_whitening_of_others_has_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distilled, rng = a_set(3), np.random.default_rng(3)
    train = rng.integers(0, 256, (300, 8, 8, 3)).astype(np.uint8)
    theirs = whiten.fit_kornia(train)
    images = np.asarray(whiten.apply(theirs, distilled.pixels))
    meta = distilled.meta | {"settings": {"input": "kornia_zca"}}
    in_a_clone(tmp_path, distilled._replace(images=images, meta=meta), whiten.fit(train, "zca"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "artifacts/data/digits"
    labels = np.arange(300, dtype=np.int32) % 3
    store.save(folder / "train.npz", store.SPLIT, images=train, labels=labels, class_names=["a", "b", "c"])
    rcig.export(NAME, "out", seed=5)
    read = rcig.load("out").whitening
    assert read is not None
    np.testing.assert_allclose(read.forward, theirs.forward, rtol=1e-4)


def test_mean_and_deviation_are_a_whitening_where_they_are_all(tmp_path: Path) -> None:
    distilled = a_set()
    assert distilled.whitening is not None
    said = {"mean": distilled.whitening.mean.tolist(), "std": distilled.whitening.std.tolist()}
    rcig.export(distilled._replace(meta=META | said, whitening=None), tmp_path)
    read = rcig.load(tmp_path).whitening
    assert read is not None
    np.testing.assert_array_equal(read.std, distilled.whitening.std)
    grey, colour = a_set()._replace(whitening=None), a_set(3)
    assert colour.whitening is not None
    zca = colour._replace(meta=META | {"mean": colour.whitening.mean.tolist(), "std": [0.3] * 3}, whitening=None)
    for distilled in (grey, zca):
        with pytest.warns(UserWarning, match=r"the whitening of digits is not here and was left out.*export again"):
            rcig.export(distilled, tmp_path)
        assert rcig.load(tmp_path).whitening is None
        assert not (tmp_path / "whitening.npz").exists()


def test_a_dataset_whose_name_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    distilled = a_set()._replace(meta=META | {"dataset": "../x"}, whitening=None)
    with pytest.raises(ParamsError, match=r"dataset: expected names of .* got '\.\./x'"):
        rcig.export(distilled, tmp_path)


def test_damaged_exports(tmp_path: Path) -> None:
    distilled = a_set(3)
    rcig.export(distilled, tmp_path)
    assert distilled.whitening is not None
    arrays = {name: getattr(distilled, name) for name in ("images", "labels", "pixels")} | {"meta": json.dumps(META)}
    half = exported.halved(distilled.whitening)
    for path, changed, message in (
        ("set.npz", {"images": np.full_like(arrays["images"], np.nan)}, "576 NaN or infinite images"),
        ("set.npz", {"labels": arrays["labels"][:2]}, "not a set of an export: expected labels"),
        ("set.npz", {"meta": "{}"}, "expected its meta to say dataset"),
        ("set.npz", {"meta": "["}, "its meta is no JSON"),
        ("set.npz", {"images": arrays["images"].astype(object)}, "holds Python objects"),
        ("whitening.npz", {"forward": half["forward"][:-1]}, "18527 numbers are no half of 192²"),
        ("whitening.npz", {"std": half["std"] * np.inf}, "3 NaN or infinite std"),
        ("whitening.npz", {"mean_image": half["mean_image"][:4]}, r"is not for images \(8, 8, 3\)"),
    ):
        before = (tmp_path / path).read_bytes()
        np.savez(tmp_path / path, **((arrays if path == "set.npz" else half) | changed))
        with pytest.raises(StoreError, match=f"{path}: .*{message}"):
            rcig.load(tmp_path)
        (tmp_path / path).write_bytes(before)
    (tmp_path / "set.npz").unlink()
    with pytest.raises(StoreError, match=r"set\.npz: no such file"):
        rcig.load(tmp_path)


def test_what_python_leaves_behind_is_no_change(tmp_path: Path) -> None:
    rcig.export(a_set(), tmp_path / "out")
    (tmp_path / "out" / "__pycache__").mkdir()
    rcig.export(a_set(3), tmp_path / "out")
    assert rcig.load(tmp_path / "out").images.shape[-1] == 3
    assert not (tmp_path / "out" / "__pycache__").exists()
