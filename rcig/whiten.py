"""Whitening of raw images: mean and standard deviation per channel, and ZCA for colour images (Loo et al. 2023, C).

Fitted on the training split only. The transform is the same bits for any order of the images, however many are read at
a time and whatever number of threads: raw pixels are bytes, whose sums and products are added up as whole numbers; the
eigenvectors come from one thread; and the result is rounded to a grid, which hides what other processors would change
in the last bits.
"""

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import eigh
from threadpoolctl import threadpool_limits

from rcig import resources
from rcig.errors import DataError

Kind = Literal["standard", "zca", "zca_checkerboard"]

ZCA_REGULARISATION = 0.1
"""times the mean eigenvalue (Loo et al. 2023, appendix C)"""
KORNIA_REGULARISATION = 0.1
"""of brightness from 0 to 1, whose covariance has a mean eigenvalue of about 0.06"""
GRID = 2.0**-16
"""of the rounded transforms"""
BLOCK = 64
"""side in pixels of the blocks of `zca_checkerboard`"""
CHUNK = 256
"""images whose products are added up at a time"""
EXACT = 1024
"""products of two bytes less 128 whose sum float32 holds exactly, in any order: 2²⁴ / 2¹⁴"""


class Whitening(NamedTuple):
    """x ↦ W ((x/255 − mean)/std − mean_image), W a (d, d) matrix for all d = h·w·c values or for each block of them.

    With `standard` whitening W, its inverse and the mean image are empty and left out. With `zca_checkerboard` the
    image is parted into (h/BLOCK)² blocks of every (h/BLOCK)-th row and column, which share one W.
    """

    mean: np.ndarray
    """(c,)"""
    std: np.ndarray
    """(c,)"""
    mean_image: np.ndarray
    """(h, w, c), after mean and std, or (0, 0, c)"""
    forward: np.ndarray
    """(d, d), symmetric"""
    inverse: np.ndarray
    """(d, d)"""
    eigenvalues: np.ndarray
    """(d,) of the covariance before whitening, largest first"""


