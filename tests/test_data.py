import dataclasses
import io
import json
import shutil
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import archives
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tiny import SAMPLE
from workspaces import read_settings, save_settings, sections

from rcig import store, strict, whiten
from rcig.data import builders, catalogue, real, sources, splits
from rcig.data.sources import Part
from rcig.errors import DataError, ParamsError, StoreError
from stages import distill
from stages import plan as stage_plan
from stages import study as stage_study


def read(part: Part) -> splits.Split:
    chunks = list(part.chunks())
    return splits.Split(*(np.concatenate(arrays) for arrays in zip(*chunks, strict=True)))


def test_the_embedded_sample_is_5000_digits_in_a_fixed_stratified_split() -> None:
    dataset = sources.open_dataset("mnist_sample", 28)
    train, test = read(dataset.train), read(dataset.test)
    assert train.images.shape == (4000, 28, 28, 1)
    assert test.images.shape == (1000, 28, 28, 1)
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in test.images)
    np.testing.assert_array_equal(read(sources.open_dataset("mnist_sample", 28).test).images, test.images)


def test_held_out_part_is_stratified_and_depends_on_labels_alone() -> None:
    labels = np.repeat(np.arange(4), 50)
    mask = splits.held_out_mask(labels, 0.1)
    assert np.bincount(labels[mask]).tolist() == [5] * 4
    np.testing.assert_array_equal(mask, splits.held_out_mask(labels.copy(), 0.1))


def test_sample_per_class_takes_different_examples_of_the_right_class() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 100)
    chosen = splits.sample_per_class(labels, 5, 3, seed=1)
    assert labels[chosen].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert len(set(chosen)) == 15
    assert set(chosen) != set(splits.sample_per_class(labels, 5, 3, seed=2))


def test_more_images_per_class_than_the_class_has() -> None:
    with pytest.raises(ValueError, match=r"9 images per class asked for, class 1 has 2 .*; lower images_per_class"):
        splits.sample_per_class(np.array([0] * 9 + [1] * 2), 9, 2, seed=0)


def test_chunks_share_nothing_and_depend_on_nothing_else() -> None:
    members = np.arange(5, 105)
    chunks = [splits.chunk(members, 30, i) for i in range(3)]
    assert all(len(set(some.tolist())) == 30 and (np.diff(some) > 0).all() for some in chunks)
    assert len(set(np.concatenate(chunks).tolist())) == 90
    assert set(np.concatenate(chunks).tolist()) <= set(members.tolist())
    assert not np.array_equal(chunks[0], members[:30]), "a file may be ordered by class"
    np.testing.assert_array_equal(splits.chunk(members, 30, 1), chunks[1])
    with pytest.raises(ValueError, match=r"chunk 3 of 30 images does not fit into 100 .*; lower chunk"):
        splits.chunk(members, 30, 3)


def test_a_view_reads_what_is_asked_for_in_the_order_asked() -> None:
    split = splits.Split(np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1), np.arange(10, dtype=np.int32))
    view = splits.View(split, np.array([1, 3, 5, 7]))
    assert view.labels.tolist() == [1, 3, 5, 7]
    images, labels = view.take(np.array([2, 0]))
    assert labels.tolist() == [5, 1]
    np.testing.assert_array_equal(images, split.images[[5, 1]])


def part(images: list[np.ndarray], labels: list[int], classes: int = 2) -> Part:
    return Part("x train", len(images), (4, 4, 1), classes, lambda: zip(images, labels, strict=True))


GOOD = np.zeros((4, 4, 1), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            [GOOD, GOOD.astype(np.float32)],
            [0, 1],
            r"expected images uint8 \(4, 4, 1\), record 1 is float32 \(4, 4, 1\)",
        ),
        ([GOOD[:3], GOOD], [0, 1], r"record 0 is uint8 \(3, 4, 1\); prepare the dataset anew"),
        ([GOOD, GOOD], [0, 2], "expected labels 0 to 1, got 0 to 2"),
        ([GOOD, GOOD], [0, -1], "got -1 to 0"),
        ([GOOD, GOOD], [0, 0], "class 1 has no examples"),
    ],
)
def test_raw_data_is_checked(images: list[np.ndarray], labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=f"x train: .*{message}"):
        read(part(images, labels))


def test_unknown_dataset() -> None:
    with pytest.raises(DataError, match=r"unknown dataset 'minst'; known: caltech_birds2011, cifar10, .*mnist_sample"):
        sources.open_dataset("minst", 28)


