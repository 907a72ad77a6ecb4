"""Sets that were made elsewhere: by another tool, in every accepted form, and by another machine, with its record."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import resolved, setup

from rcig import store, whiten
from rcig.data import real, splits
from rcig.errors import ParamsError, StoreError
from rcig.methods import external, saved, stored
from rcig.methods.base import Distilled, Method, Setup
from rcig.methods.external import Settings, load_external
from rcig.run.distil import OF_ITS_MAKER, record_of
from stages import release

rng = np.random.default_rng(0)
REAL = rng.integers(0, 256, (200, 6, 6, 3), dtype=np.uint8)
WHITENING = whiten.fit(REAL, "zca")
PIXELS, CLASSES = REAL[:4], np.array([0, 1, 0, 1])
HARD = np.eye(2)[CLASSES]


def small(needs: Path, **changes: Any) -> Setup:
    """A run on such images."""
    few = {"shape": (6, 6, 3), "classes": 2, "images": 4, "whitened": whiten.on_device(WHITENING)}
    return setup(needs=needs, **few | changes)


def load(tmp_path: Path, images: np.ndarray, labels: np.ndarray, whitened: bool = False) -> Distilled:
    path = tmp_path / "set.npz"
    np.savez(path, images=images, labels=labels)
    return load_external(Settings(whitened), small(path))


def test_all_forms_of_a_set_are_the_same_set(tmp_path: Path) -> None:
    expected = np.asarray(whiten.apply(WHITENING, PIXELS))
    forms = {
        "bytes": (PIXELS, False),
        "channels first": (PIXELS.transpose(0, 3, 1, 2), False),
        "brightness": (PIXELS / np.float32(255), False),
        "whitened": (expected, True),
    }
    for name, (images, whitened) in forms.items():
        for labels in (CLASSES, HARD, HARD - 0.5):
            found = load(tmp_path, images, labels, whitened)
            np.testing.assert_allclose(found.images, expected, atol=1e-4, err_msg=name)
            np.testing.assert_allclose(found.labels, HARD - 0.5, atol=1e-6)


def test_learned_labels_stay_as_they_are(tmp_path: Path) -> None:
    learned = rng.normal(size=(4, 2))
    np.testing.assert_allclose(load(tmp_path, PIXELS, learned).labels, learned, atol=1e-6)


def test_a_torch_file_without_torch_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    path = tmp_path / "set.pt"
    path.write_bytes(b"x")
    with pytest.raises(ParamsError, match=r"set\.pt: reading it needs PyTorch; install torch, or save it as \.npz"):
        load_external(Settings(), small(path))


def test_a_torch_file_is_that_of_numpy(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "set.pt"
    channels_first = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2))
    torch.save({"images": torch.from_numpy(channels_first), "labels": torch.from_numpy(CLASSES)}, path)
    found, expected = load_external(Settings(), small(path)), load(tmp_path, PIXELS, CLASSES)
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.parametrize(
    ("images", "labels", "changes", "message"),
    [
        (PIXELS[:3], CLASSES[:3], {}, r"expected images \(4, 6, 6, 3\), got \(3, 6, 6, 3\); correct images_per_class"),
        (PIXELS / np.float32(100), CLASSES, {}, "brightness from 0 to 1; for whitened images say whitened: true"),
        (PIXELS / np.float32(np.nan), CLASSES, {}, "brightness from 0 to 1"),
        (PIXELS, CLASSES, {"whitened": True}, "bytes are no whitened images; say whitened: false"),
        (PIXELS, CLASSES + 1, {}, r"expected labels \(4,\) from 0 to 1, or \(4, 2\), got \(4,\)"),
        (PIXELS, HARD[:3], {}, r"got \(3, 2\)"),
        (PIXELS, HARD * np.nan, {}, "expected finite labels, got NaN or infinite ones"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        load(tmp_path, images, labels, **changes)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ParamsError, match=r"nowhere\.npz: No such file or directory; correct `needs`"):
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
    with pytest.raises(ParamsError, match=r"expected a \.npz or \.pt with images and labels"):
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
    meta |= {"mean": WHITENING.mean.tolist(), "std": WHITENING.std.tolist()}
    store.save(
        tmp_path / "made.npz",
        store.DISTILLED,
        images=random.normal(size=(2, 4, 6, 6, 3)).astype(np.float32),
        labels=random.normal(size=(2, 4, 2)).astype(np.float32),
        log_temperature=random.normal(size=2).astype(np.float32),
        pixels=np.zeros((2, 4, 6, 6, 3), np.uint8),
        meta=json.dumps(meta),
    )
    summary = {name: f"of {name}" for name in OF_ITS_MAKER} | shared
    store.save_json(tmp_path / "summary.json", summary | {"heldout_accuracy": 0.5})
    (tmp_path / "curve.csv").write_text("seed,step\n3,10\n")
    monkeypatch.chdir(tmp_path)
    release.main("made.npz", ".")
    return Path("released/made.npz")


def test_a_released_set_is_the_one_that_was_made_at_each_seed(released: Path) -> None:
    made, meta = saved.load(Path("made.npz"))
    for i, seed in enumerate(SEEDS):
        found = kept(stored.make(stored.Settings(), small(released, seed=seed)))
        for name in store.LEARNED:
            np.testing.assert_array_equal(getattr(found, name), made[name][i])
    record = stored.record(stored.Settings(), released)
    assert record.curve == "seed,step\n3,10\n"
    expected = {name: f"of {name}" for name in OF_ITS_MAKER} | {"method": "rcig"}
    assert {name: record.made[name] for name in OF_ITS_MAKER} == expected
    assert meta.items() <= record.meta.items(), "what the file said before is still there"


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


def test_a_released_set_that_was_whitened_otherwise(released: Path) -> None:
    run = resolved(method="stored", needs=str(released), seeds=SEEDS).run
    loaded = real.Real(*2 * [splits.whole(splits.Split(REAL, np.zeros(200, np.int32)))], WHITENING, ["a", "b"])
    assert record_of(run, loaded) is not None
    other = loaded._replace(whitening=WHITENING._replace(std=2 * WHITENING.std))
    with pytest.raises(StoreError, match=r"its images were whitened with std .*, d has .*; correct dataset"):
        record_of(run, other)


def test_a_released_set_is_taken_with_all_its_seeds_and_as_it_was_distilled(released: Path) -> None:
    loaded = real.Real(*2 * [splits.whole(splits.Split(REAL, np.zeros(200, np.int32)))], WHITENING, ["a", "b"])
    run = resolved(method="stored", needs=str(released), seeds=[3]).run
    with pytest.raises(StoreError, match=r"has the seeds \[3, 5\], got \[3\]; give them all"):
        record_of(run, loaded)
    run = dataclasses.replace(run, seeds=tuple(SEEDS), mirror=True)
    with pytest.raises(StoreError, match="was distilled with mirror: false; correct its dataset"):
        record_of(run, loaded)


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
