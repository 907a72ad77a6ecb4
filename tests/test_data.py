import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import archives
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from workspaces import read_settings, save_settings, sections

from rcig import store, whiten
from rcig.data import catalogue, real, sources, splits
from rcig.data.sources import Part
from rcig.errors import DataError
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