def test_a_dataset_that_is_not_prepared_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=rf"mnist is not prepared in {tmp_path} .*python -m stages.prepare mnist"):
        sources.open_dataset("mnist", 28)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mnist" / "3.0.0").mkdir(parents=True)
    with pytest.raises(DataError, match=r"\(version 3\.0\.1 is needed, 3\.0\.0 is there\); with a network"):
        sources.open_dataset("mnist", 28)


def test_images_of_any_size_are_cropped_to_the_centre_and_averaged() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    found = sources.decode(archives.encoded(pixels, "png"), 3, 10)
    np.testing.assert_array_equal(found, np.floor(pixels[:, 10:50].reshape(10, 4, 10, 4, 3).mean((1, 3)) + 0.5))
    # 39 pixels to 10: windows of 3.9, so the pixels at their edges count in part.
    odd = rng.integers(0, 256, (39, 39), dtype=np.uint8)
    cumulated = np.pad(odd.astype(float), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    edges, whole = np.arange(11) * 3.9, np.arange(40)
    rows = np.stack([np.interp(edges, whole, column) for column in cumulated.T], 1)
    table = np.stack([np.interp(edges, whole, row) for row in rows])
    found = sources.decode(archives.encoded(odd, "png"), 1, 10)[..., 0].astype(int)
    assert np.abs(found - np.diff(np.diff(table, axis=0), axis=1) / 3.9**2).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(sources.average(pixels[:, 10:50], 40), pixels[:, 10:50])


def test_grey_files_of_a_colour_dataset_become_rgb() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    found = sources.decode(archives.encoded(pixels, "png"), 3, None)
    np.testing.assert_array_equal(found, np.broadcast_to(pixels[..., None], (8, 8, 3)))
    assert Image.fromarray(found).mode == "RGB"


@pytest.mark.parametrize(("colour", "layers"), [(0, 1), (4, 2), (2, 3), (6, 4)])
@pytest.mark.parametrize("depth", [8, 16])
def test_pixels_of_8_and_16_bits_are_the_same_brightness(colour: int, layers: int, depth: int) -> None:
    pixels = np.random.default_rng(colour).integers(0, 256, (5, 7, layers))
    file = archives.png(pixels * (257 if depth == 16 else 1), depth, colour)
    seen = pixels[..., : 1 if layers < 3 else 3]
    np.testing.assert_array_equal(sources.decode(file, 3, None), np.broadcast_to(seen, (5, 7, 3)))
    if layers < 3:
        np.testing.assert_array_equal(sources.decode(file, 1, None), seen)


def test_of_16_bits_the_upper_8_are_taken_whatever_the_colours() -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (5, 7, 1))
    grey = sources.decode(archives.png(pixels, 16, 0), 3, None)
    colour = sources.decode(archives.png(np.repeat(pixels, 3, 2), 16, 2), 3, None)
    np.testing.assert_array_equal(grey, np.broadcast_to(pixels >> 8, (5, 7, 3)))
    np.testing.assert_array_equal(colour, grey)


@pytest.mark.parametrize("kind", ["gif", "tiff", "png", "webp"])
def test_of_several_pictures_the_first_is_taken_and_that_is_said(kind: str) -> None:
    first, second = np.zeros((5, 7), np.uint8), np.full((5, 7), 255, np.uint8)
    buffer, more = io.BytesIO(), [Image.fromarray(second)]
    Image.fromarray(first).save(
        buffer, kind, save_all=True, append_images=more, **({"lossless": True} if kind == "webp" else {})
    )
    turned, mode = sources.upright(buffer.getvalue())
    assert mode.endswith(", the first of several pictures")
    np.testing.assert_array_equal(np.asarray(turned.convert("L")), first)


