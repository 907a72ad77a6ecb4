"""Sets that were made elsewhere: by another tool, in every accepted form, and by another machine, with its record."""

import dataclasses
import hashlib
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import SAMPLE, resolved, setup

from rcig import entry, passes, store, whiten
from rcig.data import real, splits
from rcig.errors import ParamsError, StoreError
from rcig.methods import external, saved, stored
from rcig.methods.base import Distilled, Method, Setup
from rcig.methods.external import Settings, load_external
from rcig.run import task
from rcig.run.distil import OF_ITS_MAKER, record_of
from rcig.whiten import Whitening
from stages import release

rng = np.random.default_rng(0)
REAL = rng.integers(0, 256, (200, 6, 6, 3), dtype=np.uint8)
WHITENING = whiten.fit(REAL, "zca")
SMOOTH = np.round(127.5 + 127.5 * np.sin(np.add.outer(rng.normal(size=(200, 3)), np.arange(36) / 12))).astype(np.uint8)
SMOOTH = SMOOTH.reshape(200, 3, 6, 6).transpose(0, 2, 3, 1)
PIXELS, CLASSES = REAL[:4], np.array([0, 1, 0, 1])
HARD = np.eye(2)[CLASSES]


def small(needs: Path, **changes: Any) -> Setup:
    """A run on such images."""
    few = {"shape": (6, 6, 3), "classes": 2, "images": 4, "whitened": whiten.on_device(WHITENING)}
    few["whitening"] = WHITENING
    return setup(needs=needs, **few | changes)


def load(tmp_path: Path, images: np.ndarray, labels: np.ndarray, **settings: Any) -> Distilled:
    path = tmp_path / "set.npz"
    np.savez(path, images=images, labels=labels)
    return load_external(Settings(**settings), small(path))


def test_all_forms_of_a_set_are_the_same_set(tmp_path: Path) -> None:
    expected = np.asarray(whiten.apply(WHITENING, PIXELS))
    forms = {
        "bytes": (PIXELS, "auto"),
        "channels first": (PIXELS.transpose(0, 3, 1, 2), "bytes"),
        "bytes as floats": (PIXELS.astype(np.float32), "bytes"),
        "brightness": (PIXELS / np.float32(255), "auto"),
        "whitened": (expected, "ours"),
    }
    for name, (images, space) in forms.items():
        for labels in (CLASSES, HARD, HARD - 0.5):
            found = load(tmp_path, images, labels, space=space)
            np.testing.assert_allclose(found.images, expected, atol=1e-4, err_msg=name)
            np.testing.assert_allclose(found.labels, HARD - 0.5, atol=1e-6)


