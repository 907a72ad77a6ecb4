import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from rcig import augment

IMAGE = jax.random.normal(jax.random.key(0), (16, 16, 3))


def test_no_motion_leaves_the_image_as_it_is() -> None:
    moved = augment.warp(IMAGE, jnp.float32(0), jnp.zeros(2), jnp.asarray(False))
    np.testing.assert_allclose(moved, IMAGE, atol=1e-5)


def test_a_shift_by_whole_pixels_moves_rows_and_columns_and_fills_with_zero() -> None:
    moved = np.asarray(augment.warp(IMAGE, jnp.float32(0), jnp.array([2.0, -1.0]), jnp.asarray(False)))
    np.testing.assert_allclose(moved[2:, :-1], IMAGE[:-2, 1:], atol=1e-5)
    assert (moved[:2] == 0).all()
    assert (moved[:, -1] == 0).all()


def test_flip_mirrors_and_twice_is_the_identity() -> None:
    once = augment.warp(IMAGE, jnp.float32(0), jnp.zeros(2), jnp.asarray(True))
    np.testing.assert_allclose(once, IMAGE[:, ::-1], atol=1e-5)


@pytest.mark.parametrize("degrees", [90.0, 10.0])
def test_rotation_is_scipys(degrees: float) -> None:
    rotated = augment.warp(IMAGE, jnp.deg2rad(degrees), jnp.zeros(2), jnp.asarray(False))
    expected = ndimage.rotate(np.asarray(IMAGE), degrees, reshape=False, order=1, mode="constant")
    np.testing.assert_allclose(rotated[3:-3, 3:-3], expected[3:-3, 3:-3], atol=1e-4)


def test_cutout_blanks_one_square_of_a_quarter_of_the_side() -> None:
    blank = np.asarray(augment.blank_square(jax.random.key(1), jnp.ones((16, 16, 1))))[..., 0] == 0
    rows, columns = np.flatnonzero(blank.any(1)), np.flatnonzero(blank.any(0))
    assert len(rows) == len(columns) == 4
    assert blank.sum() == 16


def test_every_image_gets_one_transform_of_its_own_and_the_key_fixes_it() -> None:
    images = jnp.broadcast_to(IMAGE, (64, 16, 16, 3))
    run = jax.jit(augment.augment)
    first = np.asarray(run(jax.random.key(2), images))
    np.testing.assert_array_equal(first, run(jax.random.key(2), images))
    assert len({image.tobytes() for image in first}) > 32
    # A flip is in the list of RGB images only; with 64 draws of 6 it comes up (but for a chance of 1e-5).
    flipped = [np.allclose(image, IMAGE[:, ::-1], atol=1e-5) for image in first]
    assert any(flipped)


def test_grey_images_keep_their_grey_level_and_are_never_mirrored() -> None:
    image = jnp.abs(IMAGE[..., :1])
    out = np.asarray(jax.jit(augment.augment)(jax.random.key(3), jnp.broadcast_to(image, (64, 16, 16, 1))))
    assert out.min() >= -1e-5  # brightness would reach below 0
    assert not any(np.allclose(one, image[:, ::-1], atol=1e-5) for one in out)
