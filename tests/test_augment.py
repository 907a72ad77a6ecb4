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
    blank = np.asarray(augment.blank_square(jax.random.key(1), jnp.ones((16, 16, 1)), 1 / 4))[..., 0] == 0
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


def reference(names: tuple[str, ...], which: int, key: jax.Array, image: np.ndarray) -> np.ndarray:
    """One transform of one image, written with SciPy and loops from the same random numbers."""
    side, channels = image.shape[0], image.shape[2]
    warp_key, box_key, colour_key = jax.random.split(key, 3)
    shift_key, angle_key = jax.random.split(warp_key)
    limit = augment.SHIFT * side
    shift = [float(value) for value in jax.random.uniform(shift_key, (2,), minval=-limit, maxval=limit)]
    name = names[which]
    if name == "flip":
        return image[:, ::-1]
    if name in ("crop", "translate"):
        moves = [round(value) for value in shift] if name == "crop" else shift
        return ndimage.shift(image, [*moves, 0], order=1, mode="constant")
    if name == "rotate":
        angle = float(jax.random.uniform(angle_key, minval=-augment.ANGLE, maxval=augment.ANGLE))
        return ndimage.rotate(image, angle, reshape=False, order=1, mode="constant")
    out = image.copy()
    if name == "cutout":
        size = round(augment.LOO2023.cutout * side)
        top, left = (int(value) for value in jax.random.randint(box_key, (2,), 0, side - size + 1))
        for row in range(top, top + size):
            for column in range(left, left + size):
                out[row, column] = 0
        return out
    brightness, saturation, contrast = (float(value) for value in jax.random.uniform(colour_key, (3,)))
    out += brightness - 0.5
    for row in range(side):
        for column in range(side):
            grey = sum(out[row, column]) / channels
            out[row, column] = [grey + (value - grey) * 2 * saturation for value in out[row, column]]
    mean = out.mean()
    return mean + (out - mean) * (contrast + 0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_what_a_loop_over_its_images_gives(channels: int) -> None:
    count, key = 60, jax.random.key(5)
    images = np.asarray(jax.random.normal(jax.random.key(6), (count, 16, 16, channels)), np.float64)
    names = augment.LOO2023.colour if channels == 3 else augment.LOO2023.grey
    found = np.asarray(jax.jit(augment.augment)(key, jnp.asarray(images, jnp.float32)))
    seen = set()
    for image, out, keys in zip(images, found, jax.random.split(key, (count, 2)), strict=True):
        which = int(jax.random.randint(keys[0], (), 0, len(names)))
        seen.add(names[which])
        expected = reference(names, which, keys[1], image)
        # SciPy and JAX differ in what lies half outside the image.
        inner = slice(3, -3) if names[which] in ("rotate", "translate") else slice(None)
        np.testing.assert_allclose(out[inner, inner], expected[inner, inner], atol=1e-3, err_msg=names[which])
    assert seen == set(names)
