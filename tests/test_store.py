import copy
import fcntl
import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from workspaces import ROOT

import rcig
from rcig import store
from rcig.errors import StoreError
from rcig.judging import subject
from rcig.methods import saved, stored

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


def test_a_file_is_a_plain_zip_with_the_same_bytes_from_every_python(tmp_path: Path) -> None:
    store.save(tmp_path / "a.npz", store.SPLIT, **SPLIT)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        for member in archive.infolist():
            assert (member.compress_type, member.extract_version) == (zipfile.ZIP_STORED, zipfile.DEFAULT_VERSION)


def test_an_array_too_large_for_a_plain_zip_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 200)
    monkeypatch.setattr(store, "PLAIN", 100)
    images = np.resize(np.arange(256, dtype=np.uint8), (2, 8, 8, 3))
    store.save(tmp_path / "a.npz", store.SPLIT, **SPLIT | {"images": images})
    np.testing.assert_array_equal(store.load(tmp_path / "a.npz", store.SPLIT)["images"], images)


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

    elif how == "compressed bomb":
        np.savez_compressed(path, **SPLIT | {"images": np.zeros((10**4, 16, 16, 3), np.uint8)})
    elif how == "overlapping":
        overlapping(path)
    elif how == "larger than it says":
        with zipfile.ZipFile(path, "w") as file, file.open("images.npy", "w") as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)}
            )


def overlapping(path: Path) -> None:
    """A zip in which a thousand names lead to one array."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images.npy", bytes(10**5))
        first = file.infolist()[0]
        for i in range(1000):
            more = copy.copy(first)
            more.filename = more.orig_filename = f"a{i}.npy"
            file.filelist.append(more)
        file._didModify = True


HOW = (
    *("truncated", "flipped", "empty", "text", "single array", "pickled", "other zip"),
    *("compressed bomb", "overlapping", "larger than it says"),
)


@pytest.mark.parametrize("how", HOW)
def test_damaged_files_give_one_clear_line(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.npz"
    store.save(path, store.SPLIT, **SPLIT)
    damage(path, how)
    with pytest.raises(StoreError, match=r"x\.npz: not a .*(dvc repro)") as error:
        store.load(path, store.SPLIT)
    assert "\n" not in str(error.value)
    assert "allow_pickle" not in str(error.value)


@pytest.mark.parametrize("how", ["compressed bomb", "overlapping", "larger than it says", "pickled"])
@pytest.mark.parametrize("schema", [store.SPLIT, store.DISTILLED, None], ids=["split", "set", "checkpoint"])
def test_nothing_is_unpacked_that_says_more_than_the_file_has(
    how: str, schema: store.Schema | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npz"
    store.save(path, store.SPLIT, **SPLIT)
    damage(path, how)
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(
        StoreError, match=r"its \d+ bytes would unpack|but has \d+ bytes|holds Python objects|compressed"
    ):
        store.load_arrays(path, "fix it") if schema is None else store.load(path, schema)


def test_whatever_bytes_are_changed_it_is_one_line_or_the_same_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    store.save(path, store.SPLIT, **SPLIT)
    content, random = path.read_bytes(), np.random.default_rng(0)
    refused: list[str] = []
    for _ in range(500):
        changed = bytearray(content)
        for place in random.integers(0, len(content), random.integers(1, 4)):
            changed[place] = random.integers(0, 256)
        path.write_bytes(changed[: random.integers(1, len(content))] if random.random() < 0.1 else changed)
        try:
            found = store.load(path, store.SPLIT)
        except StoreError as error:
            refused.append(str(error))
        else:
            for name, array in SPLIT.items():
                np.testing.assert_array_equal(found[name], array)
    assert len(refused) > 250
    assert not any("\n" in message for message in refused)


GOOD = {
    "images": np.zeros((2, 3, 4, 4, 1), np.float32),
    "labels": np.zeros((2, 3, 3), np.float32),
    "log_temperature": np.zeros(2, np.float32),
    "pixels": np.zeros((2, 3, 4, 4, 1), np.uint8),
}
META = {"dataset": "d", "images_per_class": 1, "method": "rcig", "seeds": [0, 1], "class_names": ["a", "b", "c"]}
BAD: dict[str, tuple[dict[str, np.ndarray], object, str]] = {
    "no JSON": ({}, "{", "its meta is no JSON; remove it"),
    "deep JSON": ({}, "[" * 10**5, "its meta is no JSON"),
    "a list": ({}, "[]", "expected its meta to say dataset"),
    "no seeds": ({}, {"seeds": None}, "expected its meta to say seeds, 2 of int, got 'None'"),
    "a seed too few": ({}, {"seeds": [0]}, r"to say seeds, 2 of int, got '\[0\]'"),
    "seeds that are text": ({}, {"seeds": "01"}, "to say seeds, 2 of int, got '01'"),
    "a seed that is text": ({}, {"seeds": [0, "1"]}, "to say seeds, 2 of int"),
    "a name too few": ({}, {"class_names": ["a", "b"]}, "to say class_names, 3 of str"),
    "no number": ({}, {"images_per_class": "1"}, "to say images_per_class, 1 of int, got '1'"),
    "NaN images": (
        {"images": GOOD["images"] + np.float32("nan")},
        {},
        "96 NaN or infinite images; remove it and distil",
    ),
    "an infinite label": (
        {"labels": np.where(np.arange(18).reshape(2, 3, 3) == 7, np.float32("inf"), GOOD["labels"])},
        {},
        "1 NaN or infinite labels",
    ),
    "a NaN temperature": ({"log_temperature": np.float32([0, np.nan])}, {}, "1 NaN or infinite log_temperature"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_set_that_nobody_can_take_up(case: str, tmp_path: Path) -> None:
    arrays, meta, message = BAD[case]
    path = tmp_path / "x.npz"
    store.save(path, store.DISTILLED, **GOOD, meta=json.dumps(META))
    assert store.load_distilled(path)[1] == META
    assert rcig.load(str(path), seed=1).images.shape == (3, 4, 4, 1)
    written = meta if isinstance(meta, str) else json.dumps(META | meta)
    store.save(path, store.DISTILLED, **GOOD | arrays, meta=written)
    readers = {
        "to show": lambda: rcig.load(str(path)),
        "to judge": lambda: subject.load(path, subject.Judged("d", 1, (0, 1), False), None),
        "to start from": lambda: saved.of_seed(path, 0, (3, 4, 4, 1), 3, None),
        "to keep": lambda: stored.read(path),
    }
    for read in readers.values():
        with pytest.raises(StoreError, match=rf"x\.npz: .*{message}") as error:
            read()
        assert "\n" not in str(error.value)


def test_foreign_content_names_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    store.save(path, store.SPLIT, **SPLIT)
    with pytest.raises(StoreError, match=r"not a distilled set: expected the arrays images, labels, .* got class"):
        store.load(path, store.DISTILLED)
    for wrong in (
        {"labels": np.array([0, 1, 2], np.int32)},
        {"labels": np.array([0, 1])},
        {"images": SPLIT["images"][0]},
    ):
        store.save_arrays(path, SPLIT | wrong)
        with pytest.raises(StoreError, match=r"expected \w+ as \w+ .* got"):
            store.load(path, store.SPLIT)


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no such file; .*dvc"):
        store.load(tmp_path / "x.npz", store.SPLIT)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    store.atomic_write(path, "old")

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        store.atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_up_half_way_gives_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    store.save(path, store.SPLIT, **SPLIT)
    before = path.read_bytes()
    pieces = (np.zeros((1000, 8, 8, 3), np.uint8) for _ in range(100))
    images = store.Chunks((100_000, 8, 8, 3), "uint8", pieces)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"x\.npz: no room to write it \(.* MiB free\); make some and run"):
            store.save(path, store.SPLIT, **SPLIT | {"images": images, "labels": np.zeros(100_000, np.int32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_array_written_in_pieces_is_the_array_and_its_file_the_same_bytes(tmp_path: Path) -> None:
    pieces = store.Chunks((2, 2, 2, 3), "uint8", iter([SPLIT["images"][:1], SPLIT["images"][1:]]))
    store.save(tmp_path / "a.npz", store.SPLIT, **SPLIT)
    store.save(tmp_path / "b.npz", store.SPLIT, **SPLIT | {"images": pieces})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_images_of_a_split_stay_in_the_file(tmp_path: Path) -> None:
    store.save(tmp_path / "a.npz", store.SPLIT, **SPLIT)
    images = store.load(tmp_path / "a.npz", store.SPLIT)["images"]
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(images, file["images"])


WRITER = """
import sys
from pathlib import Path
from rcig import store
with store.atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writes", flush=True)
    sys.stdin.readline()
    file.write(b" and half")
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that has written half of x.txt, and goes on when it gets a line."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "x.txt")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writes\n"
        yield process
        process.kill()


