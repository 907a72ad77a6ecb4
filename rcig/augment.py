"""Augmentation of whitened images: one random transform per image (Loo et al. 2023, appendix C).

Pixels that come from outside the image are 0, the mean in whitened space.
"""

import jax
import jax.numpy as jnp

SHIFT = 1 / 8
"""largest shift of crop and translate, as a fraction of the side"""
ANGLE = 15.0
"""largest rotation in degrees"""
CUTOUT = 1 / 4
"""side of the square that cutout blanks, as a fraction of the image's"""

GREY = ("crop", "rotate", "translate", "cutout")
COLOUR = ("colour", "crop", "rotate", "translate", "cutout", "flip")


def augment(key: jax.Array, images: jax.Array) -> jax.Array:
    """Images (n, h, w, c) with one transform each, drawn anew for every image; flip and colour for RGB images only."""
    names = COLOUR if images.shape[-1] == 3 else GREY
    keys = jax.random.split(key, (len(images), 2))
    which = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(names)))(keys[:, 0])
    return jax.vmap(lambda i, key, image: one(names, i, key, image))(which, keys[:, 1], images)


def one(names: tuple[str, ...], which: jax.Array, key: jax.Array, image: jax.Array) -> jax.Array:
    """The transform names[which] of one image (h, w, c).

    All geometric ones are the same resampling with other coefficients, so that a batch of mixed transforms costs one
    resampling rather than one of each kind.
    """
    warp_key, box_key, colour_key = jax.random.split(key, 3)

    def is_(name: str) -> jax.Array:
        return which == names.index(name) if name in names else jnp.asarray(False)

    side = image.shape[0]
    shift_key, angle_key = jax.random.split(warp_key)
    shift = jax.random.uniform(shift_key, (2,), minval=-SHIFT * side, maxval=SHIFT * side)
    shift = jnp.where(is_("translate"), shift, jnp.where(is_("crop"), jnp.round(shift), 0))
    angle = jnp.deg2rad(jax.random.uniform(angle_key, minval=-ANGLE, maxval=ANGLE)) * is_("rotate")
    image = warp(image, angle, shift, is_("flip"))
    image = jnp.where(is_("cutout"), blank_square(box_key, image), image)
    return jnp.where(is_("colour"), jitter(colour_key, image), image)


def warp(image: jax.Array, angle: jax.Array, shift: jax.Array, flip: jax.Array) -> jax.Array:
    """Rotate by `angle` (radians) about the centre, then move by `shift` (rows, columns); mirrored first on `flip`."""
    height, width, _ = image.shape
    rows, columns = jnp.meshgrid(
        jnp.arange(height) - (height - 1) / 2 - shift[0], jnp.arange(width) - (width - 1) / 2 - shift[1], indexing="ij"
    )
    source_rows = jnp.cos(angle) * rows + jnp.sin(angle) * columns
    source_columns = (jnp.cos(angle) * columns - jnp.sin(angle) * rows) * jnp.where(flip, -1, 1)
    coordinates = [source_rows + (height - 1) / 2, source_columns + (width - 1) / 2]
    sample = lambda channel: jax.scipy.ndimage.map_coordinates(channel, coordinates, order=1, mode="constant")  # noqa: E731
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def blank_square(key: jax.Array, image: jax.Array) -> jax.Array:
    """Zero a square that lies wholly inside the image."""
    side = image.shape[0]
    size = round(CUTOUT * side)
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
