import jax.numpy as jnp
import numpy as np
import pytest

from rcig import whiten


def pictures(n: int = 300, side: int = 6, channels: int = 3) -> np.ndarray:
    """Smooth random uint8 pictures: neighbouring pixels correlate, as in photographs."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(n, side, side, channels)).cumsum(1).cumsum(2)
    return np.clip(128 + 20 * noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("zca", [False, True])
def test_invert_undoes_apply(zca: bool) -> None:
    images = pictures()
    whitening = whiten.fit(images, zca)
    x = whiten.apply(whitening, jnp.asarray(images))
    np.testing.assert_allclose(whiten.invert(whitening, x) * 255, images, atol=0.05)
    np.testing.assert_array_equal(whiten.to_pixels(whitening, x), images)


def test_standard_whitening_has_mean_0_and_deviation_1_per_channel() -> None:
    images = pictures()
    x = np.asarray(whiten.apply(whiten.fit(images, zca=False), jnp.asarray(images)), np.float64)
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-5)


def test_zca_covariance_is_the_shrunk_identity() -> None:
    images = pictures()
    flat = images.reshape(len(images), -1) / 255.0
    std = np.tile(images.reshape(-1, 3).std(0) / 255, 36)
    values, vectors = np.linalg.eigh(np.cov((flat / std).T, bias=True))
    shrunk = values / (values + 0.1 * values.mean())
    x = np.asarray(whiten.apply(whiten.fit(images, zca=True), jnp.asarray(images)), np.float64).reshape(len(images), -1)
    np.testing.assert_allclose(np.cov(x.T, bias=True), (vectors * shrunk) @ vectors.T, atol=5e-3)


def test_the_transform_is_the_same_bits_in_any_order_and_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures()
    reference = whiten.fit(images, zca=True)
    monkeypatch.setattr(whiten, "CHUNK", 7)
    for other in (whiten.fit(images, zca=True), whiten.fit(images[::-1].copy(), zca=True)):
        for a, b in zip(reference, other, strict=True):
            assert a.tobytes() == b.tobytes()


def test_moments_are_exact_whole_numbers() -> None:
    images = np.full((5000, 2, 2, 1), 255, np.uint8)
    total, moment = whiten.moments(images, products=True)
    assert (total == 5000 * 255).all()
    assert (moment == 5000 * 255**2).all()


def test_a_constant_channel_is_an_error() -> None:
    images = pictures()
    images[..., 1] = 7
    with pytest.raises(ValueError, match="channel 1 has the same value"):
        whiten.fit(images, zca=False)