@pytest.mark.parametrize(("content", "said"), [(b"", "^empty$"), (b"PK", "no image of a kind that Pillow knows")])
def test_what_is_no_image_is_said(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sources.upright(content)


@pytest.mark.parametrize("greatest", [255, 1000, 65535])
def test_pgm_is_as_bright_as_its_greatest_number_says(greatest: int) -> None:
    pixels = np.random.default_rng(0).integers(0, greatest + 1, (5, 7, 1))
    header = b"P5\n7 5\n%d\n" % greatest
    file = header + pixels.astype("u1" if greatest < 256 else ">u2").tobytes()
    np.testing.assert_allclose(sources.decode(file, 1, None), pixels * 255.0 / greatest, atol=1)
    plain = b"P2\n7 5\n%d\n%s\n" % (greatest, " ".join(map(str, pixels.ravel())).encode())
    np.testing.assert_array_equal(sources.decode(plain, 1, None), sources.decode(file, 1, None))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_are_spread_over_all_brightness(depth: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**depth, (5, 7, 1))
    found = sources.decode(archives.png(pixels, depth, 0), 1, None)
    np.testing.assert_array_equal(found, pixels * 255 // (2**depth - 1))


def test_colours_of_a_palette_and_grey_that_is_stored_as_colour() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    few = Image.fromarray(pixels).quantize(16)
    buffer = io.BytesIO()
    few.save(buffer, "png", transparency=3)
    np.testing.assert_array_equal(sources.decode(buffer.getvalue(), 3, None), np.asarray(few.convert("RGB")))
    grey = np.repeat(pixels[..., :1], 3, 2)
    np.testing.assert_array_equal(sources.decode(archives.encoded(grey, "png"), 1, None), pixels[..., :1])


def test_a_photograph_is_turned_upright_and_printers_colours_are_those_of_screens() -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16] = (200, 60, 60)
    for turn in range(1, 9):
        tags = Image.Exif()
        tags[274] = turn  # which says how to turn what is stored to see what was taken
        stored = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2)}
        stored |= {6: np.rot90, 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, -1)}
        buffer = io.BytesIO()
        Image.fromarray(stored.get(turn, np.copy)(pixels)).save(buffer, "jpeg", quality=100, subsampling=0, exif=tags)
        assert np.abs(sources.decode(buffer.getvalue(), 3, None).astype(int) - pixels).max() < 8, turn
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("CMYK").save(buffer, "jpeg", quality=100)
    assert np.abs(sources.decode(buffer.getvalue(), 3, None).astype(int) - pixels).max() < 8


@pytest.mark.parametrize("mode", ["I", "F"])
def test_brightness_in_no_known_range_is_refused(mode: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40_000, np.int32)).convert(mode).save(buffer, "tiff")
    with pytest.raises(ValueError, match=f"an image of mode {mode}, expected 8 or 16 bits a channel"):
        sources.decode(buffer.getvalue(), 1, None)


@pytest.mark.parametrize("side", [10_000, 2_000_000_000])
def test_an_image_that_says_it_is_enormous_is_not_unpacked(side: int) -> None:
    small = archives.png(np.zeros((1, 1, 1), int), 8, 0)
    header = archives.chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    with pytest.raises((Image.DecompressionBombWarning, Image.DecompressionBombError), match="exceeds limit"):
        sources.decode(small[:8] + header + small[8 + len(header) :], 1, 28)


def test_names_of_imagenets_classes() -> None:
    assert sources.readable(["n02119789", "n02012849", "n03126707", "cat"]) == [
        "kit fox",
        "crane (bird)",
        "crane (machine)",
        "cat",
    ]


class Damaged(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Ten images, the sixth of which is no image."""

    VERSION = tfds.core.Version("1.0.0")
    name = "mnist"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, dict[str, object]]]]:
        good = archives.encoded(archives.picture(0, (28, 28)), "png")
        rows = lambda: ((i, {"image": good if i != 5 else good[:90], "label": i}) for i in range(10))  # noqa: E731
        return {"train": rows(), "test": rows()}

    def _generate_examples(self) -> None:
        raise AssertionError("never called")


@pytest.mark.parametrize("how", ["image", "file"])
def test_a_damaged_record_is_named(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Damaged(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: builder)
    if how == "file":
        path = next((tmp_path / "mnist").rglob("*train*array_record*"))
        content = bytearray(path.read_bytes())
        content[:] = content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"mnist train: record \d cannot be read .*; remove .* and prepare the dataset"):
        read(sources.prepared("mnist", catalogue.SOURCES["mnist"], 28).train)


class Good(Damaged, skip_registration=True):
    """Ten images."""

    name = "mnist"
    VERSION = tfds.core.Version("3.0.1")

    def _split_generators(self, _: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, dict[str, object]]]]:
        good = archives.encoded(archives.picture(0, (28, 28)), "png")
        rows = lambda: ((i, {"image": good, "label": i}) for i in range(10))  # noqa: E731
        return {"train": rows(), "test": rows()}


@pytest.fixture(scope="module")
def ten_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a dataset named mnist is prepared."""
    folder = tmp_path_factory.mktemp("ten")
    Good(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def say_tfrecord(folder: Path) -> None:
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))


def remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink()


def without(split: str, folder: Path) -> None:
    info = folder / "dataset_info.json"
    content = json.loads(info.read_text())
    content["splits"] = [one for one in content["splits"] if one["name"] != split]
    info.write_text(json.dumps(content))


AGAIN = r"python -m stages\.prepare mnist`?$"
SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "tfrecord": (say_tfrecord, "is prepared as tfrecord, which only TensorFlow reads; let TFDS_DATA_DIR name another"),
    "metadata cut": (lambda folder: cut(folder / "dataset_info.json"), "cannot be opened .*; make it readable, or"),
    "metadata empty": (lambda folder: (folder / "dataset_info.json").write_text(""), "cannot be opened"),
    "other metadata": (lambda folder: (folder / "dataset_info.json").write_text("[]"), "cannot be opened"),
    "no text": (lambda folder: (folder / "dataset_info.json").write_bytes(b"\xff\xfe\x00"), "cannot be opened"),
    "no metadata": (lambda folder: (folder / "dataset_info.json").unlink(), "mnist is not prepared in"),
    "a folder": (
        lambda folder: [(folder / "dataset_info.json").unlink(), (folder / "dataset_info.json").mkdir()],
        "cannot be opened",
    ),
    "no shard": (lambda folder: remove(folder.glob("*train*")), "mnist train: record 0 cannot be read"),
    "shard cut": (lambda folder: cut(next(folder.glob("*train*"))), r"mnist train: record \d cannot be read"),
    "no test split": (lambda folder: without("test", folder), "mnist test: no such split in"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_dataset_that_cannot_be_read_is_one_line(
    how: str, ten_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, message = SPOILED[how]
    folder = tmp_path / "data"
    shutil.copytree(ten_digits, folder)
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    assert sorted(read(sources.open_dataset("mnist", 28).train).labels) == list(range(10))
    spoil(folder / "mnist" / "3.0.1")
    with pytest.raises(DataError, match=f"{message}.*{AGAIN}") as error:
        read(sources.open_dataset("mnist", 28).train)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["", "mnist/3.0.1"])
def test_a_file_in_place_of_a_folder(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text("a picture of a cat")
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    with pytest.raises(DataError, match=r"expected the folder of prepared datasets, got a file; move it away"):
        sources.open_dataset("mnist", 28)
    if not place:
        with pytest.raises(DataError, match=r"\(TFDS_DATA_DIR\): File exists; let TFDS_DATA_DIR name a folder"):
            builders.prepare("mnist")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mnist", {"channels": 3}, r"datasets\.mnist\.channels: mnist has 1, got 3; correct it"),
        ("cifar10", {"channels": 1}, r"datasets\.cifar10\.channels: cifar10 has 3, got 1"),
        ("mnist", {"classes": 9}, r"datasets\.mnist\.classes: mnist has 10, got 9"),
        ("mnist", {"resolution": 32}, r"datasets\.mnist\.resolution: mnist has 28, got 32"),
    ],
)
def test_settings_that_a_dataset_is_known_not_to_have(name: str, changes: dict[str, int], message: str) -> None:
    holds = {"resolution": 28, "channels": 1} if name == "mnist" else {"resolution": 32, "channels": 3}
    good = dataclasses.replace(SAMPLE, **holds)
    catalogue.check(name, good)
    catalogue.check("imagenette", dataclasses.replace(good, resolution=96, channels=3))
    with pytest.raises(ParamsError, match=message):
        catalogue.check(name, dataclasses.replace(good, **changes))
    with pytest.raises(ParamsError, match=r"d\.classes: expected classes to be at least 2, got 1"):
        strict.parse(catalogue.Dataset, dataclasses.asdict(good) | {"classes": 1}, "d")


