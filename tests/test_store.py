import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rcig import store

SPLIT = {
    "images": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
    "labels": np.array([0, 1], np.int32),
    "class_names": np.array(["cat", "dog"]),
}


def test_what_is_saved_is_what_is_loaded_and_same_content_gives_same_bytes(tmp_path: Path) -> None:
    store.save(tmp_path / "a" / "x.npz", store.SPLIT, **SPLIT)
    store.save(tmp_path / "y.npz", store.SPLIT, **SPLIT)
    loaded = store.load(tmp_path / "y.npz", store.SPLIT)
    for name, array in SPLIT.items():
        np.testing.assert_array_equal(loaded[name], array)
    assert (tmp_path / "a" / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        middle = content.index(b"images.npy") + 60
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("a picture of a cat")
    elif how == "single array":
        with path.open("wb") as file:
            np.save(file, SPLIT["images"])
    elif how == "pickled":
        np.savez(path, images=np.array([{"a": 1}], dtype=object))
    elif how == "other zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("images.npy", "no array")


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty", "text", "single array", "pickled", "other zip"])
def test_damaged_files_give_one_clear_line(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.npz"
    store.save(path, store.SPLIT, **SPLIT)
    damage(path, how)
    with pytest.raises(store.StoreError, match=r"x\.npz: not a .*(dvc repro)") as error:
        store.load(path, store.SPLIT)
    assert "\n" not in str(error.value)


def test_foreign_content_names_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    store.save(path, store.SPLIT, **SPLIT)
    with pytest.raises(
        store.StoreError, match=r"not a distilled set: expected the arrays images, labels, .* got class"
    ):
        store.load(path, store.DISTILLED)
    for wrong in (
        {"labels": np.array([0, 1, 2], np.int32)},
        {"labels": np.array([0, 1])},
        {"images": SPLIT["images"][0]},
    ):
        store.save_arrays(path, SPLIT | wrong)
        with pytest.raises(store.StoreError, match=r"expected \w+ as \w+ .* got"):
            store.load(path, store.SPLIT)


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(store.StoreError, match=r"no such file; .*dvc"):
        store.load(tmp_path / "x.npz", store.SPLIT)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    store.atomic_write(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