def test_what_a_killed_writer_left_is_removed_by_the_next_of_that_file(
    tmp_path: Path, writer: "subprocess.Popen[str]"
) -> None:
    writer.kill()
    writer.wait()
    (left,) = tmp_path.iterdir()
    others = {
        tmp_path / name
        for name in (".x.txt", ".x.txt.long.abcdefgh.tmp", ".x.txt.note", ".y.txt.abcdefgh.tmp", "x.txt.tmp")
    }
    for other in others:
        other.touch()
    store.atomic_write(tmp_path / "y", "another file")
    assert left.exists()
    store.atomic_write(tmp_path / "x.txt", "new")
    assert set(tmp_path.iterdir()) == {tmp_path / "x.txt", tmp_path / "y", *others}


def test_a_living_writer_is_left_alone(tmp_path: Path, writer: "subprocess.Popen[str]") -> None:
    store.atomic_write(tmp_path / "x.txt", "new")
    assert len(list(tmp_path.iterdir())) == 2
    writer.communicate("go on\n")
    assert writer.returncode == 0
    assert (tmp_path / "x.txt").read_text() == "half and half"
    assert list(tmp_path.iterdir()) == [tmp_path / "x.txt"]


def test_a_file_that_another_writer_removed_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = fcntl.flock, []

    def late(file: object, how: int) -> None:
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()
        lock(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", late)
    store.atomic_write(tmp_path / "x.txt", "new")
    assert len(removed) == 1
    assert (tmp_path / "x.txt").read_text() == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "x.txt"]


def test_a_file_system_without_locks_is_written_to_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / ".x.txt.abcdefgh.tmp").touch()
    store.atomic_write(tmp_path / "x.txt", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"x.txt", ".x.txt.abcdefgh.tmp"}
