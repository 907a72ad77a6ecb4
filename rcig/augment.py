"""Augmentation of whitened images: one random transform per image (Loo et al. 2023, appendix C), or one for all.

Pixels that come from outside the image are 0, the mean in whitened space.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

SHIFT = 1 / 8
"""largest shift of crop and translate, as a fraction of the side"""
ANGLE = 15.0
"""largest rotation in degrees"""


class Strategy(NamedTuple):
    """The transforms of which one is drawn."""

    grey: tuple[str, ...]
    """for images of one channel"""
    colour: tuple[str, ...]
    cutout: float
    """side of the square that cutout blanks, as a fraction of the image's"""
    scale: float = 1.0
    """largest factor on rows and on columns, which is at least its inverse"""


LOO2023 = Strategy(
    ("crop", "rotate", "translate", "cutout"), ("colour", "crop", "rotate", "translate", "cutout", "flip"), cutout=1 / 4
)
DSA = Strategy(
    ("colour", "crop", "cutout", "scale", "rotate"),
    ("colour", "crop", "cutout", "flip", "scale", "rotate"),
    cutout=1 / 2,
    scale=1.2,
)
"""Zhao & Bilen (2021), whose cutout may also reach over the border, and who flip half of the images that are drawn for
it"""


def augment(key: jax.Array, images: jax.Array) -> jax.Array:
    """Images (n, h, w, c) with one transform each, drawn anew for every image; flip and colour for RGB images only."""
    return jax.vmap(lambda keys, image: one(LOO2023, keys[0], keys[1], image))(
        jax.random.split(key, (len(images), 2)), images
    )


def siamese(key: jax.Array, images: jax.Array) -> jax.Array:
    """Images (n, h, w, c) with the same transform of DSA, which is a function of the key alone."""
    which_key, own_key = jax.random.split(key)
    return jax.vmap(lambda image: one(DSA, which_key, own_key, image))(images)


def one(strategy: Strategy, which_key: jax.Array, key: jax.Array, image: jax.Array) -> jax.Array:
    """One transform of one image (h, w, c): which one is drawn by the first key, its size by the second.

    All geometric ones are the same resampling with other coefficients, so that a batch of mixed transforms costs one
    resampling rather than one of each kind.
    """
    names = strategy.colour if image.shape[-1] == 3 else strategy.grey
    which = jax.random.randint(which_key, (), 0, len(names))
    warp_key, box_key, colour_key = jax.random.split(key, 3)

    def is_(name: str) -> jax.Array:
        return which == names.index(name) if name in names else jnp.asarray(False)

    side = image.shape[0]
    shift_key, angle_key = jax.random.split(warp_key)
    shift = jax.random.uniform(shift_key, (2,), minval=-SHIFT * side, maxval=SHIFT * side)
    shift = jnp.where(is_("translate"), shift, jnp.where(is_("crop"), jnp.round(shift), 0))
    angle = jnp.deg2rad(jax.random.uniform(angle_key, minval=-ANGLE, maxval=ANGLE)) * is_("rotate")
    scale = jnp.ones(2)
    if "scale" in names:
        drawn = jax.random.uniform(jax.random.fold_in(key, 0), (2,), minval=1 / strategy.scale, maxval=strategy.scale)
        scale = jnp.where(is_("scale"), drawn, scale)
    image = warp(image, angle, shift, is_("flip"), scale)
    image = jnp.where(is_("cutout"), blank_square(box_key, image, strategy.cutout), image)
    return jnp.where(is_("colour"), jitter(colour_key, image), image)


def warp(
    image: jax.Array, angle: jax.Array, shift: jax.Array, flip: jax.Array, scale: jax.Array | float = 1.0
) -> jax.Array:
    """Enlarge by `scale` (rows, columns) and rotate by `angle` (radians) about the centre, then move by `shift`.

    On `flip` it is mirrored first.
    """
    by_row, by_column = jnp.broadcast_to(scale, 2)
    height, width, _ = image.shape
    rows, columns = jnp.meshgrid(
        jnp.arange(height) - (height - 1) / 2 - shift[0], jnp.arange(width) - (width - 1) / 2 - shift[1], indexing="ij"
    )
    source_rows = (jnp.cos(angle) * rows + jnp.sin(angle) * columns) / by_row
    source_columns = (jnp.cos(angle) * columns - jnp.sin(angle) * rows) / by_column * jnp.where(flip, -1, 1)
    coordinates = [source_rows + (height - 1) / 2, source_columns + (width - 1) / 2]
    sample = lambda channel: jax.scipy.ndimage.map_coordinates(channel, coordinates, order=1, mode="constant")  # noqa: E731
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def blank_square(key: jax.Array, image: jax.Array, part: float) -> jax.Array:
    """Zero a square that lies wholly inside the image and has that part of its side."""
    side = image.shape[0]
    size = round(part * side)
    top, left = jax.random.randint(key, (2,), 0, side - size + 1)
    rows, columns = jnp.arange(side)[:, None], jnp.arange(side)[None, :]
    inside = (rows >= top) & (rows < top + size) & (columns >= left) & (columns < left + size)
    return jnp.where(inside[..., None], 0, image)


def jitter(key: jax.Array, image: jax.Array) -> jax.Array:
    """Random brightness (±0.5 in whitened units), saturation (×0 to 2) and contrast (×0.5 to 1.5), as in DSA."""
    brightness, saturation, contrast = jax.random.uniform(key, (3,))
    image = image + brightness - 0.5
    grey = image.mean(-1, keepdims=True)
    image = grey + (image - grey) * 2 * saturation
    mean = image.mean()
    return mean + (image - mean) * (contrast + 0.5)