def test_learned_labels_stay_as_they_are(tmp_path: Path) -> None:
    learned = 3 * (HARD - 0.5) + rng.normal(scale=0.5, size=(4, 2))
    np.testing.assert_allclose(load(tmp_path, PIXELS, learned).labels, learned, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "labels", "changes", "message"),
    [
        (PIXELS[:3], CLASSES[:3], {}, r"expected images \(4, 6, 6, 3\), got \(3, 6, 6, 3\); correct images_per_class"),
        (PIXELS / np.float32(100), CLASSES, {}, "expected brightness from 0 to 1, got 0 to 2.55; save"),
        (PIXELS / np.float32(np.nan), CLASSES, {}, "expected finite images, got NaN, or infinite ones as float32"),
        (
            PIXELS.astype(int),
            CLASSES,
            {},
            r"expected images as uint8 or floating point numbers, got int64; convert bytes by",
        ),
        (PIXELS, np.array(list("abab")), {}, "expected labels as numbers, got <U1"),
        (PIXELS, CLASSES + 0.5, {}, r"expected whole class numbers, got 0\.5"),
        (PIXELS, CLASSES, {"space": "ours"}, "bytes are no images of this dataset's whitening; say space: bytes"),
        (PIXELS, CLASSES + 1, {}, r"expected class numbers from 0 to 1, got 1 to 2; they start at 0"),
        (PIXELS, HARD[:3], {}, r"got \(3, 2\)"),
        (PIXELS, HARD * np.nan, {}, "expected finite labels, got NaN, or infinite ones as float32"),
        (PIXELS, HARD * 1e300, {}, "expected finite labels, got NaN, or infinite ones as float32"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        load(tmp_path, images, labels, **changes)


def test_rounding_is_no_fault(tmp_path: Path) -> None:
    exact = load(tmp_path, PIXELS / np.float32(255), HARD)
    almost = np.where(PIXELS == 255, 1.0002, np.where(PIXELS == 0, -1e-4, PIXELS / 255)).astype(np.float32)
    rounded = load(tmp_path, almost, np.where(HARD > 0, 0.995, 0.0))
    np.testing.assert_allclose(rounded.images, exact.images, atol=1e-5)
    np.testing.assert_allclose(rounded.labels, exact.labels, atol=1e-6)


@pytest.mark.parametrize("images", [np.minimum(PIXELS, 1), PIXELS / np.float32(255**2)])
def test_images_that_were_divided_twice_are_a_warning(tmp_path: Path, images: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="no pixel is brighter than 1 of 255; were they divided twice"):
        load(tmp_path, images, CLASSES)


# Sets of other tools, in the spaces that they use: colour images as smooth as photographs are, and grey ones.
TEN = np.arange(10)
ONE_HOT = np.eye(10, dtype=np.float32)
GREY = np.minimum(255, np.maximum(0, rng.normal(0, 120, (300, 8, 8, 1)))).astype(np.uint8)


def photographs(count: int) -> np.ndarray:
    """uint8 (n, 8, 8, 3) whose brightness changes slowly: amplitudes fall with the square of the frequency."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(8, 1 / 8), np.fft.fftfreq(8, 1 / 8)))
    noise = np.fft.fft2(rng.normal(size=(count, 8, 8, 1)) + 0.2 * rng.normal(size=(count, 8, 8, 3)), axes=(1, 2))
    smooth = np.fft.ifft2(noise / (0.5 + frequency[..., None]) ** 2, axes=(1, 2)).real
    return np.clip(127.5 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


COLOUR = photographs(2000)
WHITE = {"grey": whiten.fit(GREY, "standard"), "colour": whiten.fit(COLOUR, "zca")}
DATA = {"grey": GREY[:10], "colour": COLOUR[:10]}
MEAN_STD = ((DATA["colour"] / 255 - WHITE["colour"].mean) / WHITE["colour"].std).astype(np.float32)
OWN = {name: np.asarray(whiten.apply(WHITE[name], DATA[name])) for name in DATA}
LOGITS = rng.normal(0, 3, (10, 10)) + 9 * ONE_HOT


def take(path: Path, data: str, space: str = "auto") -> Distilled:
    given = WHITE[data]
    few = {"shape": DATA[data].shape[1:], "classes": 10, "images": 10, "needs": path, "whitening": given}
    return load_external(Settings(space=space), setup(**few, whitened=whiten.on_device(given)))


G, C = DATA["grey"], DATA["colour"]
RIGHT: dict[str, tuple[str, str, dict[str, np.ndarray]]] = {
    "bytes": ("grey", "auto", {"images": G, "labels": TEN}),
    "brightness": ("grey", "auto", {"images": G / np.float32(255), "labels": ONE_HOT}),
    "double precision": ("grey", "auto", {"images": G / 255, "labels": ONE_HOT.astype(bool)}),
    "channels first": ("colour", "auto", {"images": C.transpose(0, 3, 1, 2), "labels": TEN}),
    "a column of labels": ("grey", "auto", {"images": G, "labels": TEN[:, None]}),
    "whole floats": ("grey", "auto", {"images": G, "labels": TEN.astype(float)}),
    "no axis of channels": ("grey", "auto", {"images": G[..., 0], "labels": TEN}),
    "whitened": ("colour", "ours", {"images": OWN["colour"], "labels": ONE_HOT - np.float32(0.1)}),
    "whitened grey": ("grey", "ours", {"images": OWN["grey"], "labels": TEN}),
    "MedMNIST": (
        "grey",
        "auto",
        {
            f"{part}_{name}": array
            for part in ("train", "val", "test")
            for name, array in (("images", G[..., 0]), ("labels", TEN[:, None]))
        },
    ),
}


@pytest.mark.parametrize("case", RIGHT)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
@pytest.mark.filterwarnings("error")
def test_a_right_set_is_taken_without_a_word(case: str, packed: bool, tmp_path: Path) -> None:
    data, space, arrays = RIGHT[case]
    path = tmp_path / "set.npz"
    (np.savez_compressed if packed else np.savez)(path, **arrays)
    found = take(path, data, space)
    np.testing.assert_allclose(found.images, OWN[data], atol=1e-5)
    np.testing.assert_allclose(found.labels, ONE_HOT - 0.1, atol=1e-6)


BYTES = "expected brightness from 0 to 1, got 0 to 255; save pixels from 0 to 255 as uint8, or divide them by 255$"
NEITHER = r"expected class numbers, probabilities \(.*\) or centred labels \(about 0\), got"
WRONG: dict[str, tuple[str, np.ndarray, np.ndarray, str, str]] = {
    "logits": ("colour", C, LOGITS - 6, "auto", NEITHER),
    "log-probabilities": ("colour", C, LOGITS - 40, "auto", NEITHER),
    "per cent": ("colour", C, 100 * ONE_HOT, "auto", f"{NEITHER} 0 to 100, rows that sum to 100 to 100"),
    "several classes": ("grey", G, np.maximum(ONE_HOT, ONE_HOT[::-1]), "auto", NEITHER),
    "no class": ("grey", G, 0 * ONE_HOT, "auto", NEITHER),
    "mean and deviation": ("colour", MEAN_STD, TEN, "ours", "as smooth as images of mean and deviation alone"),
    "the same, larger": ("colour", MEAN_STD * 10, TEN, "ours", "as smooth as images of mean and deviation alone"),
    "the same, not whitened": ("colour", MEAN_STD, TEN, "auto", "name the space, one of mean_std, kornia_zca, ours"),
    "bytes as floats": ("colour", C.astype(np.float32), TEN, "auto", BYTES),
    "bytes as whitened floats": ("colour", C.astype(np.float32), TEN, "ours", "no value is negative .from 0 to 255"),
    "brightness as whitened": ("grey", G / np.float32(255), TEN, "ours", "no value is negative .from 0 to 1"),
    "beyond float32": ("grey", np.where(G > 0, 1e300, 0.0), TEN, "ours", "infinite ones as float32"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused(case: str, tmp_path: Path) -> None:
    data, images, labels, space, message = WRONG[case]
    path = tmp_path / "set.npz"
    np.savez(path, images=images, labels=labels)
    with pytest.raises(ParamsError, match=rf"^external set .*set\.npz: .*{message}") as error:
        take(path, data, space)
    assert "\n" not in str(error.value)


ODD: dict[str, tuple[np.ndarray, np.ndarray, list[str]]] = {
    "a class is missing": (G, np.r_[TEN[:9], 0], ["1 of 10 classes have no image: 9"]),
    "most classes are missing": (G, 0 * TEN, ["9 of 10 classes have no image: 1, 2, 3, 4, 5, 6, 7, 8, 9"]),
    "one image": (np.repeat(G[:1], 10, 0), TEN, ["9 of 10 images repeat another one"]),
    "two pairs": (G[[0, 0, 1, 1, 2, 3, 4, 5, 6, 7]], TEN, ["2 of 10 images repeat another one"]),
    "constant": (
        np.where(TEN[:, None, None, None] < 2, np.uint8(100) + TEN[:, None, None, None].astype(np.uint8), G),
        TEN,
        ["2 of 10 images have the same value in every pixel"],
    ),
    "logits about 0": (G, LOGITS - LOGITS.mean(1, keepdims=True), ["if they are logits, say labels: logits"]),
    "small logits": (G, 2 * ONE_HOT + rng.normal(0, 1, (10, 10)), ["if they are logits, say labels: logits"]),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_is_said_with_its_number(case: str, tmp_path: Path) -> None:
    images, labels, expected = ODD[case]
    path = tmp_path / "set.npz"
    np.savez(path, images=images, labels=labels)
    with pytest.warns(UserWarning, match="external set") as odd:
        take(path, "grey")
    assert len(odd) == len(expected)
    for warning, words in zip(odd, expected, strict=True):
        assert words in str(warning.message)
        assert str(warning.message).startswith(f"external set {path}: ")


def test_a_stage_says_it_in_one_line() -> None:
    assert entry.in_one_line(UserWarning("odd"), UserWarning, "code.py", 7) == "warning: odd\n"
    assert "code.py:7: DeprecationWarning: old" in entry.in_one_line("old", DeprecationWarning, "code.py", 7)


@pytest.mark.parametrize("scale", [0.1, 1, 10, 1000])
@pytest.mark.filterwarnings("error")
def test_learned_images_may_drift_far(scale: float, tmp_path: Path) -> None:
    """As real images, as noise, or as real ones with noise on them: all are scaled, and none is brightness any more."""
    noise = rng.normal(size=OWN["colour"].shape).astype(np.float32)
    for images in (OWN["colour"], noise, OWN["colour"] + 0.3 * noise, np.roll(OWN["colour"], 2, axis=2)):
        path = tmp_path / "set.npz"
        np.savez(path, images=scale * images, labels=TEN)
        np.testing.assert_array_equal(take(path, "colour", "ours").images, scale * images)


@pytest.mark.parametrize("colour", [0, 255, 100])
def test_real_images_are_never_refused_however_smooth(colour: int) -> None:
    flat = np.full((10, 8, 8, 3), colour, np.uint8)
    flat[0, 0, 0] = 255 - colour
    assert whiten.never_whitened(WHITE["colour"], np.asarray(whiten.apply(WHITE["colour"], flat))) is None


def test_nothing_is_unpacked_before_its_declared_shape_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 8, 8, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(192):
            file.write(bytes(10**6))
    with zipfile.ZipFile(path, "a") as archive, archive.open("labels.npy", "w") as file:
        np.lib.format.write_array(file, TEN)
    assert path.stat().st_size < 10**6
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(ParamsError, match=r"expected images \(10, 8, 8, 3\), got \(1000000, 8, 8, 3\); correct"):
        take(path, "colour")


def test_an_array_of_another_size_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("images.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
        file.write(bytes(100))
    with zipfile.ZipFile(path, "a") as archive, archive.open("labels.npy", "w") as file:
        np.lib.format.write_array(file, TEN)
    with pytest.raises(ParamsError, match=r"images says float64 \(1000000000000,\), but has \d+ bytes in place of"):
        take(path, "colour")


def test_python_objects_are_not_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (tmp_path / "sprung").touch, ()

    path = tmp_path / "set.npz"
    np.savez(path, images=np.array([Trap()] * 10, dtype=object), labels=TEN)
    with pytest.raises(ParamsError, match="images holds Python objects, expected numbers or text") as error:
        take(path, "colour")
    assert "allow_pickle" not in str(error.value)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["set.csv", "set.pkl", "set.h5", "set.npy", "set"])
def test_files_of_another_kind_by_their_names(name: str, tmp_path: Path) -> None:
    for given in (tmp_path / name, tmp_path / "set.npz"):
        given.write_bytes(pickle.dumps({"images": [1], "labels": [2]}))
        with pytest.raises(ParamsError, match=r"expected an \.npz, \.pt or \.parquet file, a Flax check") as error:
            take(given, "grey")
        assert "allow_pickle" not in str(error.value)


def test_arrays_of_other_names_are_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x_train=G, y_train=TEN)
    with pytest.raises(
        ParamsError, match=r"expected an .*, got x_train, y_train; save it under the names images and labels"
    ):
        take(tmp_path / "set.npz", "grey")


def test_a_set_made_elsewhere_needs_no_real_image_to_start_from(tmp_path: Path) -> None:
    """Two images of each class are asked for, and one is there."""
    np.savez(tmp_path / "set.npz", images=REAL[:4], labels=CLASSES)
    split = splits.Split(REAL[:2], np.array([0, 1], np.int32))
    dataset = dataclasses.replace(SAMPLE, resolution=6, channels=3, classes=2, depth=1)
    loaded = real.Real(*2 * [splits.whole(split)], WHITENING, ["a", "b"])
    source = task.Source(dataset, loaded, lambda distilled: 0.0)
    run = resolved(dataset, method="external", images_per_class=2, needs=str(tmp_path / "set.npz")).run
    with jax.set_mesh(passes.all_devices()):
        made = task.make_task(source, run, 0)
        assert kept(made.method).images.shape == (4, 6, 6, 3)
        with pytest.raises(ParamsError, match="2 images per class asked for, class 0 has 1"):
            task.make_task(source, resolved(dataset, method="random_real", images_per_class=2).run, 0)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ParamsError, match=r"nowhere\.npz: No such file or directory; correct the path"):
        load_external(Settings(), small(Path("nowhere.npz")))


def test_a_set_made_elsewhere_has_one_seed() -> None:
    given = {"method": "external", "needs": "set.npz"}
    assert resolved(**given).run.seeds == (0,)
    assert resolved(**given).run.loop.steps == 0
    with pytest.raises(ParamsError, match=r"x\.seeds: a set made elsewhere is one set, got \[0, 1\]; give one seed"):
        resolved(**given, seeds=[0, 1])
    with pytest.raises(ParamsError, match=r"x\.needs: missing; name the file with the set"):
        resolved(method="external")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.write_text("a picture of a cat")
    with pytest.raises(ParamsError, match=r"expected an \.npz, \.pt or \.parquet file, .*; this is none"):
        load_external(Settings(), small(path))


def kept(method: Method[Any, Any, Distilled]) -> Distilled:
    """What is returned of a method, from a start of nothing, after a step."""
    start = Distilled(*map(jnp.zeros, ((4, 6, 6, 3), (4, 2), ())))
    state, info = method.step(jax.random.key(1), method.init(jax.random.key(0), start), method.feed(0))
    assert float(info["loss"]) == 0
    return method.result(state)


def test_nothing_changes_a_set_made_elsewhere(tmp_path: Path) -> None:
    given = load(tmp_path, PIXELS, CLASSES)
    for found, expected in zip(kept(external.make(Settings(), small(tmp_path / "set.npz"))), given, strict=True):
        np.testing.assert_array_equal(found, expected)


SEEDS = [3, 5]


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of two seeds, released."""
    random = np.random.default_rng(1)
    shared = {"method": "rcig", "dataset": "d", "images_per_class": 2, "seeds": SEEDS, "code": "c", "data": "d"}
    meta = shared | {"mirror": False}
    meta |= {"mean": WHITENING.mean.tolist(), "std": WHITENING.std.tolist(), "class_names": ["a", "b"]}
    images = random.normal(size=(2, 4, 6, 6, 3)).astype(np.float32)
    store.save(
        tmp_path / "made.npz",
        store.DISTILLED,
        images=images,
        labels=random.normal(size=(2, 4, 2)).astype(np.float32),
        log_temperature=random.normal(size=2).astype(np.float32),
        pixels=np.stack([whiten.to_pixels(WHITENING, one) for one in images]),
        meta=json.dumps(meta),
    )
    summary = {name: f"of {name}" for name in OF_ITS_MAKER} | shared
    store.save_json(tmp_path / "summary.json", summary | {"heldout_accuracy": 0.5})
    (tmp_path / "curve.csv").write_text("seed,step\n3,10\n")
    monkeypatch.chdir(tmp_path)
    release.main("made.npz", ".")
    return Path("released/made.npz")


def test_a_released_set_is_the_one_that_was_made_at_each_seed(released: Path) -> None:
    made, meta = store.load_distilled(Path("made.npz"))
    for i, seed in enumerate(SEEDS):
        found = kept(stored.make(stored.Settings(), small(released, seed=seed)))
        for name in store.LEARNED:
            np.testing.assert_array_equal(getattr(found, name), made[name][i])
    record = stored.record(stored.Settings(), released)
    assert record.curve == "seed,step\n3,10\n"
    expected = {name: f"of {name}" for name in OF_ITS_MAKER} | {"method": "rcig"}
    assert {name: record.made[name] for name in OF_ITS_MAKER} == expected
    assert meta.items() <= record.meta.items(), "what the file said before is still there"


def test_a_released_set_that_is_not_pinned_is_not_replaced_by_another(released: Path) -> None:
    def again() -> None:
        release.main("made.npz", ".")

    def pin(content: bytes) -> None:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        Path(f"{released}.dvc").write_text(f"outs: [{{path: {released.name}, md5: {md5}}}]")

    again()
    whole, made = released.read_bytes(), store.load(Path("made.npz"), store.DISTILLED)
    store.save(Path("made.npz"), store.DISTILLED, **made | {"images": made["images"] + 1})
    for content in (whole, b"junk"):
        released.write_bytes(content)
        pin(b"of before")
        with pytest.raises(
            StoreError, match=r"released/made\.npz: is another set that is not pinned; pin it \(dvc add"
        ):
            again()
        assert released.read_bytes() == content
        pin(content)
        again()
        assert released.read_bytes() not in (whole, b"junk")


def test_an_edited_set_is_refused(released: Path) -> None:
    for name in store.LEARNED:
        arrays = store.load(released, store.DISTILLED)
        arrays[name] = arrays[name] + np.float32(1e-6)
        edited = released.with_name(f"{name}.npz")
        store.save(edited, store.DISTILLED, **arrays)
        with pytest.raises(StoreError, match=rf"{name}\.npz: its arrays have the digest \w+, its record says \w+"):
            stored.make(stored.Settings(), small(edited, seed=3))


def test_released_sets_that_do_not_fit(released: Path) -> None:
    def make(path: Path, **changes: Any) -> None:
        stored.make(stored.Settings(), small(path, **{"seed": 3} | changes))

    with pytest.raises(StoreError, match=r"made\.npz: a distilled set without its maker's record; make one by `python"):
        make(Path("made.npz"))
    with pytest.raises(StoreError, match=r"made\.npz: has no seed 4; give some of seeds: \[3, 5\] in params\.yaml"):
        make(released, seed=4)
    with pytest.raises(StoreError, match=r"expected images \(2, 6, 6, 3\) and 2 classes, got \(4, 6, 6, 3\) and 2;"):
        make(released, images=2)
    with pytest.raises(StoreError, match=r"expected images \(4, 6, 6, 3\) and 3 classes, got \(4, 6, 6, 3\) and 2;"):
        make(released, classes=3)
    with pytest.raises(StoreError, match=r"nowhere\.npz"):
        make(Path("nowhere.npz"))


@pytest.mark.parametrize("module", [stored, saved], ids=["kept", "to start from"])
def test_a_set_that_was_whitened_otherwise(released: Path, module: Any) -> None:
    def take(whitening: Whitening) -> None:
        if module is stored:
            stored.make(stored.Settings(), small(released, seed=3, whitening=whitening))
        else:
            saved.of_seed(released, 3, (4, 6, 6, 3), 2, whitening)

    take(WHITENING)
    with pytest.raises(StoreError, match=r"its images were whitened with std .*, the dataset has .*; correct dataset"):
        take(WHITENING._replace(std=2 * WHITENING.std))
    for kind in ("standard", "of another matrix"):
        other = whiten.fit(REAL, "standard") if kind == "standard" else whiten.fit(SMOOTH, "zca")
        with pytest.raises(StoreError, match=r"its pixels are not its images by the whitening of the dataset"):
            take(other._replace(mean=WHITENING.mean, std=WHITENING.std))


def test_a_released_set_is_taken_with_all_its_seeds_and_as_it_was_distilled(released: Path) -> None:
    run = resolved(method="stored", needs=str(released), seeds=[3]).run
    with pytest.raises(StoreError, match=r"has the seeds \[3, 5\], got \[3\]; give them all"):
        record_of(run)
    run = dataclasses.replace(run, seeds=tuple(SEEDS), mirror=True)
    with pytest.raises(StoreError, match="was distilled with mirror: false; correct its dataset"):
        record_of(run)
    assert record_of(dataclasses.replace(run, mirror=False)) is not None


def test_a_summary_of_something_else_is_not_released(released: Path) -> None:
    other = json.loads(Path("summary.json").read_text()) | {"dataset": "e"}
    store.save_json(Path("summary.json"), other)
    with pytest.raises(StoreError, match=r"summary\.json: dataset are not those of made\.npz; is it that set's\?"):
        release.main("made.npz", ".")
    with pytest.raises(StoreError, match=r"nowhere: no results of a distillation .*; name the folder of its summary"):
        release.main("made.npz", "nowhere")
    store.save_json(Path("summary.json"), {"method": "rcig"})
    with pytest.raises(StoreError, match=r"summary\.json: lacks size, .*; is it the summary of made\.npz\?"):
        release.main("made.npz", ".")
