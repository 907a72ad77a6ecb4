"""Sets that another tool has made: every accepted form is the same set, and what is wrong is named."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from rcig.distill import Distilled
from rcig.distill.given import load_external
from rcig.params import ExternalParams, ParamsError
from ruamel.yaml import YAML

from rcig import params, whiten

rng = np.random.default_rng(0)
REAL = rng.integers(0, 256, (200, 6, 6, 3), dtype=np.uint8)
WHITENING = whiten.fit(REAL, "zca")
PIXELS, CLASSES = REAL[:4], np.array([0, 1, 0, 1])
HARD = np.eye(2)[CLASSES]


def load(tmp_path: Path, images: np.ndarray, labels: np.ndarray, whitened: bool = False, **changes: str) -> Distilled:
    path = tmp_path / "set.npz"
    np.savez(path, images=images, labels=labels)
    known = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} | changes
    return load_external(ExternalParams(**known, whitened=whitened), WHITENING, (6, 6, 3), 4, 2)


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
    settings = ExternalParams(str(path), hashlib.sha256(b"x").hexdigest(), False)
    with pytest.raises(ParamsError, match=r"set\.pt: reading it needs PyTorch; install torch, or save it as \.npz"):
        load_external(settings, WHITENING, (6, 6, 3), 4, 2)


def test_a_torch_file_is_that_of_numpy(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "set.pt"
    channels_first = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2))
    torch.save({"images": torch.from_numpy(channels_first), "labels": torch.from_numpy(CLASSES)}, path)
    settings = ExternalParams(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), False)
    found, expected = load_external(settings, WHITENING, (6, 6, 3), 4, 2), load(tmp_path, PIXELS, CLASSES)
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
        (PIXELS, CLASSES, {"sha256": "0" * 64}, "its sha256 is .*, not 000.*; correct it if the file is right"),
        (PIXELS, CLASSES, {"path": "nowhere.npz"}, "nowhere.npz: No such file or directory; correct path"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        load(tmp_path, images, labels, **changes)


def test_a_set_made_elsewhere_has_one_seed() -> None:
    raw = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    settings = {"path": "set.npz", "sha256": "0" * 64, "whitened": False}
    entry = raw["experiments"]["mnist_sample-ipc1-rcig"] | {"method": "external", "settings": settings}
    sections = {"datasets": raw["datasets"], "full_dataset": {}, "studies": {}}
    assert params.parse_params(sections | {"experiments": {"x": entry}}).experiments["x"].seeds == (0,)
    with pytest.raises(ParamsError, match=r"x\.seeds: a set made elsewhere is one set, got \[0, 1\]; give one seed"):
        params.parse_params(sections | {"experiments": {"x": entry | {"seeds": [0, 1]}}})


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.write_text("a picture of a cat")
    settings = ExternalParams(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), False)
    with pytest.raises(ParamsError, match=r"expected a \.npz or \.pt with images and labels"):
        load_external(settings, WHITENING, (6, 6, 3), 4, 2)
