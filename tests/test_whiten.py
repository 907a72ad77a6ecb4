import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from rcig import whiten
from rcig.data import sources
from rcig.data.splits import Split, View
from rcig.nets import build
from rcig.train import Schedule, accuracy, adam, trainer
from rcig.train import tester as make_tester


def pictures(n: int = 300, side: int = 6, channels: int = 3) -> np.ndarray:
    """Smooth random uint8 pictures: neighbouring pixels correlate, as in photographs."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(n, side, side, channels)).cumsum(1).cumsum(2)
    return np.clip(128 + 20 * noise, 0, 255).astype(np.uint8)


@pytest.fixture
def blocks_of_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whiten, "BLOCK", 3)


KINDS: list[whiten.Kind] = ["standard", "zca", "zca_checkerboard"]


@pytest.mark.usefixtures("blocks_of_3")
@pytest.mark.parametrize("kind", KINDS)
def test_invert_undoes_apply(kind: whiten.Kind) -> None:
    images = pictures()
    whitening = whiten.fit(images, kind)
    x = whiten.apply(whitening, jnp.asarray(images))
    np.testing.assert_allclose(whiten.invert(whitening, x) * 255, images, atol=0.05)
    np.testing.assert_array_equal(whiten.to_pixels(whitening, x), images)


def test_standard_whitening_has_mean_0_and_deviation_1_per_channel() -> None:
    images = pictures()
    x = np.asarray(whiten.apply(whiten.fit(images, "standard"), jnp.asarray(images)), np.float64)
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize("examples", [300, 60])
def test_zca_is_what_it_says_about_every_direction(examples: int) -> None:
    # Against a plain numpy version; with 60 images of 108 values most directions are unseen and must stay as they are.
    images = pictures(examples)
    flat = images.reshape(examples, -1) / 255
    flat = (flat - np.tile(images.reshape(-1, 3).mean(0) / 255, 36)) / np.tile(images.reshape(-1, 3).std(0) / 255, 36)
    flat = flat - flat.mean(0)
    values, vectors = np.linalg.eigh(flat.T @ flat / examples)
    seen = values > 1e-9
    assert seen.sum() == min(108, examples - 1)
    factors = np.where(seen, (values + 0.1 * values.mean()) ** -0.5, 1.0)
    whitening = whiten.fit(images, "zca")
    x = np.asarray(whiten.apply(whitening, jnp.asarray(images)), np.float64).reshape(examples, -1)
    np.testing.assert_allclose(x, flat @ (vectors * factors) @ vectors.T, atol=2e-3)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(whitening.eigenvalues, np.where(seen, values, 0)[::-1], atol=1e-4)


@pytest.mark.usefixtures("blocks_of_3")
def test_checkerboard_whitens_every_second_row_and_column_by_the_mean_of_their_covariances() -> None:
    images = pictures()
    mean, std = images.reshape(-1, 3).mean(0), images.reshape(-1, 3).std(0)
    x = (images - mean) / std
    x = x - x.mean(0)
    blocks = [x[:, i::2, j::2].reshape(len(x), -1) for i in (0, 1) for j in (0, 1)]
    covariance = sum(block.T @ block / len(x) for block in blocks) / 4
    values, vectors = np.linalg.eigh(covariance)
    matrix = (vectors * (values + 0.1 * values.mean()) ** -0.5) @ vectors.T
    found = np.asarray(whiten.apply(whiten.fit(images, "zca_checkerboard"), jnp.asarray(images)))
    for (i, j), block in zip([(0, 0), (0, 1), (1, 0), (1, 1)], blocks, strict=True):
        np.testing.assert_allclose(found[:, i::2, j::2].reshape(len(x), -1), block @ matrix, atol=1e-3)


def test_blocks_go_back_to_where_they_came_from() -> None:
    images = pictures(4)
    blocks = whiten.to_blocks(images, 3)
    np.testing.assert_array_equal(blocks[:, 5].reshape(4, 2, 2, 3), images[:, 1::3, 2::3])
    np.testing.assert_array_equal(whiten.from_blocks(blocks, (6, 6, 3), 3), images)


@pytest.mark.usefixtures("blocks_of_3")
@pytest.mark.parametrize("kind", KINDS)
def test_the_transform_is_the_same_bits_in_any_order_and_chunk_size(
    kind: whiten.Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures()
    reference = whiten.fit(images, kind)
    for chunk, exact in ((7, 1024), (300, 11)):
        monkeypatch.setattr(whiten, "CHUNK", chunk)
        monkeypatch.setattr(whiten, "EXACT", exact)
        for other in (whiten.fit(images, kind), whiten.fit(images[::-1].copy(), kind)):
            for a, b in zip(reference, other, strict=True):
                assert a.tobytes() == b.tobytes()


THREADS = """
import hashlib, numpy as np
from test_whiten import pictures
from rcig import whiten
found = whiten.fit(pictures(900, 16), "zca")
print(hashlib.sha256(b"".join(array.tobytes() for array in found)).hexdigest())
"""


@pytest.mark.slow
def test_the_transform_is_the_same_bits_for_any_number_of_threads() -> None:
    found = set()
    for threads in ("1", "2", "3", "8"):
        variables = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        done = subprocess.run(
            [sys.executable, "-c", THREADS],
            env=os.environ | variables | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_products_of_bytes_are_added_up_exactly() -> None:
    # 255 in every pixel makes the largest sums that there can be: 1024 · 127² per product, and all of 2000 images.
    rng = np.random.default_rng(0)
    for images in (np.full((2000, 2, 2, 1), 255, np.uint8), rng.integers(0, 2, (3000, 2, 2, 1), np.uint8) * 255):
        mean, covariance, examples = whiten.block_covariance(images, 1)
        flat = images.reshape(len(images), -1).astype(object)  # Python's whole numbers
        exact = flat.T @ flat
        np.testing.assert_array_equal(mean.ravel(), flat.sum(0) / len(images))
        centred = exact / len(images) - np.outer(mean, mean)
        np.testing.assert_allclose(covariance, centred.astype(float), atol=1e-9)
        assert examples == len(images)


def test_rounding_the_transform_does_not_show_in_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(500, 12)
    rounded = whiten.apply(whiten.fit(images, "zca"), jnp.asarray(images))
    monkeypatch.setattr(whiten, "GRID", 2.0**-40)
    exact = whiten.apply(whiten.fit(images, "zca"), jnp.asarray(images))
    assert float(jnp.abs(rounded - exact).max()) < 1e-3
    assert float(jnp.sqrt(jnp.mean((rounded - exact) ** 2))) < 2e-4
    assert float(jnp.abs(rounded - exact).max()) > 0


def test_a_constant_channel_is_an_error() -> None:
    images = pictures()
    images[..., 1] = 7
    with pytest.raises(ValueError, match="channel 1 has the same value"):
        whiten.fit(images, "standard")


@pytest.mark.slow
def test_networks_learn_from_cifar10_what_they_learn_without_rounding(
    tfds_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_dir))
    if not (tfds_dir / "cifar10").exists():
        pytest.skip("cifar10 is not prepared")
    chunks = list(sources.open_dataset("cifar10", 32).train.chunks())[:6]
    images = np.concatenate([chunk.images for chunk in chunks])
    labels = np.concatenate([chunk.labels for chunk in chunks])
    net = build("conv", (32, 32, 3), 10, width=8, depth=3)
    schedule = Schedule(150, adam(20 / 150), 2e-3, 64)
    found = []
    for grid in (whiten.GRID, 2.0**-40):
        monkeypatch.setattr(whiten, "GRID", grid)
        whitening = whiten.fit(images, "zca")
        x, y = whiten.apply(whitening, images[:5000]), jax.nn.one_hot(labels[:5000], 10) - 0.1
        outputs = make_tester(net, whiten.on_device(whitening))
        held_out = View(Split(images, labels), np.arange(5000, 6000))
        found.append(accuracy(outputs(trainer(net, schedule, 4)(jax.random.key(0), x, y), held_out), held_out.labels))
    assert np.mean(found[0]) > 0.25
    # The same starts and batches: what differs is the rounding alone, far less than one start from another.
    assert abs(np.mean(found[0]) - np.mean(found[1])) < 0.02
