"""From a name to arrays, from a folder, a repository or a git address."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from workspaces import run

import rcig
from rcig import sets, store
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
