"""The augmentation of DSA (Zhao & Bilen 2021), with which DM, MTT, DATM, IDC and others judge their sets.

One kind of transform is drawn for a whole batch, and its strength for each image. Images (n, h, w, c) are about 0, and
pixels from outside of them are 0. Grey images are not mirrored, as digits are not: DSA mirrors those of Fashion-MNIST.
`crop_and_flip`, which is that of RDED, mirrors all images.
"""

import jax
import jax.numpy as jnp

from rcig.augment import jitter

KINDS = ("colour", "crop", "cutout", "scale", "rotate", "flip")
WARPS = ("crop", "scale", "rotate")
SHIFT = 1 / 8
"""largest shift, as a fraction of the side"""
SCALE = 1.2
"""sides are scaled by this at most, and by its inverse at least; each side on its own"""
ANGLE = 15.0
"""largest rotation in degrees"""
CUTOUT = 1 / 2
"""side of the square that is blanked, as a fraction of the image's; its centre is anywhere, so part may lie outside"""


def augment(key: jax.Array, images: jax.Array) -> jax.Array:
    """The images with one kind of transform."""
    kinds = KINDS if images.shape[-1] > 1 else KINDS[:-1]
    kind_key, key = jax.random.split(key)
    which = jax.random.randint(kind_key, (), 0, len(kinds))
    return _transformed(key, images, {kind: which == i for i, kind in enumerate(kinds)})


def siamese(key: jax.Array, images: jax.Array) -> jax.Array:
    """The images, each with the same transform of the same strength, which are a function of the key alone."""
    return jax.vmap(lambda image: augment(key, image[None])[0])(images)


def augment_uncut(key: jax.Array, images: jax.Array) -> jax.Array:
    """As IDC has it beside CutMix: colours always, mirrored or not, and one of crop, scale and rotation."""
    kind_key, key = jax.random.split(key)
    which = jax.random.randint(kind_key, (), 0, len(WARPS))
    always = {"colour": True, "flip": images.shape[-1] > 1}
    return _transformed(key, images, {kind: which == i for i, kind in enumerate(WARPS)} | always)


def crop_and_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """As RDED has it: a random quarter of each image at least, scaled to the whole, mirrored or not."""

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        flip_key, area_key, aspect_key, place_key = jax.random.split(key, 4)
        aspect = jnp.exp(jax.random.uniform(aspect_key, minval=-1, maxval=1) * jnp.log(4 / 3))
        sides = jnp.sqrt(jax.random.uniform(area_key, minval=1 / 4) * jnp.array([aspect, 1 / aspect])).clip(max=1)
        shift = jax.random.uniform(place_key, (2,), minval=-1) * (1 - sides) * (image.shape[0] - 1) / 2
        mirror = jnp.where(jax.random.bernoulli(flip_key), jnp.array([1, -1]), 1)
        return resampled(image, jnp.diag(sides * mirror), shift)

    return jax.vmap(one)(jax.random.split(key, len(images)), images)


def _transformed(key: jax.Array, images: jax.Array, kinds: dict[str, jax.Array | bool]) -> jax.Array:
    """The images by the transforms that are switched on. Every geometric one is the same resampling."""
    on = {kind: jnp.asarray(kinds.get(kind, False)) for kind in KINDS}

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        flip_key, colour_key, warp_key, box_key = jax.random.split(key, 4)
        mirrored = on["flip"] & jax.random.bernoulli(flip_key)
        image = jnp.where(mirrored, image[:, ::-1], image)
        image = jnp.where(on["colour"], jitter(colour_key, image), image)
        image = resampled(image, *_coefficients(warp_key, image.shape[0], on))
        return jnp.where(on["cutout"], _blanked(box_key, image), image)

    return jax.vmap(one)(jax.random.split(key, len(images)), images)


def _coefficients(key: jax.Array, side: int, on: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Matrix (2, 2) and shift (2,) of rows and columns: those that change nothing where no warp is on."""
    shift_key, scale_key, angle_key = jax.random.split(key, 3)
    most = int(side * SHIFT + 0.5)
    shift = jax.random.randint(shift_key, (2,), -most, most + 1) * on["crop"]
    scale = jnp.where(on["scale"], jax.random.uniform(scale_key, (2,), minval=1 / SCALE, maxval=SCALE), 1)
    angle = jnp.deg2rad(jax.random.uniform(angle_key, minval=-ANGLE, maxval=ANGLE)) * on["rotate"]
    turn = jnp.array([[jnp.cos(angle), jnp.sin(angle)], [-jnp.sin(angle), jnp.cos(angle)]])
    return turn * scale[:, None], shift.astype(float)


def resampled(image: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    """The image (h, w, c) whose pixel at p from the centre is that of the given one at matrix · p + shift, bilinear."""
    middle = (jnp.array(image.shape[:2]) - 1) / 2
    places = jnp.stack(jnp.meshgrid(*(jnp.arange(size) for size in image.shape[:2]), indexing="ij"))
    source = jnp.tensordot(matrix, places - middle[:, None, None], 1) + (middle + shift)[:, None, None]
    sample = lambda channel: jax.scipy.ndimage.map_coordinates(channel, list(source), order=1, mode="constant")  # noqa: E731
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def _blanked(key: jax.Array, image: jax.Array) -> jax.Array:
    side = image.shape[0]
    size = int(side * CUTOUT + 0.5)
    first = jax.random.randint(key, (2,), 0, side + 1 - size % 2) - size // 2
    rows, columns = (
        (place >= start) & (place < start + size) for place, start in zip(2 * (jnp.arange(side),), first, strict=True)
    )
    return jnp.where((rows[:, None] & columns)[..., None], 0, image)