def fit(images: np.ndarray, kind: Kind) -> Whitening:
    """The transform for uint8 images (n, h, w, c), perhaps a memory map.

    Raises DataError for a constant channel, and TooLargeError where memory is too small for the matrix of `kind`.
    """
    channels = images.shape[-1]
    mean, std = channel_statistics(images)
    if not std.all():
        raise DataError(f"channel {int(std.argmin())} has the same value in every training image; nothing to whiten")
    none = np.zeros((0, 0), np.float32)
    mean_image, forward, inverse, eigenvalues = np.zeros((0, 0, channels)), none, none, none.ravel()
    if kind != "standard":
        stride = images.shape[1] // BLOCK if kind == "zca_checkerboard" else 1
        # The covariance and what its eigenvectors need.
        needed = 3 * 8 * (images[0].size // stride**2) ** 2
        resources.refuse(f"whitening {kind}", "resolution, or take another whitening", needed, resources.on_host())
        mean_image, covariance, examples = block_covariance(images, stride)
        mean_image = (mean_image - mean) / std
        scale = np.tile(std, len(covariance) // channels)
        covariance /= scale
        covariance /= scale[:, None]
        ridge = ZCA_REGULARISATION * np.trace(covariance) / len(covariance)
        rank = min(len(covariance), examples - stride**2)
        forward, inverse, eigenvalues = zca_transform(covariance, ridge, rank)
    numbers = (mean / 255, std / 255, mean_image, forward, inverse, eigenvalues)
    return Whitening(*(number.astype(np.float32, copy=False) for number in numbers))


def fit_kornia(images: np.ndarray) -> Whitening:
    """ZCA as MTT, DATM and most of their successors have it of the library Kornia, for uint8 images (n, h, w, c).

    Brightness from 0 to 1, not normalised before, less the mean image, times (Σ + 0.1 I)^(−1/2); Σ is divided by n − 1.
    Raises DataError for one image alone, and TooLargeError where memory is too small for the matrix.
    """
    if len(images) < 2:
        raise DataError("one image alone has no covariance; nothing to whiten")
    needed = 3 * 8 * images[0].size ** 2
    resources.refuse("whitening kornia_zca", "resolution, or take another space", needed, resources.on_host())
    mean_image, covariance, count = block_covariance(images, 1)
    covariance *= count / (count - 1) / 255**2
    forward, inverse, eigenvalues = zca_transform(covariance, KORNIA_REGULARISATION, len(covariance))
    channels = images.shape[-1]
    numbers = (np.zeros(channels), np.ones(channels), mean_image / 255, forward, inverse, eigenvalues)
    return Whitening(*(number.astype(np.float32, copy=False) for number in numbers))


def channels_alone(mean: np.ndarray | Sequence[float], std: np.ndarray | Sequence[float]) -> Whitening:
    """The transform by this mean and deviation of brightness, (c,) each."""
    none = np.zeros((0, 0), np.float32)
    empty = np.zeros((0, 0, len(mean)), np.float32)
    return Whitening(np.asarray(mean, np.float32), np.asarray(std, np.float32), empty, none, none, none.ravel())


def kind_of(whitening: Whitening) -> str:
    """What `fit` was asked for, by the sizes of its parts: of 64 pixels, where two kinds are one, `zca`."""
    values, block = whitening.mean_image.size, BLOCK**2 * len(whitening.mean)
    return {block: "zca_checkerboard", values: "zca", 0: "standard"}.get(len(whitening.forward), "of no kind")


def fits(whitening: Whitening, kind: Kind, shape: tuple[int, int, int]) -> bool:
    """Whether it is of that kind and for images of that shape (h, w, c): the sizes of its parts say so."""
    height, width, channels = shape
    image = (0, 0, channels) if kind == "standard" else shape
    size = {"standard": 0, "zca": height * width * channels, "zca_checkerboard": BLOCK**2 * channels}[kind]
    return (whitening.mean.shape, whitening.mean_image.shape, len(whitening.forward)) == ((channels,), image, size)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel (c,), from exact counts of every value."""
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), CHUNK):
        part = images[start : start + CHUNK]
        counts += [np.bincount(part[..., c].ravel(), minlength=256) for c in range(len(counts))]
    values, number = np.arange(256), counts[0].sum()
    mean = counts @ values / number
    return mean, np.sqrt(counts @ values**2 / number - mean**2)


def block_covariance(images: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean image (h, w, c); covariance (d, d) of the blocks about it, the mean over the blocks of an image; n·blocks.

    `stride` 1 makes one block of the whole image.
    """
    blocks, size = stride**2, images[0].size // stride**2
    total = np.zeros((blocks, size), np.int64)
    moment = np.zeros((size, size))
    for start in range(0, len(images), CHUNK):
        part = to_blocks(images[start : start + CHUNK].astype(np.float32) - 128, stride)
        total += part.sum(0, dtype=np.int64)
        rows = part.reshape(-1, size)
        for first in range(0, len(rows), EXACT):
            some = rows[first : first + EXACT]
            moment += some.T @ some
    mean = total / len(images)
    moment /= len(images) * blocks
    # By rows, as a second matrix of this size may not fit into memory.
    for i, row in enumerate(moment):
        row -= (mean[:, i : i + 1] * mean).sum(0) / blocks
    return from_blocks(mean[None] + 128, images.shape[1:], stride)[0], moment, len(images) * blocks


def zca_transform(covariance: np.ndarray, ridge: float, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Σ + εI)^(−1/2), its inverse and the eigenvalues, with the ridge ε. Uses up `covariance`.

    Directions beyond the `rank` that the number of examples allows are left as they are: nothing is known of them.
    """
    with threadpool_limits(1, "blas"):
        values, vectors = eigh(covariance.T, driver="evd", overwrite_a=True, check_finite=False)
        del covariance
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        scale = np.sqrt(values + ridge)
        scale[rank:] = 1
        forward, inverse = (_from_eigenvectors(vectors, scaled) for scaled in (1 / scale, scale))
    return forward, inverse, _rounded(values)


def _from_eigenvectors(vectors: np.ndarray, values: np.ndarray) -> np.ndarray:
    """V diag(values) Vᵀ, rounded: the lower triangle by rows, and its mirror image."""
    size, rows = len(vectors), 512
    matrix = np.empty((size, size), np.float32)
    for start in range(0, size, rows):
        end = min(start + rows, size)
        matrix[start:end, :end] = _rounded((vectors[start:end] * values) @ vectors[:end].T)
        matrix[:start, start:end] = matrix[start:end, :start].T
        square = matrix[start:end, start:end]
        square[:] = np.tril(square) + np.tril(square, -1).T
    return matrix


def _rounded(array: np.ndarray) -> np.ndarray:
    return (np.round(array / GRID) * GRID).astype(np.float32)


def to_blocks(images, stride: int):  # type: ignore[no-untyped-def]
    """(n, h, w, c) -> (n, stride², d): block (p, q) has rows p, p + stride, … and columns q, q + stride, …"""
    n, height, width, channels = images.shape
    parted = images.reshape(n, height // stride, stride, width // stride, stride, channels)
    return parted.transpose(0, 2, 4, 1, 3, 5).reshape(n, stride**2, -1)


def from_blocks(blocks, shape: tuple[int, ...], stride: int):  # type: ignore[no-untyped-def]
    """The inverse of `to_blocks` for images of shape (h, w, c)."""
    height, width, channels = shape
    parted = blocks.reshape(-1, stride, stride, height // stride, width // stride, channels)
    return parted.transpose(0, 3, 1, 4, 2, 5).reshape(-1, *shape)


def apply(whitening: Whitening, images: jax.Array | np.ndarray) -> jax.Array:
    """uint8 images (n, h, w, c) -> whitened float32 of the same shape."""
    x = (jnp.asarray(images) / jnp.float32(255) - whitening.mean) / whitening.std
    return _times(whitening.forward, x - whitening.mean_image) if whitening.forward.size else x


def on_device(whitening: Whitening, sharding: Any = None) -> Callable[[np.ndarray | jax.Array], jax.Array]:
    """`apply` with this whitening, compiled. Its large matrix lies on the device, not in the compiled program."""
    unused = {"inverse": whitening.inverse[:0, :0], "eigenvalues": whitening.eigenvalues[:0]}
    arrays = jax.device_put(whitening._replace(**unused), sharding)
    compiled = jax.jit(apply, out_shardings=sharding)
    return lambda images: compiled(arrays, images)


def invert(whitening: Whitening, x: jax.Array | np.ndarray) -> jax.Array:
    """Whitened images (n, h, w, c) -> brightness from 0 to 1 (outside where no real image would be)."""
    x = _times(whitening.inverse, x) + whitening.mean_image if whitening.inverse.size else jnp.asarray(x)
    return x * whitening.std + whitening.mean


def is_brightness(x: np.ndarray) -> bool:
    """Whether all values are from 0 to 1, but for a step of rounding."""
    return bool(x.min() > -1 / 255 and x.max() < 1 + 1 / 255)


def never_whitened(whitening: Whitening, x: np.ndarray, ridge: float | None = None) -> str | None:
    """Why images (n, h, w, c) cannot be whitened ones, or None. `ridge`: of a whitening that is not one of `fit`.

    Two things are refused, whatever the scale of the images, which may drift far while they are learned:

    - No value is negative, as of brightness and of bytes. Whitened images are about a mean of 0, so every pixel of
      every image would be brighter than the average one.
    - They are smooth as images are before ZCA, of mean and deviation alone. With eigenvalues λ of the covariance and
      the ridge ε, ‖W⁻¹x‖²/‖x‖² is Σλ(λ+ε)/Σλ on average for those, and Σλ/Σ(λ/(λ+ε)) for whitened ones: 325 and 4 for
      CIFAR-10. The bound is their geometric mean, 37. Sets of ten real images, whitened, have 2 to 9, before it 107 to
      550; learned ones have 4 to 20, since what is learned is less smooth than images are, and noise alone has 1.1.
      Images whose pixels are brightness from 0 to 1, when W is undone, pass in any case: no real image is refused.
    """
    if x.min() >= 0:
        return f"no value is negative (from {x.min():g} to {x.max():g}), and whitened images are about 0"
    if not whitening.forward.size:
        return None
    values = whitening.eigenvalues.astype(float)
    ridge = ZCA_REGULARISATION * values.mean() if ridge is None else ridge
    before = (values * (values + ridge)).sum() / values.sum()
    after = values.sum() / (values / (values + ridge)).sum()
    undone = np.asarray(_times(whitening.inverse, x), float)
    ratio = (undone**2).sum() / (x.astype(float) ** 2).sum()
    if is_brightness(np.asarray(invert(whitening, x))) or ratio < np.sqrt(before * after):
        return None
    return (
        f"they are as smooth as images of mean and deviation alone (‖W⁻¹x‖²/‖x‖² is {ratio:.0f}, of whitened images"
        f" about {after:.0f}, before it {before:.0f})"
    )


def to_pixels(whitening: Whitening, x: jax.Array | np.ndarray) -> np.ndarray:
    """Whitened images -> uint8, clipped, for people."""
    return np.asarray(jnp.clip(jnp.round(invert(whitening, x) * 255), 0, 255).astype(jnp.uint8))


def _times(matrix: np.ndarray, x: jax.Array | np.ndarray) -> jax.Array:
    stride = isqrt(x[0].size // len(matrix))
    # Symmetric, so the side of the product is free. In full float32 on every device.
    white = jnp.matmul(to_blocks(jnp.asarray(x), stride), matrix, precision=jax.lax.Precision.HIGHEST)
    return from_blocks(white, x.shape[1:], stride)
