"""Images of your own: what a source is read as, that its form and its order change nothing, and what is refused."""

import dataclasses
import io
import json
import shutil
import tracemalloc
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import archives
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as library
from PIL import Image

from rcig import store
from rcig.data import facts, looking, own, readers, sources, splits
from rcig.data.settings import Listed, Own
from rcig.data.sources import Part
from rcig.errors import DataError, ParamsError

CLASSES = ("a2", "a10", "B1")
"""in natural order"""
SIZE = (9, 9)


def pixels(count: int, seed: int = 0, shape: tuple[int, ...] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Noise uint8 (n, *shape), ordered by class, and class numbers (n,), as many of each class."""
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, np.sort(np.arange(count) % len(CLASSES))


TRAIN, TEST = pixels(12), pixels(6, 1)


def put(root: Path, part: str, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...] = CLASSES) -> None:
    """Files in the folders of their classes, the last one written first."""
    for i, (image, label) in reversed(list(enumerate(zip(images, labels, strict=True)))):
        path = root / part / names[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(here: Path) -> Path:
    """A folder with a test part, as a relative path."""
    root = Path("photos")
    put(root, "train", *TRAIN)
    put(root, "test", *TEST)
    return root


def read(part: Part) -> splits.Split:
    return splits.Split(*(np.concatenate(arrays) for arrays in zip(*part.chunks(), strict=True)))


def raw(source: str, path: Path | str, resolution: int = 9, channels: int = 1, **more: Any) -> list[bytes]:
    """The files that `preprocess` writes of a source."""
    dataset = own.open_dataset(Own(source, str(path), **more), resolution, channels)  # type: ignore[arg-type]
    files = []
    for part in (dataset.train, dataset.test):
        sources.write(Path("written.npz"), part, dataset.class_names)
        files.append(Path("written.npz").read_bytes())
    return files


def opened(source: str, path: Path | str, **more: Any) -> own.Opened:
    one = Own(source, str(path), **more)  # type: ignore[arg-type]
    return own.settle(one, own.find(one))


def test_a_folder_has_its_classes_and_files_in_natural_order(photos: Path) -> None:
    dataset = own.open_dataset(Own("folder", str(photos)), 9, 1)
    assert dataset.class_names == list(CLASSES)
    for part, (images, labels) in ((dataset.train, TRAIN), (dataset.test, TEST)):
        found = read(part)
        np.testing.assert_array_equal(found.images[..., 0], images)
        np.testing.assert_array_equal(found.labels, labels)


def test_names_are_sorted_as_people_do() -> None:
    expected = ["", "1.5", "9", "10", "a", "a1", "A2", "a2", "a2b", "a10", "a 2", "B1", "x-3", "x-10", "ä"]
    assert sorted(set(expected), key=readers.natural) == expected


def as_npz(root: Path) -> tuple[str, Path]:
    arrays = {
        "train_images": TRAIN[0],
        "train_labels": TRAIN[1],
        "test_images": TEST[0],
        "test_labels": TEST[1][:, None],
    }
    np.savez_compressed("x.npz", **arrays, class_names=np.array(CLASSES))
    return "npz", Path("x.npz")


def as_text_labels(root: Path) -> tuple[str, Path]:
    names = np.array(CLASSES)
    arrays = {"train_images": TRAIN[0], "train_labels": names[TRAIN[1]], "test_images": TEST[0][..., None]}
    np.savez("x.npz", **arrays, test_labels=names[TEST[1]])
    return "npz", Path("x.npz")


def hugging(root: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"id": datasets.Value("int32"), "img": datasets.Image()})
    features["kind"] = datasets.ClassLabel(names=list(CLASSES))

    def part(images: np.ndarray, labels: np.ndarray) -> Any:
        rows = [{"id": i, "img": Image.fromarray(one), "kind": int(labels[i])} for i, one in enumerate(images)]
        return datasets.Dataset.from_list(rows, features=features)

    return datasets.DatasetDict({"train": part(*TRAIN), "test": part(*TEST)})


def as_parquet(root: Path) -> tuple[str, Path]:
    for part, rows in hugging(root).items():
        Path("hub/data").mkdir(parents=True, exist_ok=True)
        rows.to_parquet(f"hub/data/{part}-00000-of-00001.parquet")
    return "huggingface", Path("hub")


def as_arrow(root: Path) -> tuple[str, Path]:
    hugging(root).save_to_disk("saved", num_shards={"train": 2, "test": 1})
    return "huggingface", Path("saved")


def as_imagefolder(root: Path) -> tuple[str, Path]:
    for part, (images, labels) in (("train", TRAIN), ("test", TEST)):
        place = Path("tables") / part
        place.mkdir(parents=True)
        lines = ["file_name,label"]
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(place / f"{i}.png")
            lines.append(f"{i}.png,{CLASSES[label]}")
        (place / "metadata.csv").write_text("\n".join(lines))
    return "huggingface", Path("tables")


class Prepared(library.core.GeneratorBasedBuilder, skip_registration=True):
    """The same images, as tensorflow-datasets prepares them."""

    VERSION = library.core.Version("1.0.0")
    name = "noise"

    def _info(self) -> library.core.DatasetInfo:
        features = {"image": library.features.Image(shape=(9, 9, 1))}
        label = library.features.ClassLabel(names=list(CLASSES))
        return library.core.DatasetInfo(
            builder=self, features=library.features.FeaturesDict(features | {"label": label})
        )

    def _split_generators(self, _: Any) -> dict[str, Iterator[tuple[int, dict[str, object]]]]:
        def rows(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, object]]]:
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield i, {"image": archives.encoded(image, "png"), "label": int(label)}

        return {"train": rows(*TRAIN), "test": rows(*TEST)}

    def _generate_examples(self) -> None:
        raise AssertionError("never called")


FORMS: dict[str, Callable[[Path], tuple[str, Path]]] = {
    "npz": as_npz,
    "labels as text": as_text_labels,
    "parquet": as_parquet,
    "arrow": as_arrow,
    "imagefolder": as_imagefolder,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_pixels_in_another_form_are_the_same_raw_files(
    form: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source, path = FORMS[form](photos)
    assert readers.guess(path) == source
    assert raw(source, path) == raw("folder", photos)


def test_a_prepared_dataset_of_tensorflow_datasets_is_a_source(photos: Path) -> None:
    Prepared(data_dir="prepared", file_format="array_record").download_and_prepare()
    path = Path("prepared/noise/1.0.0")
    assert readers.guess(path) == "tfds"
    dataset, expected = own.open_dataset(Own("tfds", str(path)), 9, 1), own.open_dataset(Own("folder", "photos"), 9, 1)
    assert dataset.class_names == expected.class_names
    for one, other in ((dataset.train, expected.train), (dataset.test, expected.test)):
        # It shuffles what it prepares.
        found, wanted = ({i.tobytes(): int(k) for i, k in zip(*read(part), strict=True)} for part in (one, other))
        assert found == wanted


def test_when_and_how_files_came_there_changes_nothing(photos: Path) -> None:
    first = raw("folder", photos)
    for file in sorted(photos.rglob("*.png")):
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    (photos / "train" / "a2" / ".DS_Store").write_text("hidden")
    (photos / "train" / "a2" / "notes.txt").write_text("of another kind")
    (photos / "extra").mkdir()
    assert raw("folder", photos) == first
    assert opened("folder", photos).notes == ["left out: 1 .txt, extra/"]


MODES: dict[str, tuple[Callable[[np.ndarray], Image.Image], Callable[[np.ndarray], np.ndarray]]] = {
    # how noise (h, w, 3) is stored, and what it is then as plain NumPy
    "RGB": (Image.fromarray, lambda a: a),
    "RGBA": (lambda a: Image.fromarray(np.concatenate([a, a[..., :1]], 2)), lambda a: a),
    "L": (lambda a: Image.fromarray(a[..., 0]), lambda a: a[..., :1]),
    "LA": (lambda a: Image.fromarray(a[..., :2].copy(), "LA"), lambda a: a[..., :1]),
    "I;16": (lambda a: Image.fromarray(a[..., 0].astype(np.uint16) * 256 + 7), lambda a: a[..., :1]),
    "P": (
        lambda a: Image.fromarray(a[..., 0] // 64 * 64).convert("P"),
        lambda a: np.repeat(a[..., :1] // 64 * 64, 3, 2),
    ),
    "1": (lambda a: Image.fromarray(a[..., 0] > 99), lambda a: np.where(a[..., :1] > 99, 255, 0)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_cropped_and_averaged_as_plain_numpy_does(mode: str, here: Path) -> None:
    stored, plain = MODES[mode]
    noise = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for name in ("a", "b"):
        Path("p", name).mkdir(parents=True)
        for i in range(2):
            stored(noise).save(f"p/{name}/{i}.png")
    dataset = own.open_dataset(Own("folder", "p", 0.5), 10, 3)
    square = plain(noise)[:, 10:50].reshape(10, 4, 10, 4, -1)
    expected = np.floor(square.mean((1, 3)) + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(read(dataset.train).images[0], np.broadcast_to(expected, (10, 10, 3)))
    looked = looking.look(opened("folder", "p", test_fraction=0.5))
    assert looked.modes == {mode: 4}
    assert looked.sizes == {(40, 60): 4}
    assert looked.colour == (mode in ("RGB", "RGBA"))


def test_a_photograph_is_turned_upright_before_it_is_cropped(here: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 12), dtype=np.uint8)
    for name in ("a", "b"):
        Path("p", name).mkdir(parents=True)
        tags = Image.Exif()
        tags[274] = 6  # what was taken is the stored image turned clockwise
        for i in range(2):
            Image.fromarray(np.rot90(noise)).save(f"p/{name}/{i}.png", exif=tags)
    found = read(own.open_dataset(Own("folder", "p", 0.5), 8, 1).train).images[0, ..., 0]
    np.testing.assert_array_equal(found, noise[:, 2:10])


def test_grey_that_is_stored_as_colour_is_grey_and_colour_said_to_be_grey_is_refused(here: Path) -> None:
    images, labels = pixels(12)
    put(Path("p"), "train", np.repeat(images[..., None], 3, 3), labels)
    put(Path("p"), "test", images[:, :, :6], labels)
    assert looking.decide("p", {}, "x").listed.channels == 1
    found = own.open_dataset(Own("folder", "p"), 9, 1)
    np.testing.assert_array_equal(read(found.train).images[..., 0], images)
    Image.fromarray(pixels(1, shape=(9, 9, 3))[0][0]).save("p/train/a10/7.png")
    with pytest.raises(DataError, match=r"p train: train/a10/7\.png is in colour, channels says 1; give channels: 3"):
        read(own.open_dataset(Own("folder", "p"), 9, 1).train)
    assert looking.decide("p", {}, "x").listed.channels == 3
    with pytest.raises(DataError, match="p: has images in colour, channels says 1; leave channels out"):
        looking.decide("p", {"channels": 1}, "x")


def test_a_test_part_that_is_drawn_is_the_same_fraction_of_every_class_and_always_the_same(here: Path) -> None:
    images, labels = pixels(34)
    put(Path("p"), "", images, np.sort(labels % 2))
    Path("p/a10/33.png").rename("p/lonely.png")
    one, again = (opened("folder", "p", test_fraction=0.25) for _ in range(2))
    np.testing.assert_array_equal(one.test.mask, again.test.mask)
    assert not (one.train.mask & one.test.mask).any()
    assert (one.train.mask | one.test.mask).all()
    counts = np.bincount(one.train.labels)
    np.testing.assert_array_equal(np.bincount(one.train.labels[one.test.mask]), np.round(counts / 4))
    labels = np.repeat([0, 1, 2], [1, 2, 3])
    assert np.bincount(labels[splits.test_mask(labels, 0.1)], minlength=3).tolist() == [0, 1, 1]
    assert np.bincount(labels[splits.test_mask(labels, 0.9)], minlength=3).tolist() == [0, 1, 2]


def save_npz(**changes: Any) -> Path:
    images, labels = TRAIN
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels} | changes
    np.savez("x.npz", **{name: array for name, array in arrays.items() if array is not None})
    return Path("x.npz")


def test_labels_may_begin_anywhere_and_are_numbered_from_0_on(here: Path) -> None:
    for first, step in ((1, 1), (-1, 1), (5, 10)):
        path = save_npz(train_labels=first + step * TRAIN[1], test_labels=first + step * TRAIN[1][:, None])
        found = opened("npz", path)
        np.testing.assert_array_equal(found.train.labels, TRAIN[1])
        assert found.class_names == [str(first + step * i) for i in range(3)]
    names = np.array(["x", "y", "z"])
    for first in (0, 1):
        path = save_npz(train_labels=first + TRAIN[1], test_labels=first + TRAIN[1], class_names=names)
        assert opened("npz", path).class_names == ["x", "y", "z"]
        np.testing.assert_array_equal(opened("npz", path).test.labels, TRAIN[1])


def test_validation_images_are_tested_on_only_where_there_is_no_test_part(here: Path) -> None:
    more = {"val_images": TEST[0], "val_labels": TEST[1]}
    found = opened("npz", save_npz(**more))
    assert found.test.mask.sum() == 12
    assert found.notes == ["not used: 6 validation images; all selection is made on held-out training images"]
    found = opened("npz", save_npz(test_images=None, test_labels=None, **more))
    assert found.test.mask.sum() == 6
    assert found.notes == []


@pytest.mark.parametrize("source", ["npz", "folder"])
def test_a_source_is_read_in_pieces(source: str, here: Path) -> None:
    shape, count = (64, 64, 3), 300
    images, labels = pixels(count, shape=shape)
    whole = images.nbytes
    if source == "npz":
        np.savez("x.npz", images=images, labels=labels)
        path = "x.npz"
    else:
        put(Path("x"), "", images, labels)
        path = "x"
    dataset = own.open_dataset(Own(source, path, 0.2), 8, 3)  # type: ignore[arg-type]
    tracemalloc.start()
    seen = sum(1 for _ in dataset.train.read())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == 240
    assert peak < whole / 3, f"{peak:,} of {whole:,} bytes"


def test_a_parquet_file_is_read_in_pieces_whatever_the_size_of_its_row_groups(here: Path) -> None:
    count, size = 1000, 30_000
    rng = np.random.default_rng(0)
    table = pa.table({"image": [rng.bytes(size) for _ in range(count)], "label": np.arange(count) % 2})
    # One row group of pages of some rows, and a page is the smallest piece that can be read.
    pq.write_table(table, "x.parquet", row_group_size=count, write_batch_size=16, use_dictionary=False)
    del table
    train = readers.huggingface(Path("x.parquet"), Own("huggingface", "x.parquet")).parts["train"]
    before, held, seen = pa.total_allocated_bytes(), 0, 0
    for _ in train.read(np.ones(count, bool)):
        held, seen = max(held, pa.total_allocated_bytes() - before), seen + 1
    assert seen == count
    assert held < count * size / 2, f"{held:,} of {count * size:,} bytes"


def break_some(root: Path) -> list[str]:
    names = ["train/a10/5.png", "train/B1/8.png"]
    (root / names[0]).write_bytes((root / names[0]).read_bytes()[:60])
    (root / names[1]).write_bytes(b"no image")
    return names


def test_every_broken_file_is_named_and_can_be_left_out(photos: Path) -> None:
    names = break_some(photos)
    dataset = own.open_dataset(Own("folder", str(photos)), 9, 1)
    with pytest.raises(DataError, match=f"photos train: 2 cannot be read: {', '.join(names)} .*leave_out"):
        read(dataset.train)
    found = read(own.open_dataset(Own("folder", str(photos), leave_out=tuple(names)), 9, 1).train)
    np.testing.assert_array_equal(found.images[..., 0], np.delete(TRAIN[0], [5, 8], 0))
    decided = looking.decide(str(photos), {}, "x")
    assert (list(decided.looked.broken), decided.listed.leave_out) == (names, tuple(names))
    assert decided.opened.train.mask.sum() == 10
    with pytest.raises(DataError, match=r"leave_out: photos has no train/gone\.png; correct it"):
        opened("folder", photos, leave_out=("train/gone.png", names[0]))


def test_a_file_that_is_damaged_where_it_is_read_is_named(here: Path) -> None:
    images, labels = pixels(300, shape=(64, 64))
    path = save_npz(train_images=images, train_labels=labels)
    content = bytearray(path.read_bytes())
    content[content.index(images[-1].tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz train: cannot be read to its end .*CRC.*; write it anew"):
        read(own.open_dataset(Own("npz", "x.npz"), 9, 1).train)


def test_test_images_that_are_training_images_are_counted(photos: Path) -> None:
    assert looking.decide("photos", {}, "x").looked.duplicates == 0
    for name in ("3.png", "other.png"):
        shutil.copy(photos / "train/a2/0.png", photos / "test/a10" / name)
    assert looking.decide("photos", {}, "x").looked.duplicates == 2
    dataset = own.open_dataset(Own("folder", "photos"), 9, 1)
    assert facts.duplicates(read(dataset.train), read(dataset.test)) == 2


def test_what_is_decided_of_images(here: Path) -> None:
    def decided(shape: tuple[int, ...], count: int = 300, **given: Any) -> Listed:
        images, labels = pixels(count, shape=shape)
        np.savez("x.npz", images=images, labels=labels)
        return looking.decide("x.npz", given, "x").listed

    grey = decided((9, 9))
    assert (grey.resolution, grey.channels, grey.classes, grey.depth) == (9, 1, 3, 1)
    assert (grey.whitening, grey.mirror, grey.held_out, grey.test_fraction) == ("standard", False, 0.1, 0.2)
    colour = decided((20, 70, 3), count=30)
    assert (colour.resolution, colour.channels, colour.whitening, colour.mirror) == (20, 3, "zca", True)
    assert colour.held_out == 0.2, "with few images"
    assert decided((100, 70, 3), count=30).resolution == 32
    given = decided((9, 9), resolution=5, depth=1, test_fraction=0.4)
    assert (given.resolution, given.test_fraction) == (5, 0.4)
    assert dataclasses.replace(given, resolution=9, depth=1, test_fraction=0.2) == grey
    for resolution, depth in ((32, 3), (64, 4), (128, 5)):
        assert decided((9, 9), resolution=resolution).depth == depth
    assert decided((9, 9), resolution=64, depth=2).depth == 2, "as given"
    for shape, channels, expected in (((9, 9), 3, ("zca", True)), ((9, 9), 1, ("standard", False))):
        listed = decided(shape, channels=channels)
        assert (listed.whitening, listed.mirror) == expected
    kinds = {side: decided((9, 9, 3), resolution=side).whitening for side in (64, 96, 128, 192)}
    assert kinds == {64: "zca", 96: "zca", 128: "zca_checkerboard", 192: "zca_checkerboard"}
    assert decided((9, 9), resolution=128).whitening == "standard"
    with pytest.raises(ParamsError, match=r"x\.resolution: expected a whole number, got '64'"):
        decided((9, 9), resolution="64")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", ""), "x/metadata.jsonl: row 2 names no label; complete it, or leave the row out"),
        (("a", " "), "x: a class has no name"),
        (("a", " a", "b"), "x: 2 classes are called 'a', spaces around it apart; rename all but one"),
        (("a", "caf\udce9"), r"x: 'caf\\udce9' is not UTF-8; rename it"),
    ],
)
def test_classes_that_nobody_could_tell_apart_or_write_are_refused(
    names: tuple[str, ...], message: str, here: Path
) -> None:
    Path("x").mkdir()
    images, rows = pixels(24)[0], []
    for i, image in enumerate(images):
        Image.fromarray(image).save(f"x/{i}.png")
        rows.append({"file_name": f"{i}.png", "label": names[i % len(names)]})
    Path("x/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=message):
        looking.decide("x", {}, "x")


@pytest.mark.parametrize("file", ["train/a2/caf\udce9.png", "train/a2/caf\udce9.txt", "caf\udce9/1.png"])
def test_files_whose_names_are_not_utf8_are_refused(file: str, photos: Path) -> None:
    (photos / file).parent.mkdir(exist_ok=True)
    shutil.copy(photos / "train/a2/0.png", photos / file)
    with pytest.raises(DataError, match=r"photos: '.*caf\\udce9.*' is not UTF-8; rename it"):
        looking.decide("photos", {}, "x")


FLOATS = "expected train_images as uint8 .*, got float64 .*astype"
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "floats": ({"train_images": TRAIN[0] / 255}, FLOATS),
    "channels first": ({"train_images": np.zeros((12, 3, 9, 9), np.uint8)}, r"transpose\(0, 2, 3, 1\) brings"),
    "by columns": ({"train_images": np.asfortranarray(TRAIN[0])}, "train_images is in Fortran's order; save"),
    "one-hot": ({"train_labels": np.eye(3)[TRAIN[1]]}, r"one class number or name .*argmax\(1\)"),
    "fewer labels": ({"train_labels": TRAIN[1][:5]}, r"for each of 12 images, got int64 \(5,\)"),
    "objects": ({"train_labels": TRAIN[1].astype(object)}, "train_labels holds Python objects"),
    "no labels": ({"train_labels": None}, "expected the arrays images and labels, or train_images"),
    "others": (
        dict.fromkeys(("train_images", "train_labels", "test_images", "test_labels")) | {"x": TRAIN[0]},
        "got x;",
    ),
    "one class": ({"train_labels": 0 * TRAIN[1], "test_labels": 0 * TRAIN[1]}, "has one class, 0; at least two"),
    "no test image": ({"test_labels": TRAIN[1] % 2}, "x.npz test: no image of 2; add some, or remove the class"),
    "unseen class": ({"train_labels": TRAIN[1] % 2}, "x.npz train: no image of 2"),
    "names": ({"class_names": np.array(["a", "b"])}, "names 2 classes, its labels go from 0 to 2"),
    "names of one": ({"class_names": np.array(3)}, r"expected class_names as text \(C,\)"),
    "too large": ({"train_labels": np.full(12, 2**63, np.uint64)}, "is larger than 64 bits with a sign can hold"),
    "mixed": ({"test_labels": np.array(CLASSES)[TRAIN[1]]}, "text in one part and numbers in another"),
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_arrays_that_are_no_dataset_are_one_line(what: str, here: Path) -> None:
    changes, message = BAD_ARRAYS[what]
    with pytest.raises(DataError, match=message) as error:
        opened("npz", save_npz(**changes))
    assert "\n" not in str(error.value)


def nest(root: Path) -> None:
    (root / "train/a2/deeper").mkdir()


def empty(root: Path) -> None:
    (root / "train/C").mkdir()
    (root / "train/C/readme.md").write_text("none yet")


def no_folders(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").mkdir()
    (root / "train/1.png").write_bytes(b"")


BAD_FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nested": (
        nest,
        r"photos/train/a2/deeper: a folder in the folder of a class; move its images into photos/train/a2",
    ),
    "empty class": (empty, r"photos/train/C: no image of this class \(\.png, .*\); add some, or remove the folder"),
    "no classes": (no_folders, "photos/train: has no folders; put the images of each class into a folder of its name"),
    "no train": (lambda root: shutil.rmtree(root / "train"), "photos: has test and no train"),
    "no test": (lambda root: shutil.rmtree(root / "test"), "photos: has no test part; give test_fraction: 0.2"),
    "class not in test": (lambda root: shutil.rmtree(root / "test/B1"), "photos test: no image of B1"),
    "gone": (shutil.rmtree, "photos: no such file or folder; correct the path"),
    "a file": (
        lambda root: (shutil.rmtree(root), root.write_text("")),
        "photos: expected a folder of images, got a file",
    ),
}


@pytest.mark.parametrize("what", BAD_FOLDERS)
def test_folders_that_are_no_dataset_are_one_line(what: str, photos: Path) -> None:
    spoil, message = BAD_FOLDERS[what]
    spoil(photos)
    with pytest.raises(DataError, match=message):
        opened("folder", photos)


def test_a_folder_that_may_not_be_read_is_one_line(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(place: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="photos: may not be read or written; correct its permissions"):
        opened("folder", photos)


def test_a_test_fraction_of_a_source_with_a_test_part_is_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="photos: has a test part; leave test_fraction out"):
        opened("folder", photos, test_fraction=0.2)


def test_tables_that_are_no_dataset_are_one_line(here: Path) -> None:
    files, labels = [archives.encoded(one, "png") for one in TRAIN[0]], TRAIN[1].tolist()

    def write(path: str, **columns: Any) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)

    write("d/train.parquet", image=files, fine=labels, coarse=labels)
    with pytest.raises(DataError, match=r"columns image, fine, coarse has the labels\? Say label_column$"):
        opened("huggingface", "d", test_fraction=0.5)
    with pytest.raises(DataError, match="Say label_column, got 'none'"):
        opened("huggingface", "d", test_fraction=0.5, label_column="none")
    found = opened("huggingface", "d", test_fraction=0.5, label_column="coarse")
    assert found.class_names == ["0", "1", "2"]
    assert found.train.examples.name(7) == "train.parquet row 7"
    write("d/train.parquet", image=files, label=[*labels[:-1], None])
    with pytest.raises(DataError, match="expected one class number or name for each image, got NoneType, int"):
        opened("huggingface", "d", test_fraction=0.5)
    write("d/more.parquet", image=files, label=labels)
    with pytest.raises(DataError, match=r"d/more\.parquet: is it of the training or the test part\?"):
        opened("huggingface", "d")
    Path("d/more.parquet").rename("d/test.parquet")
    Path("d/test.parquet").write_bytes(Path("d/test.parquet").read_bytes()[:200])
    with pytest.raises(DataError, match=r"d: not a whole Hugging Face dataset .*; download it anew"):
        opened("huggingface", "d")
    write("e/one/train.parquet", image=files, label=labels)
    write("e/two/train.parquet", image=files, label=labels)
    with pytest.raises(DataError, match="e: files of train lie in e/one and e/two; let path name one of them"):
        opened("huggingface", "e")


def test_tables_that_number_their_classes_otherwise_are_refused(here: Path) -> None:
    files, labels = [archives.encoded(one, "png") for one in TRAIN[0]], TRAIN[1].tolist()

    def write(path: str, names: list[str] | None) -> None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        said = {} if names is None else {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(pa.table({"image": files, "label": labels}).replace_schema_metadata(said), path)

    Path("d").mkdir()
    write("d/train-0.parquet", ["a", "b", "c"])
    write("d/test.parquet", None)
    assert opened("huggingface", "d").class_names == ["a", "b", "c"]
    for path in ("d/train-1.parquet", "d/test.parquet"):
        write(path, ["a", "c", "b"])
        with pytest.raises(DataError, match=r"class 1 is called '[bc]' and '[cb]'; write both with the same features"):
            opened("huggingface", "d")
        Path("d/train-1.parquet").unlink(missing_ok=True)


def test_one_table_above_the_parts_leaves_images_in_their_parts(here: Path) -> None:
    lines = ["file_name,label", "train/0.png,a", "test/0.png,b", "train/1.png,b", "test/1.png,a"]
    Path("d").mkdir()
    Path("d/metadata.csv").write_text("\n".join(lines))
    found = opened("huggingface", "d")
    for part, labels in ((found.train, [0, 1]), (found.test, [1, 0])):
        assert part.labels.tolist() == labels
        folder = part.where.split()[-1]
        assert [part.examples.name(i) for i in (0, 1)] == [f"{folder}/0.png", f"{folder}/1.png"]


def test_images_that_no_table_names_are_counted(here: Path) -> None:
    as_imagefolder(here)
    Image.fromarray(TRAIN[0][0]).save("tables/train/100.png")
    Image.fromarray(TRAIN[0][0]).save("tables/train/9b.png")
    Image.fromarray(TRAIN[0][0]).save("tables/train/.hidden.png")
    Path("tables/.old").mkdir()
    Path("tables/.old/metadata.csv").write_text("of nothing")
    assert opened("huggingface", "tables").notes == ["left out: 2 images that no table names, as train/9b.png"]


def test_an_image_with_two_rows_is_refused(photos: Path) -> None:
    (photos / "train/metadata.csv").write_text("file_name,label\n0.png,a\n1.png,b\n./0.png,b\n")
    with pytest.raises(DataError, match=r"metadata\.csv: names train/0\.png more than once; leave one row of it"):
        opened("huggingface", photos)


def test_a_table_of_something_else_beside_folders_of_classes(photos: Path) -> None:
    (photos / "metadata.csv").write_text("camera,day\nold,1\n")
    with pytest.raises(
        DataError, match=r"expected file_name and a label, each one column, got camera, day; .*source: folder"
    ):
        looking.decide(str(photos), {}, "x")
    assert looking.decide(str(photos), {"source": "folder"}, "x").opened.class_names == list(CLASSES)


def test_two_folders_for_one_part_are_refused(photos: Path) -> None:
    put(photos, "Training", *TRAIN)
    with pytest.raises(DataError, match="photos: train and Training are both the train part; move one into the other"):
        opened("folder", photos)


@pytest.mark.parametrize(
    ("table", "message"),
    {
        "file_name,label,label\n0.png,a,b\n": "each one column, got file_name, label, label; mend it",
        "file_name,file_name,label\n0.png,1.png,b\n": "each one column, got file_name, file_name, label; mend it",
        "file_name,label\n0.png,a\n1.png,a, tall\n": "row 2 has more or fewer cells than the 2 columns; mend it",
        "file_name,label\n0.png,a\n1.png\n": "row 2 has more or fewer cells than the 2 columns; mend it",
        "file_name,label\n0.png,a\n1.png,\n": "row 2 names no label; complete it, or leave the row out",
        "file_name,label\n,a\n": "row 1 names no file; complete it, or leave the row out",
        "file_name,label\n0.PNG,a\n": r"row 1 names '0\.PNG', and the file is called '0\.png'; write it alike",
        "file_name,label\ntrain\\1.png,a\n": r"row 1 names 'train\\\\1\.png', .* called 'train/1\.png'; write it alike",
    }.items(),
)
def test_a_table_that_is_wrong_is_refused_with_its_row(here: Path, table: str, message: str) -> None:
    Path("d/train").mkdir(parents=True)
    for name in ("d/0.png", "d/1.png", "d/train/1.png"):
        Image.fromarray(TRAIN[0][0]).save(name)
    Path("d/metadata.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        opened("huggingface", "d")


def test_keys_of_a_row_have_any_order_and_may_be_more(here: Path) -> None:
    rows = [{"file_name": "0.png", "label": "a", "note": None}, {"label": "b", "file_name": "1.png"}]
    Path("d").mkdir()
    Path("d/Metadata.JSONL").write_text("\n".join(map(json.dumps, rows)))
    found = readers.huggingface(Path("d"), Own("huggingface", "d")).parts["train"]
    assert found.labels.tolist() == ["a", "b"]
    assert readers.guess(Path("d")) == "huggingface"


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_with_accents_are_the_same_in_every_form_of_unicode(
    here: Path, forms: tuple[Literal["NFC", "NFD"], Literal["NFC", "NFD"]]
) -> None:
    for i, form in enumerate(("NFC", "NFD", "NFC", "NFD")):
        Path("d").mkdir(exist_ok=True)
        Image.fromarray(TRAIN[0][i]).save("d/" + unicodedata.normalize(forms[0], f"é{i}.png"))
        with Path("d/metadata.csv").open("a") as table:
            table.write("" if i else "file_name,label\n")
            label = unicodedata.normalize(form, "chêne" if i < 2 else "hêtre")
            table.write(f"{unicodedata.normalize(forms[1], f'é{i}.png')},{label}\n")
    found = opened("huggingface", "d", test_fraction=0.5)
    assert found.class_names == ["chêne", "hêtre"]
    read = {i: image for part in (found.train, found.test) for i, image in part.read()}
    for i in range(4):
        np.testing.assert_array_equal(own.picture(read[i]).pixels[..., 0], TRAIN[0][i])


@pytest.mark.parametrize("folder", ["test tube", "val dor", "dev kit"])
def test_a_folder_is_of_a_part_where_its_whole_name_says_so(here: Path, folder: str) -> None:
    Path("d", folder).mkdir(parents=True)
    Path("d/train/test").mkdir(parents=True)
    rows = ["file_name,label", f"{folder}/0.png,a", "train/test/1.png,b"]
    Path("d/metadata.csv").write_text("\n".join(rows))
    for name in (f"d/{folder}/0.png", "d/train/test/1.png"):
        Image.fromarray(TRAIN[0][0]).save(name)
    (part,) = readers.huggingface(Path("d"), Own("huggingface", "d")).parts
    assert part == "train"


def test_files_that_no_class_or_table_has_are_counted(photos: Path) -> None:
    for name in ("train/loose.png", "train/other.png", "test/x.heic"):
        (photos / name).touch()
    assert opened("folder", photos).notes == ["left out: 1 .heic, 2 .png"]
    as_imagefolder(photos)
    Path("tables/test/x.heic").touch()
    assert opened("huggingface", "tables").notes == ["left out: 1 .heic"]
    as_parquet(photos)
    Path("hub/cat.png").touch()
    noted = "1 images lie beside the tables; those of them are used that a table names"
    assert opened("huggingface", "hub").notes == [noted]


def test_a_stream_that_was_cut_between_two_batches_is_no_whole_one(photos: Path) -> None:
    as_arrow(photos)
    for file in Path("saved").rglob("*.arrow"):
        whole = file.read_bytes()
        file.write_bytes(whole[: -len(readers.END)])
        with pytest.raises(DataError, match=r"not a whole Hugging Face dataset \(.* ends before its end mark\)"):
            opened("huggingface", "saved")
        file.write_bytes(whole)
    opened("huggingface", "saved")


def test_a_file_that_others_count_is_missed(photos: Path) -> None:
    as_arrow(photos)
    first = Path("saved/train/data-00000-of-00002.arrow")
    first.rename("alone.arrow")
    with pytest.raises(DataError, match=r"train/data-00000-of-00002\.arrow: is missing, beside data-00001-of-00002"):
        opened("huggingface", "saved")


@pytest.mark.parametrize("said", [b"{", b"\xff", b"[]", b'{"info": null}', b'{"info": {"features": []}}'])
def test_what_datasets_says_of_columns_may_be_of_any_kind(here: Path, said: bytes) -> None:
    encoded = archives.encoded(TRAIN[0][0], "png")
    table = pa.table({"image": [encoded, encoded], "label": [0, 1]}).replace_schema_metadata({b"huggingface": said})
    pq.write_table(table, "train.parquet")
    found = readers.huggingface(Path("train.parquet"), Own("huggingface", "train.parquet"))
    assert found.parts["train"].labels.tolist() == [0, 1]
    assert found.class_names is None


def test_several_labels_of_an_image_are_refused(here: Path) -> None:
    encoded = archives.encoded(TRAIN[0][0], "png")
    pq.write_table(pa.table({"image": [encoded, encoded], "label": [[0], [0, 1]]}), "train.parquet")
    with pytest.raises(DataError, match="expected one class number or name for each image, got list"):
        opened("huggingface", "train.parquet")


@pytest.mark.parametrize(
    ("kind", "fix"),
    [("u2", r"\(images >> 8\)\.astype"), ("i8", r"; images\.astype\('uint8'\)"), ("f4", r"\(255 \* images\)\.round")],
)
def test_arrays_of_other_numbers_are_refused_with_what_makes_bytes(here: Path, kind: str, fix: str) -> None:
    np.savez("x.npz", images=TRAIN[0].astype(kind), labels=TRAIN[1])
    with pytest.raises(DataError, match=fix):
        opened("npz", "x.npz")


def test_a_table_does_not_name_files_outside(photos: Path) -> None:
    (photos / "train/metadata.csv").write_text("file_name,label\n../../secret.png,a\n")
    with pytest.raises(
        DataError, match=r"metadata\.csv: names train/\.\./\.\./secret\.png, which is outside of photos"
    ):
        opened("huggingface", photos)


def test_what_is_no_source_is_said(here: Path) -> None:
    Path("x.txt").write_text("")
    for path, what in (("gone", "nothing"), ("x.txt", "a file of another kind")):
        with pytest.raises(DataError, match=f"{path}: expected a folder of images, an .npz file, .* got {what}"):
            looking.decide(path, {}, "x")
    Path("x.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"x\.npz: not a whole \.npz file"):
        looking.decide("x.npz", {}, "x")
    Path("empty").mkdir()
    with pytest.raises(DataError, match="empty: has no folders"):
        looking.decide("empty", {}, "x")
    (Path("empty") / "features.json").write_text("{}")
    with pytest.raises(
        DataError, match="empty: not a dataset with image and label that tensorflow-datasets has prepared"
    ):
        looking.decide("empty", {}, "x")
    with pytest.raises(ParamsError, match=r"x\.test_fraction: expected test_fraction between 0\.001 and 0\.9, got 2"):
        looking.decide("x.npz", {"test_fraction": 2}, "x")


def test_an_array_that_claims_more_than_it_has_is_refused_before_anything_is_allocated(here: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 9, 9)})
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
        archive.writestr("labels.npy", b"")
    with pytest.raises(DataError, match=r"images says uint8 \(1099511627776, 9, 9\), but has"):
        opened("npz", "x.npz")


def test_rows_of_an_archive_are_those_of_the_array(here: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    np.savez_compressed("x.npz", a=array, b=np.asfortranarray(array))
    with zipfile.ZipFile("x.npz") as archive:
        np.testing.assert_array_equal(np.stack(list(store.rows(archive, "a"))), array)
        with pytest.raises(ValueError, match="b is in Fortran's order"):
            next(store.rows(archive, "b"))