@pytest.mark.parametrize(
    ("changes", "parts", "message"),
    [
        ({"classes": 9}, ("train", "test"), r"{}\.npz: .*: it has classes 10, .* in params\.yaml says classes 9;"),
        ({"resolution": 32}, ("train", "test"), r"it has images \(28, 28, 1\), .* says images \(32, 32, 1\);"),
        ({"channels": 3}, ("train", "test", "whitening"), r"it has .*, .* says .*;"),
        ({"whitening": "zca"}, ("whitening",), "it has whitening standard, .* says whitening zca;"),
        ({"held_out": 0.25}, (), "says nothing of the raw arrays"),
    ],
)
def test_raw_arrays_of_other_settings_are_refused(
    changes: dict[str, Any], parts: tuple[str, ...], message: str, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared.parent)
    name, other = "mnist_sample", dataclasses.replace(SAMPLE, **changes)
    for part in ("train", "test", "whitening"):
        load = partial(real.load_whitening, name) if part == "whitening" else partial(real.load_split, name, part)
        load(SAMPLE)
        load()
        if part not in parts:
            load(other)
            continue
        expected = message.format(part)
        with pytest.raises(StoreError, match=rf"{expected} run `dvc repro preprocess@mnist_sample`, or correct params"):
            load(other)
    if parts:
        with pytest.raises(StoreError, match="was made of other settings"):
            real.load_real(name, other)


def test_every_kind_of_whitening_is_told_from_the_others() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whiten, "BLOCK", 4)
        kinds = ("standard", "zca", "zca_checkerboard")
        for kind in kinds:
            whitening = whiten.fit(images, kind)
            assert whiten.kind_of(whitening) == kind
            assert [one for one in kinds if whiten.fits(whitening, one, (8, 8, 1))] == [kind]
            assert not whiten.fits(whitening, kind, (8, 8, 3))
            if kind != "standard":
                assert not whiten.fits(whitening, kind, (16, 16, 1))


def test_preprocessing_writes_the_source_whatever_the_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK", 300)
    dataset = sources.open_dataset("mnist_sample", 28)
    sources.write(tmp_path / "train.npz", dataset.train, dataset.class_names)
    found, expected = store.load(tmp_path / "train.npz", store.SPLIT), read(dataset.train)
    np.testing.assert_array_equal(found["images"], expected.images)
    np.testing.assert_array_equal(found["labels"], expected.labels)
    assert found["class_names"].tolist() == list("0123456789")


@pytest.fixture(scope="module")
def opened() -> list[str]:
    """Every file that this process opens from now on."""
    files: list[str] = []
    sys.addaudithook(lambda event, args: files.append(str(args[0])) if event == "open" else None)
    return files


@pytest.mark.slow
def test_no_distilling_stage_opens_the_test_images(
    opened: list[str], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(prepared, tmp_path / "artifacts")
    shared = read_settings()["shared"]
    tiny = shared["demo"] | {"method": "rcig", "width": 2, "loop": {"steps": 2, "batch_size": 8, "validate_every": 1}}
    study = shared["studies"]["backward_images"] | {
        "base": tiny,
        "grids": [{"backward_images": [5]}],
        "timing_steps": 1,
    }
    experiments = {"rcig": tiny, "random": tiny | {"method": "random_real"}}
    save_settings(tmp_path, sections(experiments=experiments, studies={"some": study}))
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "none").touch()
    monkeypatch.chdir(tmp_path)
    stage_plan.main()
    opened.clear()
    distill.main("rcig")
    distill.main("random")
    stage_study.main("some")
    arrays = [path for path in opened if path.endswith(".npz")]
    assert "artifacts/data/mnist_sample/train.npz" in arrays
    assert not any("test.npz" in path for path in arrays)
    opened.clear()
    real.load_split("mnist_sample", "test")
    assert set(opened) == {"artifacts/data/mnist_sample/test.npz"}, "it would have been seen"


PUBLISHED = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
}
CLASS_3 = {"mnist": "3", "fashion_mnist": "Dress", "cifar10": "cat", "cifar100": "bear"}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_real_datasets_have_their_published_statistics(
    name: str, tfds_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_dir))
    if not (tfds_dir / name).exists():
        pytest.skip(f"{name} is not prepared")
    dataset = sources.open_dataset(name, 0)
    train = read(dataset.train)
    colour = name.startswith("cifar")
    assert train.images.shape == ((50_000, 32, 32, 3) if colour else (60_000, 28, 28, 1))
    assert dataset.test.examples == 10_000
    assert dataset.class_names[3] == CLASS_3[name]
    assert np.bincount(train.labels).std() == (0 if name != "mnist" else pytest.approx(322.08, abs=0.01))
    np.testing.assert_allclose(whiten.channel_statistics(train.images), np.array(PUBLISHED[name]) * 255, atol=0.015)
